"""The chart, as helm renders it; no cluster has seen it."""

import base64
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from exporter import PROGRAM, __version__
from exporter.cli import USAGE
from exporter.heartbeat import LIMIT
from exporter.pricefiles import override, shipped
from exporter.settings import Settings, load, rows
from exporter.settings.values import parse_listen_address
from exporter.web.config import Door
from exporter.web.pages import Page, ready, text
from exporter.web.server import Server
from tests import rules
from tests.certificates import Authority
from tests.helm import (
    CASES,
    CHART,
    SCHEMA,
    Object,
    case,
    helm,
    of_kind,
    only,
    pods,
    problems_for_the_operator,
    rendered_schema,
    settable,
    settings_schema,
    template,
)
from tests.tools import ROOT, call, linter

EVERYTHING = CHART / "ci/everything-values.yaml"
MINIMAL = CHART / "ci/existing-secret-values.yaml"
TRIAL = CHART / "ci/trial-values.yaml"
SECRETS = CHART / "ci/secrets-values.yaml"
MOUNTED = "/etc/anthropic-exporter/"
LARGEST_ANNOTATION = 262_144
"""Bytes that client-side apply may write a whole object in."""

each_case = pytest.mark.parametrize("values", CASES, ids=lambda path: path.stem)


def written(values: Path) -> Any:
    return yaml.safe_load(values.read_text())


def refusal(tmp_path: Path, values: str, on: Path = MINIMAL) -> str:
    """Return what helm says to these values, which it must not take."""
    (tmp_path / "values.yaml").write_text(values)
    done = helm("template", "acme", CHART, "-f", on, "-f", tmp_path / "values.yaml")
    assert done.returncode != 0, values
    assert done.stdout == ""
    return done.stderr


def changed(tmp_path: Path, values: str, on: Path = MINIMAL, **options: Any) -> list[Object]:
    (tmp_path / "values.yaml").write_text(values)
    return template("-f", on, "-f", tmp_path / "values.yaml", **options)


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container.get("env", [])}


