"""The chart: how helm renders it, and its schema of the settings: ``python -m tests.helm`` writes it."""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from exporter.settings import FOREIGN_POLL_INTERVAL, Settings, rows
from tests.tools import CACHE, ROOT, call, lacking, tool

CHART = ROOT / "deploy/helm/anthropic-exporter"
SCHEMA = CHART / "values.schema.json"
CASES = sorted((CHART / "ci").glob("*-values.yaml"))
THE_CHARTS_OWN = {"config", "demo", "state", "prices", "web.listen_address", "web.config_file"}
"""Settings, and sections of them, that the chart makes itself or that have no use in Kubernetes."""

SCHEMAS = CACHE / "node_modules/@kubernetes-models/prometheus-operator"
VALIDATOR = """
import { readFileSync } from "node:fs";
const [schemas, file] = process.argv.slice(1);
const prefix = "ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1";

// These validators let unknown keys pass, but they never look at them.
function watched(value, path, unread) {
  if (value === null || typeof value !== "object") return value;
  const keys = new Map(Object.entries(value).map(([key, inner]) => [key, watched(inner, `${path}.${key}`, unread)]));
  for (const key of keys.keys()) unread.add(`${path}.${key}`);
  return new Proxy(value, {
    get(target, key) {
      unread.delete(`${path}.${String(key)}`);
      return keys.has(key) ? keys.get(key) : Reflect.get(target, key);
    },
  });
}

for (const object of JSON.parse(readFileSync(file, "utf-8"))) {
  const { validate } = await import(`${schemas}/_schemas/${prefix}${object.kind}.js`);
  const unread = new Set();
  if (!validate(watched(object, object.kind, unread))) {
    for (const error of validate.errors) console.log(`${object.kind}${error.instancePath}: ${error.keyword}`);
  }
  for (const path of unread) console.log(`${path}: no such key`);
}
"""

Object = dict[str, Any]


def helm(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return call(tool("helm"), *arguments)


def template(*arguments: str | Path, release: str = "acme", chart: Path = CHART) -> list[Object]:
    """Return the objects of a release."""
    done = helm("template", release, chart, "--namespace", "billing", *arguments)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@cache
def case(values: Path) -> Sequence[Object]:
    """Return the objects of a release with these values; do not change them."""
    return template("-f", values)


def of_kind(objects: Iterable[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def only(objects: Iterable[Object], kind: str) -> Object:
    (found,) = of_kind(objects, kind)
    return found


def pods(objects: Iterable[Object]) -> Iterator[Object]:
    """Yield what each pod is made from, those of ``helm test`` last: check and ready."""
    yield from (found["spec"]["template"] for found in of_kind(objects, "Deployment"))
    yield from of_kind(objects, "Pod")


def problems_for_the_operator(objects: Iterable[Object]) -> list[str]:
    """Return what is wrong with ServiceMonitors and PrometheusRules, unknown keys included."""
    node = tool("node")
    if not SCHEMAS.is_dir():
        lacking(f"no {SCHEMAS.name}; .ci/packaging installs it on Debian 12")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(list(objects), file)
        file.flush()
        command = [str(node), "--input-type=module", "-e", VALIDATOR, str(SCHEMAS), file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def settable() -> list[str]:
    """Return the names of the settings that an operator sets in Kubernetes."""
    names = [row.name for row in rows()]
    return [name for name in names if THE_CHARTS_OWN.isdisjoint({name, name.partition(".")[0]})]


def settings_schema() -> Object:
    """Return what ``settings`` may hold, from the exporter's own model."""
    sections: dict[str, Object] = {}
    for name in settable():
        section, _, key = name.partition(".")
        model = Settings.model_fields[section].annotation
        known = model.model_json_schema()  # type: ignore[union-attr]
        entry = sections.setdefault(section, _closed(known["description"]))
        entry["properties"][key] = _in_a_cluster(key, _plain(known["properties"][key]))
    return _closed("the exporter's settings, as in its TOML file") | {"properties": sections}


def rendered_schema(text: str) -> str:
    """Return the text of the schema with the settings as they should be."""
    schema = json.loads(text)
    schema["properties"]["settings"] = settings_schema()
    return json.dumps(schema, indent=2) + "\n"


def _closed(description: str) -> Object:
    return {"type": "object", "description": description, "additionalProperties": False, "properties": {}}


def _plain(schema: Mapping[str, Any]) -> Object:
    """Return pydantic's schema of a setting with one type, which is the TOML file's."""
    first = schema.get("anyOf", [{}])[0]
    plain = {name: value for name, value in {**schema, **first}.items() if name not in {"anyOf", "title"}}
    if plain.get("default") is None:
        plain.pop("default", None)
    if isinstance(plain.get("additionalProperties"), dict):
        plain["additionalProperties"] = _plain(plain["additionalProperties"])
    if plain.get("format") == "date":
        plain["pattern"] = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
    return plain


def _in_a_cluster(key: str, schema: Object) -> Object:
    """Narrow what is wider for an API on loopback only."""
    if key.endswith("poll_interval"):
        return schema | {"minimum": FOREIGN_POLL_INTERVAL}
    return schema | {"pattern": "^https://"} if key == "base_url" else schema


if __name__ == "__main__":
    SCHEMA.write_text(rendered_schema(SCHEMA.read_text()))