def exporter(objects: Any) -> Object:
    """Return the exporter's container."""
    (container,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def unpacked(objects: Any, folder: Path) -> dict[str, str]:
    """Write the files that the exporter gets, and return its environment with their places here."""
    config = next(found for found in of_kind(objects, "ConfigMap") if "config.toml" in found["data"])
    files = {"config/" + name: content for name, content in config["data"].items()} | {"key/admin-api-key": "a-key"}
    for secret in of_kind(objects, "Secret"):
        place = "web/" if "web-config.yml" in secret["data"] else "key/"
        files |= {place + name: base64.b64decode(content).decode() for name, content in secret["data"].items()}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return {name: value.replace(MOUNTED, f"{folder}/") for name, value in environment(exporter(objects)).items()}


def loaded(objects: Any, folder: Path) -> Settings:
    """Read the settings as the exporter does in its pod."""
    env = {name: value for name, value in unpacked(objects, folder).items() if name.startswith("ANTHROPIC_")}
    return load([], env, today=date(2026, 11, 26))


@each_case
def test_lint_has_nothing_to_say(values: Path) -> None:
    done = helm("lint", "--strict", CHART, "-f", values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^\[(?:WARNING|ERROR)\].*", done.stdout, re.MULTILINE) == []


@each_case
def test_kubernetes_knows_every_key(values: Path, tmp_path: Path) -> None:
    ours = [found for found in case(values) if not found["apiVersion"].startswith("monitoring.coreos.com/")]
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(ours))
    done = call(linter("kubernetes-validate"), "--strict", tmp_path / "objects.yaml")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("passed for resource") == len(ours), done.stdout


def test_the_operator_knows_every_key() -> None:
    monitor, rule = only(case(EVERYTHING), "ServiceMonitor"), only(case(EVERYTHING), "PrometheusRule")
    assert problems_for_the_operator([monitor, rule, only(case(SECRETS), "ServiceMonitor")]) == []

    endpoint = monitor["spec"]["endpoints"][0]
    wrong = {**monitor, "spec": {**monitor["spec"], "endpoints": [{**endpoint, "scrape": "60s", "scheme": 1}]}}
    found = problems_for_the_operator([wrong])
    assert "ServiceMonitor.spec.endpoints.0.scrape: no such key" in found
    assert "ServiceMonitor/spec/endpoints/0/scheme: type" in found


REFUSED = {
    "a typo": ("persistance: {enabled: false}", "additional properties 'persistance' not allowed"),
    "a typo in a map": ("image: {tga: x}", "additional properties 'tga' not allowed"),
    "a typo in settings": ("settings: {usage: {pol_interval: 60}}", "at '/settings/usage': additional properties"),
    "a section of its own": ("settings: {polling: {}}", "at '/settings': additional properties 'polling'"),
    "the chart's own setting": ("settings: {state: {path: /x}}", "additional properties 'state' not allowed"),
    "the chart's own key": ("settings: {web: {listen_address: ':1'}}", "'listen_address' not allowed"),
    "a word for a number": ("settings: {usage: {settle: soon}}", "at '/settings/usage/settle': got string"),
    "a number for a word": ("settings: {log: {level: 3}}", "at '/settings/log/level'"),
    "text for a list": ("settings: {usage: {models: 'a,b'}}", "at '/settings/usage/models': got string, want array"),
    "an unknown level": ("settings: {log: {level: loud}}", "at '/settings/log/level': value must be one of"),
    "a day that is none": ("settings: {usage: {anchor: yesterday}}", "at '/settings/usage/anchor'"),
    "polls too often": ("settings: {cost: {poll_interval: 30}}", "at '/settings/cost/poll_interval': minimum"),
    "an http address": ("settings: {api: {base_url: 'http://x'}}", "at '/settings/api/base_url'"),
    "a negative budget": ("settings: {budget: {workspaces: {default: -1}}}", "'/settings/budget/workspaces/default'"),
    "two replicas": ("replicas: 2", "additional properties 'replicas' not allowed"),
    "two replicas by another name": ("replicaCount: 2", "additional properties 'replicaCount' not allowed"),
    "a yes": ("serviceMonitor: {enabled: 'yes'}", "at '/serviceMonitor/enabled': got string, want boolean"),
    "a bad digest": ("image: {digest: latest}", "at '/image/digest'"),
    "a bad url": ("grafana: {url: grafana.example.org}", "at '/grafana/url'"),
    "a bad port": ("networkPolicy: {egressPorts: [https]}", "at '/networkPolicy/egressPorts/0'"),
    "no key": ("adminApiKey: {existingSecret: ''}", "adminApiKey: there is no key; set existingSecret"),
    "two keys": ("adminApiKey: {value: k}", "adminApiKey: existingSecret and value are both set; remove one"),
    "two web configs": (
        "web: {existingSecret: x, config: {basic_auth_users: {a: b}}}",
        "web: existingSecret and config are both set; remove one",
    ),
    "an unused certificate": ("web: {tlsSecret: x}", "web: tlsSecret is mounted, but nothing uses it"),
    "a web config's typo": ("web: {config: {tls_config: {}}}", "additional properties 'tls_config' not allowed"),
    "a table for prices": ("prices: {model: []}", "at '/prices': got object, want string"),
    "a setting among variables": (
        "extraEnv: [{name: ANTHROPIC_EXPORTER_LOG_LEVEL, value: debug}]",
        "extraEnv: ANTHROPIC_EXPORTER_LOG_LEVEL is the chart's to set",
    ),
    "an unknown threshold": (
        "prometheusRule: {enabled: true, thresholds: {'anthropic:spend_spike:warning': 5}}",
        "prometheusRule.thresholds: there is no anthropic:spend_spike:warning",
    ),
}


@pytest.mark.parametrize(("values", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_values_are_refused_by_name(values: str, says: str, tmp_path: Path) -> None:
    assert says in refusal(tmp_path, values)


def test_a_chart_that_depends_on_this_one_can_turn_it_on(tmp_path: Path) -> None:
    assert changed(tmp_path, "{global: {imageRegistry: x}, enabled: true}") == case(MINIMAL)


def test_what_is_left_empty_is_not_set(tmp_path: Path) -> None:
    ids = "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}"
    values = f"{ids}\nresources: {{limits: null}}\nserviceMonitor: {{enabled: true}}\nsettings:\n"
    objects = changed(tmp_path, values)
    assert loaded(objects, tmp_path).usage == Settings().usage
    assert exporter(objects)["resources"].keys() == {"requests"}
    for pod in pods(objects):
        assert pod["spec"]["securityContext"].keys() == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}


def test_the_version_is_the_programs() -> None:
    chart = written(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    image = exporter(case(MINIMAL))["image"]
    assert image == f"{written(CHART / 'values.yaml')['image']['repository']}:{__version__}"


def test_a_digest_wins_over_the_tag(tmp_path: Path) -> None:
    assert re.fullmatch(r"ghcr\.io/\S+@sha256:[0-9a-f]{64}", exporter(case(SECRETS))["image"])
    assert exporter(changed(tmp_path, "image: {repository: r/x, tag: main}"))["image"] == "r/x:main"


def test_the_schema_has_every_setting_as_the_exporter_has_it() -> None:
    assert SCHEMA.read_text() == rendered_schema(SCHEMA.read_text()), "run: python -m tests.helm"
    described = {
        f"{section}.{key}": entry["description"]
        for section, entries in settings_schema()["properties"].items()
        for key, entry in entries["properties"].items()
    }
    assert described == {row.name: row.description for row in rows() if row.name in settable()}
    assert all("type" in entry for part in settings_schema()["properties"].values() for entry in _entries(part))
    own = {row.name for row in rows()} - set(settable())
    made = {"config.file", "prices.file", "state.path", "web.listen_address", "web.config_file"}
    assert own - {name for name in own if name.startswith("demo.")} == made


def _entries(section: Mapping[str, Any]) -> list[Object]:
    return list(section["properties"].values())


def test_the_schema_has_every_value_and_nothing_else() -> None:
    def compare(values: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> None:
        if "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, path
        known = schema["properties"].keys() - {"global", "enabled" if not path else ""}
        assert values.keys() <= known, path
        if path not in {".settings", ".web.config", ".resources"}:
            assert values.keys() == known, path
        for name, value in values.items():
            if isinstance(value, dict):
                compare(value, schema["properties"][name], f"{path}.{name}")

    compare(written(CHART / "values.yaml"), json.loads(SCHEMA.read_text()), "")


@each_case
def test_the_exporter_reads_the_settings_as_they_were_written(values: Path, tmp_path: Path) -> None:
    ours = loaded(case(values), tmp_path)
    meant = load([], {}, today=date(2026, 11, 26), defaults=written(values).get("settings", {}), needs_key=False)
    assert all(getattr(ours, name) == getattr(meant, name) for name in {row.name.split(".")[0] for row in rows()} - OWN)
    assert ours.web.telemetry_path == meant.web.telemetry_path
    assert ours.state.path == "/data/anthropic-exporter.db"
    assert parse_listen_address(ours.web.listen_address)[1] == 10017
    override(ours.prices.file, shipped())


OWN = {"config", "prices", "state", "web"}
"""Sections in which the chart has a word."""


def test_one_case_has_every_setting() -> None:
    settings = written(EVERYTHING)["settings"]
    assert {f"{section}.{key}" for section in settings for key in settings[section]} == set(settable())


def test_prices_come_as_they_were_written(tmp_path: Path) -> None:
    ours = loaded(case(EVERYTHING), tmp_path)
    assert ours.prices.file is not None
    assert ours.prices.file.read_text() == written(EVERYTHING)["prices"]
    assert loaded(case(MINIMAL), tmp_path).prices.file is None


def test_the_web_config_opens_with_the_certificate_beside_it(tmp_path: Path) -> None:
    env = unpacked(case(EVERYTHING), tmp_path)
    certificate, key = Authority().pair("exporter.example.org")
    (tmp_path / "web/tls.crt").write_text(certificate)
    (tmp_path / "web/tls.key").write_text(key)
    policy = Door(Path(env["ANTHROPIC_EXPORTER_WEB_CONFIG_FILE"])).look()
    assert policy.tls is not None
    assert policy.users.keys() == {b"prometheus"}
    (web,) = (volume for volume in _volumes(case(EVERYTHING)) if volume["name"] == "web")
    names = [source["secret"]["name"] for source in web["projected"]["sources"]]
    assert names == ["acme-anthropic-exporter-web", "exporter-tls"]


def _volumes(objects: Any) -> list[Object]:
    return list(only(objects, "Deployment")["spec"]["template"]["spec"]["volumes"])


def test_secrets_hold_the_key_and_the_web_config_only_where_they_are_values() -> None:
    assert [of_kind(case(values), "Secret") for values in (MINIMAL, SECRETS)] == [[], []]
    secret = only(case(TRIAL), "Secret")
    assert base64.b64decode(secret["data"]["admin-api-key"]).decode() == written(TRIAL)["adminApiKey"]["value"]
    (key,) = (volume for volume in _volumes(case(TRIAL)) if volume["name"] == "key")
    assert key["secret"]["secretName"] == secret["metadata"]["name"]
    (key,) = (volume for volume in _volumes(case(EVERYTHING)) if volume["name"] == "key")
    assert key["secret"]["secretName"] == "my-organisation"
    assert key["secret"]["items"] == [{"key": "key", "path": "admin-api-key"}]


@each_case
def test_the_key_is_in_a_secret_and_a_file_and_nowhere_else(values: Path) -> None:
    elsewhere = [found for found in case(values) if found["kind"] != "Secret"]
    assert "sk-ant-" not in yaml.safe_dump(elsewhere)
    *readers, asks = pods(case(values))
    assert "env" not in asks["spec"]["containers"][0]
    for pod in readers:
        named = [entry for container in pod["spec"]["containers"] for entry in container["env"]]
        assert {entry["name"] for entry in named if "KEY" in entry["name"]} == {"ANTHROPIC_ADMIN_API_KEY_FILE"}
        assert not any("valueFrom" in entry or "envFrom" in entry for entry in named)


@each_case
def test_pods_are_restricted_and_have_no_token(values: Path) -> None:
    (image_user,) = re.findall(r"^USER (\d+:\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    found = list(pods(case(values)))
    assert len(found) == 3
    for pod in found:
        spec, context = pod["spec"], pod["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == image_user
        assert (context["runAsNonRoot"], context["fsGroup"]) == (True, context["runAsGroup"])
        assert context["fsGroupChangePolicy"] == "OnRootMismatch"
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"] == {"memory": "512Mi"}
    assert all(account["automountServiceAccountToken"] is False for account in of_kind(case(values), "ServiceAccount"))


@each_case
def test_whole_directories_are_mounted_and_hold_what_is_named(values: Path) -> None:
    for pod in pods(case(values)):
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for volume in volumes.values():
            kind = next((volume[kind] for kind in ("secret", "projected") if kind in volume), None)
            assert kind is None or kind["defaultMode"] == 0o440
        for container in pod["spec"]["containers"]:
            mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
            assert all("subPath" not in mount and mount["name"] in volumes for mount in mounts.values())
            assert all(mounts[path].get("readOnly") for path in mounts if path not in {"/data", "/tmp"})  # noqa: S108
            files = environment(container).values()
            folders = {str(Path(file).parent) for file in files if file.startswith("/")}
            assert folders - mounts.keys() <= ({"/data"} if container["name"] == "check" else set())


@each_case
def test_one_exporter_runs_and_the_old_one_ends_first(values: Path) -> None:
    spec = only(case(values), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30


def test_probes_ask_for_health_only_and_patiently() -> None:
    container = exporter(case(EVERYTHING))
    probes = {name: probe for name, probe in container.items() if name.endswith("Probe")}
    assert probes.keys() == {"startupProbe", "livenessProbe", "readinessProbe"}
    assert "\n  health " in USAGE
    for probe in probes.values():
        assert probe["exec"] == {"command": [PROGRAM, "health"]}
        assert probe["timeoutSeconds"] == 10
        assert probe["periodSeconds"] * probe["failureThreshold"] > LIMIT
    assert probes["livenessProbe"]["periodSeconds"] == 30


def test_a_changed_setting_restarts_the_pod_and_a_changed_secret_does_not(tmp_path: Path) -> None:
    def template_of(objects: Any) -> Any:
        return only(objects, "Deployment")["spec"]["template"]

    trial = template_of(case(TRIAL))
    assert template_of(changed(tmp_path, "adminApiKey: {value: another}", TRIAL)) == trial
    for values in ("settings: {log: {level: debug}}", "prices: 'x = 1'"):
        other = template_of(changed(tmp_path, values, TRIAL))
        assert other["metadata"]["annotations"] != trial["metadata"]["annotations"]


def test_the_state_is_kept_unless_it_is_not_wanted() -> None:
    claim = only(case(MINIMAL), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    data = {values: next(v for v in _volumes(case(values)) if v["name"] == "data") for values in CASES}
    assert data[MINIMAL]["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    assert data[SECRETS]["persistentVolumeClaim"] == {"claimName": "my-claim"}
    assert "emptyDir" in data[TRIAL]
    assert [of_kind(case(values), "PersistentVolumeClaim") for values in (SECRETS, TRIAL)] == [[], []]
    everything = only(case(EVERYTHING), "PersistentVolumeClaim")
    assert everything["spec"]["storageClassName"] == "fast"
    assert everything["metadata"]["annotations"].keys() == {"helm.sh/resource-policy", "example.org/backup"}


def test_requests_reach_the_exporter_and_not_the_test() -> None:
    for values in CASES:
        service = only(case(values), "Service")["spec"]
        deployment, *tests = pods(case(values))
        assert service["selector"].items() <= deployment["metadata"]["labels"].items()
        assert not [test for test in tests if service["selector"].items() <= test["metadata"]["labels"].items()]
        (port,), (named,) = service["ports"], exporter(case(values))["ports"]
        assert (port["name"], port["targetPort"], named["name"]) == ("metrics", "metrics", "metrics")
        assert named["containerPort"] == parse_listen_address(Settings().web.listen_address)[1]


def test_series_go_on_when_the_pod_is_replaced() -> None:
    plain, full = (only(case(values), "ServiceMonitor")["spec"] for values in (SECRETS, EVERYTHING))
    names = {"targetLabel": "job", "replacement": "exporter"}, {"targetLabel": "instance", "replacement": "acme"}
    dropped = {"action": "labeldrop", "regex": "pod|container|endpoint"}
    assert plain["endpoints"][0]["relabelings"] == [*names, dropped]
    assert [entry.get("replacement") for entry in full["endpoints"][0]["relabelings"]] == [
        "anthropic", "my-organisation", None, "one",
    ]  # fmt: skip
    for monitor, values in ((plain, SECRETS), (full, EVERYTHING)):
        (endpoint,) = monitor["endpoints"]
        service = only(case(values), "Service")
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert endpoint["port"] == service["spec"]["ports"][0]["name"]
        assert (endpoint["honorLabels"], endpoint["scrapeTimeout"]) == (False, "30s")
    assert full["endpoints"][0]["path"] == written(EVERYTHING)["settings"]["web"]["telemetry_path"]
    assert (plain["endpoints"][0]["path"], plain["endpoints"][0]["interval"]) == ("/metrics", "60s")


def test_prometheus_speaks_tls_where_the_exporter_does(tmp_path: Path) -> None:
    assert only(case(EVERYTHING), "ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"
    monitored = "{serviceMonitor: {enabled: true}, web: {config: {basic_auth_users: {a: b}}}}"
    (endpoint,) = only(changed(tmp_path, monitored), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "http"


def test_the_rules_are_the_repositorys_own(tmp_path: Path) -> None:
    groups = only(case(SECRETS), "PrometheusRule")["spec"]["groups"]
    assert groups == [dict(group) for group in rules.groups()]

    linked = only(changed(tmp_path, "grafana: {url: 'https://g.example.org/sub/'}", SECRETS), "PrometheusRule")
    there = json.dumps(groups).replace("http://localhost:3000/", "https://g.example.org/sub/")
    assert linked["spec"]["groups"] == json.loads(there)
    assert "localhost" not in there


def test_thresholds_can_be_changed() -> None:
    plain, other = (only(case(values), "PrometheusRule")["spec"]["groups"] for values in (SECRETS, EVERYTHING))
    differing = [
        (rule["record"], changed_rule["expr"])
        for group, changed_group in zip(plain, other, strict=True)
        for rule, changed_rule in zip(group["rules"], changed_group["rules"], strict=True)
        if rule["expr"] != changed_rule["expr"]
    ]
    assert sorted(differing) == [
        ("anthropic:cache_hit_tokens:warning", "vector(2e+06)"),
        ("anthropic:spend_spike_ratio:warning", "vector(5)"),
    ]


def test_the_dashboards_are_the_repositorys_own() -> None:
    files = {path.name: path.read_bytes() for path in (ROOT / "grafana/dashboards").glob("*.json")}
    for values, folder, label in ((SECRETS, "billing", "1"), (EVERYTHING, "grafana", "true")):
        found = [config for config in of_kind(case(values), "ConfigMap") if "config.toml" not in config["data"]]
        assert {name: content.encode() for config in found for name, content in config["data"].items()} == files
        assert len(found) == len(files)
        for config in found:
            assert config["metadata"]["namespace"] == folder
            assert config["metadata"]["labels"]["grafana_dashboard"] == label
            assert config["metadata"]["annotations"] == {"grafana_folder": "Anthropic"}
            assert len(json.dumps(config, ensure_ascii=False).encode()) < LARGEST_ANNOTATION


@each_case
def test_monitoring_is_there_only_if_it_is_wanted(values: Path) -> None:
    wanted = written(values)
    for name, kind in (
        ("serviceMonitor", "ServiceMonitor"),
        ("prometheusRule", "PrometheusRule"),
        ("networkPolicy", "NetworkPolicy"),
    ):
        assert len(of_kind(case(values), kind)) == wanted.get(name, {}).get("enabled", False)


def test_the_network_policy_lets_through_what_is_needed() -> None:
    for values in (SECRETS, EVERYTHING):
        policy = only(case(values), "NetworkPolicy")["spec"]
        found = list(pods(case(values)))
        assert all(
            policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items() for pod in found
        ), "the test has to be held to it, too"
        dns, out, back = policy["egress"]
        assert [port["port"] for port in dns["ports"]] == [53, 53, 5353, 5353]
        assert [port["port"] for port in out["ports"]] == written(values)["networkPolicy"].get("egressPorts", [443])
        assert (dns.keys(), out.keys()) == ({"ports"}, {"ports"})
        (way_in,) = policy["ingress"]
        port = exporter(case(values))["ports"][0]["containerPort"]
        assert [entry["port"] for entry in (*way_in["ports"], *back["ports"])] == [port, port]
        assert back["to"][0]["podSelector"]["matchLabels"].items() <= found[0]["metadata"]["labels"].items()
    assert "from" not in only(case(SECRETS), "NetworkPolicy")["spec"]["ingress"][0]
    tests, others = only(case(EVERYTHING), "NetworkPolicy")["spec"]["ingress"][0]["from"]
    assert tests["podSelector"]["matchLabels"].items() <= found[1]["metadata"]["labels"].items()
    assert [others] == written(EVERYTHING)["networkPolicy"]["from"]


def test_two_releases_in_a_namespace_have_nothing_in_common(tmp_path: Path) -> None:
    # Without a value that names something: these are one's own to keep apart.
    values = "{serviceAccount: {name: ''}, serviceMonitor: {job: '', instance: ''}}"
    one, other = (changed(tmp_path, values, EVERYTHING, release=name) for name in ("acme", "globex"))
    names = [{(found["kind"], found["metadata"]["name"]) for found in objects} for objects in (one, other)]
    assert len(names[0]) == len(one)
    assert names[0].isdisjoint(names[1])
    for here, there in ((one, other), (other, one)):
        selectors = [
            only(here, "Service")["spec"]["selector"],
            only(here, "Deployment")["spec"]["selector"]["matchLabels"],
        ]
        selectors += [only(here, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
        labels = [pod["metadata"]["labels"] for pod in pods(there)]
        assert not any(selector.items() <= known.items() for selector in selectors for known in labels)
        selector = only(here, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
        assert not selector.items() <= only(there, "Service")["metadata"]["labels"].items()
    relabelings = [only(objects, "ServiceMonitor")["spec"]["endpoints"][0]["relabelings"] for objects in (one, other)]
    assert relabelings[0][0] != relabelings[1][0]
    assert relabelings[0][1] != relabelings[1][1]


def test_all_names_come_from_the_full_name(tmp_path: Path) -> None:
    objects = changed(tmp_path, "{fullnameOverride: mine, serviceAccount: {name: ''}}", EVERYTHING)
    assert all(re.match(r"mine(-|$)", found["metadata"]["name"]) for found in objects)
    longest = template("-f", EVERYTHING, release="r" * 53)
    assert all(len(found["metadata"]["name"]) <= 63 for found in of_kind(longest, "Service"))
    short = template("-f", MINIMAL, release="anthropic-exporter-acme")
    assert only(short, "Service")["metadata"]["name"] == "anthropic-exporter-acme"


@each_case
def test_helm_test_tries_the_same_settings_and_key_as_the_exporter(values: Path) -> None:
    both = of_kind(case(values), "Pod")
    assert [pod["metadata"]["annotations"]["helm.sh/hook"] for pod in both] == ["test", "test"]
    assert {pod["spec"]["restartPolicy"] for pod in both} == {"Never"}
    check, asks = (container for pod in both for container in pod["spec"]["containers"])
    ours = exporter(case(values))
    assert (check["args"], check["image"], check["env"]) == (["check"], ours["image"], ours["env"])
    assert check["volumeMounts"] == [mount for mount in ours["volumeMounts"] if mount["name"] != "data"]
    assert "\n  check " in USAGE
    service = only(case(values), "Service")
    assert asks["args"][1] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    # Kubernetes would fill these in.
    assert "$(" not in asks["args"][0]


@contextmanager
def serving(pages: Mapping[str, Page], door: Door | None = None) -> Iterator[str]:
    server = Server("127.0.0.1", 0, door)
    server.start(pages)
    try:
        yield server.url.partition("://")[2]
    finally:
        server.stop()


def ask(address: str) -> "subprocess.CompletedProcess[str]":
    """Run what the test's pod runs."""
    container = of_kind(case(MINIMAL), "Pod")[1]["spec"]["containers"][0]
    python, *options = container["command"]
    assert python == "python3"
    command = [sys.executable, *options, container["args"][0], address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


PAIR = "cert_file: cert.pem, key_file: key.pem"
MUTUAL = f"{PAIR}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"
USERS = f"basic_auth_users: {{prometheus: '{bcrypt.hashpw(b'word', bcrypt.gensalt(4)).decode()}'}}\n"


@pytest.mark.parametrize(
    "config",
    [
        None,
        USERS,
        f"tls_server_config: {{{PAIR}}}\n{USERS}",
        f"tls_server_config: {{{MUTUAL}}}\n",
        f"tls_server_config: {{{MUTUAL}, max_version: TLS12}}\n",
    ],
    ids=["plain", "users", "TLS and users", "client certificates", "client certificates by TLS 1.2"],
)
def test_helm_test_finds_the_exporter_behind_any_door(config: str | None, tmp_path: Path) -> None:
    Authority().write(tmp_path)
    (tmp_path / "web.yml").write_text(config or "")
    with serving({"/-/ready": ready()}, Door(tmp_path / "web.yml") if config else None) as address:
        done = ask(address)
    assert (done.returncode, done.stderr) == (0, "")


def test_helm_test_says_what_is_wrong() -> None:
    with serving({"/-/other": text("no")}) as address:
        done = ask(address)
    assert (done.returncode, done.stderr) == (1, f"{address} is not ready: status 404\n")
    done = ask(address)
    assert done.returncode == 1
    assert done.stderr.count("refused") == 2


def notes(*arguments: str | Path) -> str:
    done = helm("install", "acme", CHART, "--namespace", "billing", "--dry-run=client", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:\n")[2]


def test_the_notes_say_how_to_look_and_what_is_missing(tmp_path: Path) -> None:
    plain = notes("-f", MINIMAL)
    assert "helm test acme --namespace billing --logs" in plain
    assert "kubectl port-forward --namespace billing service/acme-anthropic-exporter 10017:10017" in plain
    assert "set serviceMonitor.enabled" in plain
    assert "WARNING" not in plain
    trial = notes("-f", TRIAL)
    assert "WARNING: persistence is off" in trial
    assert "WARNING: the key is among the release's values" in trial
    assert "sk-ant" not in trial
    assert "Prometheus does not know" not in notes("-f", EVERYTHING)


def test_a_packaged_chart_holds_the_files_and_renders_the_same(tmp_path: Path) -> None:
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    package = tmp_path / f"anthropic-exporter-{__version__}.tgz"
    with tarfile.open(package) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    assert all(member.isfile() for member in members.values())
    assert {f"files/rules/{path.name}" for path in rules.RULES} <= members.keys()
    assert not any(name.startswith("ci/") for name in members)
    for values in (EVERYTHING, TRIAL):
        assert template("-f", values, chart=package) == case(values)


def test_links_that_were_dropped_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    copy = tmp_path / "chart"
    shutil.copytree(CHART, copy, symlinks=True)
    for name in ("dashboards", "rules"):
        assert (copy / "files" / name).is_symlink()
        (copy / "files" / name).unlink()
    template("-f", MINIMAL, chart=copy)
    for value in ("dashboards", "prometheusRule"):
        done = helm("template", "acme", copy, "-f", MINIMAL, "--set", f"{value}.enabled=true")
        assert done.returncode != 0
        assert f"{value}: the chart has no files/" in done.stderr
