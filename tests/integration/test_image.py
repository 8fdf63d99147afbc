"""The container image: really built with buildah, and really run, without an engine.

The base stands in for the image of Python: a Debian trixie with Debian's own Python. What an engine would do to run the
image is done here with the kernel's own means: namespaces for mounts and processes, a root that is mounted read-only,
``/data`` as the only other file system to write to, no capability, no way to new ones, and as user, environment and
command what the image's configuration says. Not done are control groups, seccomp profiles and, but for one test, a
network namespace: the simulated API listens on this machine's loopback.
"""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from exporter import __version__
from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from tests.integration.conftest import ExporterProcess, Samples, until
from tests.tools import CACHE, ROOT, lacking, tool
from tests.world import total

pytestmark = pytest.mark.process

USER = 65532
VENV = "opt/anthropic-exporter"
KEY = "sk-ant-admin01-canary-of-the-image-tests"
PYTHON_IMAGE = "localhost/python-stand-in"
PROJECT = "https://github.com/anthropic-exporter/anthropic-exporter"
ADDED_MEGABYTES = 40
"""What our layers may add to the base; 28 MB when this was written."""
REACHING = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert")
"""The settings of pip that say how to reach an index, and from whom to take its certificate."""
QUICK = {
    "USAGE_POLL_INTERVAL": "1", "USAGE_SETTLE": "70", "USAGE_HOLD": "1", "USAGE_API_KEY_POLL_INTERVAL": "1",
    "COST_POLL_INTERVAL": "1", "NAMES_POLL_INTERVAL": "1", "LIMITS_POLL_INTERVAL": "1",
}  # fmt: skip

MOUNTS = """
set -eu
mount --bind "$IMAGE" "$IMAGE"
mount --bind "$DATA" "$IMAGE/data"
mount --bind "$SECRETS" "$IMAGE/run"
mount -t proc proc "$IMAGE/proc"
mount -t tmpfs tmpfs "$IMAGE/dev"
for device in null zero urandom; do
    touch "$IMAGE/dev/$device"
    mount --bind "/dev/$device" "$IMAGE/dev/$device"
done
for place in "" /run /dev; do mount -o remount,bind,ro "$IMAGE$place"; done
exec "$@"
"""


class Buildah:
    """Images in a storage of their own."""

    def __init__(self, storage: Path) -> None:
        places = (f"--root={storage}/root", f"--runroot={storage}/run")
        self._command = [str(tool("buildah")), "--storage-driver=vfs", *places]
        given = {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(storage), "ANTHROPIC_ADMIN_API_KEY": KEY}
        self._environment = os.environ | given

    def __call__(self, *arguments: str | Path) -> str:
        command = [*self._command, *map(str, arguments)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def unpacked(self, image: str) -> Path:
        """Return a folder with an image's files, and nothing that links it to the image."""
        return Path(self("mount", self("from", "--pull-never", image)))

    def stand_in(self, archive: Path) -> None:
        """Make the base from an archive; like images of Python it brings a pip."""
        container = self("from", "scratch")
        root = Path(self("mount", container))
        subprocess.run(["tar", "-xf", archive, "-C", root], check=True)
        (root / "etc/pip.conf").touch()
        (root / "usr/local/lib/python3.13/site-packages/pip").mkdir(parents=True)
        (root / "usr/local/bin/pip").touch()
        self("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        self("commit", "--quiet", "--rm", container, PYTHON_IMAGE)


def pip_settings(folder: Path) -> Iterator[str]:
    """Hand this machine's way to its index into a build; nothing of it becomes a part of the image."""
    told = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    given = dict(line.split("=", 1) for line in told.splitlines())
    names = {key: key.rsplit(".", 1)[-1] for key in sorted(given, key=lambda key: key.startswith(":env:"))}
    settings = {name: str(ast.literal_eval(given[key])) for key, name in names.items() if name in REACHING}
    if bundle := os.environ.get("SSL_CERT_FILE"):
        settings.setdefault("cert", bundle)
    lines = (f"{name} = {' '.join(value.split())}\n" for name, value in settings.items())
    (folder / "pip.conf").write_text("[global]\n" + "".join(lines))
    yield f"--volume={folder}/pip.conf:/etc/pip.conf:ro"
    for word in " ".join(settings.values()).split():
        # A local index links to files beside it.
        place = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
        if place.is_absolute() and place.exists():
            yield f"--volume={place}:{place}:ro"


class Image(NamedTuple):
    """An image that was built: its files, and the configuration that goes with it."""

    buildah: Buildah
    root: Path
    context: Path
    about: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        return dict(self.about["Docker"]["config"])


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if os.geteuid():
        lacking("only root can build and run an image without an engine")
    storage = tmp_path_factory.mktemp("storage")
    try:
        yield Buildah(storage)
    finally:
        shutil.rmtree(storage)


def littered(context: Path) -> Path:
    """Return a copy of the sources with what must never get into an image."""
    ignored = shutil.ignore_patterns(".*", "tests", "grafana", "__pycache__")
    shutil.copytree(ROOT, context, ignore=ignored)
    shutil.copy(ROOT / ".dockerignore", context)
    state, compiled = "anthropic-exporter.db", "__pycache__/a.pyc"
    places = ("key", ".env", state, f"data/{state}", ".git/config", ".venv/a.py", "deploy/key", "tests/a.py")
    for name in (*places, f"exporter/{compiled}", f"exporter/api/{compiled}"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(KEY)
    return context


@pytest.fixture(scope="module")
def image(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Image:
    archive = CACHE / "base.tar"
    if not archive.exists():
        lacking("no base for the image; .ci/packaging makes it on Debian 12")
    folder = tmp_path_factory.mktemp("build")
    buildah.stand_in(archive)
    values = {"PYTHON_IMAGE": PYTHON_IMAGE, "VERSION": __version__, "REVISION": "0123abc"}
    arguments = (f"--build-arg={name}={value}" for name, value in values.items())
    context = littered(folder / "context")
    # The other format has no health check.
    buildah("build", "--format=docker", "--tag=exporter", *arguments, *pip_settings(folder), context)
    about = json.loads(buildah("inspect", "--type=image", "exporter"))
    return Image(buildah, buildah.unpacked("exporter"), context, about)


class Container(ExporterProcess):
    """The image's program in a sandbox; it is its first process, as in a container."""

    @cached_property
    def inside(self) -> int:
        """The process number as this machine sees it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(self.up(lambda: children.read_text().strip() or None))

    def terminate(self) -> tuple[int, float]:
        begun = time.monotonic()
        os.kill(self.inside, signal.SIGTERM)
        try:
            return self.process.wait(10), time.monotonic() - begun
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"still running 10 s after SIGTERM\n{self.log()}")

    def status(self) -> Mapping[str, list[str]]:
        lines = Path(f"/proc/{self.inside}/status").read_text().splitlines()
        return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}

    def listening_on(self) -> set[str]:
        """Return the addresses of listening sockets, as the kernel writes them."""
        rows = [line.split() for line in Path(f"/proc/{self.inside}/net/tcp").read_text().splitlines()[1:]]
        return {row[1] for row in rows if row[3] == "0A"}


class Sandbox:
    """What an engine does to run an image with a read-only root: one volume, one secret, the image's own settings."""

    def __init__(self, image: Image, folder: Path, stack: ExitStack) -> None:
        self._image, self._folder, self._stack = image, folder, stack
        self.data, secrets = folder / "data", folder / "secrets"
        # A new volume has owner and mode of the folder in the image.
        shutil.copytree(image.root / "data", self.data)
        owner = (image.root / "data").stat()
        os.chown(self.data, owner.st_uid, owner.st_gid)
        secrets.mkdir(mode=0o755)
        (secrets / "key").write_text(KEY)
        (secrets / "key").chmod(0o400)
        os.chown(secrets / "key", USER, USER)
        self._outside = {"PATH": os.environ["PATH"], "IMAGE": str(image.root), "DATA": str(self.data)}
        self._outside["SECRETS"] = str(secrets)

    def _within(self, command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        user, _, group = str(self._image.config["User"]).partition(":")
        limits = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        given = [*self._image.config["Env"], *(f"{name}={value}" for name, value in environment.items())]
        return ["/usr/bin/env", "-i", *given, "setpriv", f"--reuid={user}", f"--regid={group}", *limits, *command]

    def _alone(self, command: Sequence[str], environment: Mapping[str, str], options: Iterable[str]) -> list[str]:
        within = self._within(command, environment)
        unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *options]
        return [*unshared, "sh", "-c", MOUNTS, "sandbox", "chroot", str(self._image.root), *within]

    def start(self, *options: str, **environment: str) -> Container:
        """Start the image with no arguments."""
        command = self._alone(self._image.config["Entrypoint"], environment, options)
        return self._stack.enter_context(Container(command, self._folder, self._outside))

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a sandbox of its own."""
        alone = self._alone(command, environment, ())
        return subprocess.run(alone, env=self._outside, capture_output=True, text=True, timeout=30, check=False)

    def execute(self, container: Container, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the sandbox of a container that runs."""
        joined = ["nsenter", f"--target={container.inside}", "--mount", "--pid", "--root", *self._within(command, {})]
        return subprocess.run(joined, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def sandbox(image: Image, tmp_path: Path) -> Iterator[Sandbox]:
    with ExitStack() as stack:
        yield Sandbox(image, tmp_path, stack)


@pytest.fixture
def api_url() -> Iterator[str]:
    started, arrival = int(time.time()) - 3 * DAY, Arrival(median=0, late_share=0)
    organization = SimulatedOrganization(seed=7, started=started, arrival=arrival, bill_delay=0)
    with serve(AdminApi(organization, key=KEY, clock=time.time)) as server:
        yield server.url


@pytest.fixture
def start(sandbox: Sandbox, api_url: str) -> Callable[[], Container]:
    """Run the image on the simulated API, on a free port of loopback."""
    given = QUICK | {"API_BASE_URL": api_url, "WEB_LISTEN_ADDRESS": "127.0.0.1:0"}
    settings = {f"ANTHROPIC_EXPORTER_{name}": value for name, value in given.items()}
    return lambda: sandbox.start(ANTHROPIC_ADMIN_API_KEY_FILE="/run/key", **settings)


def health(image: Image) -> list[str]:
    kind, *command = map(str, image.config["Healthcheck"]["Test"])
    assert kind == "CMD"
    return command


def counters(samples: Samples) -> Samples:
    return {key: value for key, value in samples.items() if re.match(r"anthropic_(?!exporter_)\w+_total$", key[0])}


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_a_build_is_given_only_what_it_needs(image: Image, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    image.buildah("build", f"--file={tmp_path}/Dockerfile", "--tag=context", image.context)
    root = image.buildah.unpacked("context")
    given = {str(path.relative_to(root)) for path in files(root)}
    sources = {str(path.relative_to(image.context)) for path in files(image.context / "exporter")}
    needed = {"pyproject.toml", "README.md", "LICENSE", "deploy/requirements.txt", "deploy/build-requirements.txt"}
    assert given == needed | {path for path in sources if "__pycache__" not in path}


def test_the_image_says_how_it_is_run(image: Image) -> None:
    config = image.config
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["anthropic-exporter"]
    assert not config["Cmd"]
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["Volumes"]) == {"/data"}
    assert set(config["ExposedPorts"]) == {"10017/tcp"}
    assert health(image) == ["anthropic-exporter", "health"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    links = labels["source"], labels["url"], labels["documentation"]
    assert links == (PROJECT, PROJECT, f"{PROJECT}#readme")
    assert (labels["licenses"], labels["version"], labels["revision"]) == ("Apache-2.0", __version__, "0123abc")
    assert labels["title"] == "anthropic-exporter"
    assert labels["description"]


def test_the_image_holds_no_secret_of_the_build(image: Image) -> None:
    assert "canary" not in json.dumps(image.about)
    assert [path for path in files(image.root) if KEY.encode() in path.read_bytes()] == []


def test_the_image_holds_the_program_and_nothing_to_build_it_with(image: Image) -> None:
    venv = image.root / VENV
    packages = venv / "lib/python3.13/site-packages"
    names = {path.name.split("-")[0].lower() for path in packages.iterdir()}
    assert {"exporter", "anthropic_exporter", "httpx"} <= names
    assert names.isdisjoint({"pip", "setuptools", "wheel", "hatchling", "pytest"})
    assert not (venv / "bin/pip").exists()
    assert [path for path in venv.rglob("*") if path.name in {"test", "tests"}] == []
    for place in ("usr/local/bin/pip", "usr/local/lib/python3.13/site-packages/pip", "build", "root/.cache"):
        assert not (image.root / place).exists(), place


def test_all_bytecode_is_there_and_is_taken_as_it_is(image: Image) -> None:
    sources = {path for path in files(image.root / VENV / "lib") if path.suffix == ".py"}
    compiled = {path: path.parent / f"__pycache__/{path.stem}.cpython-313.pyc" for path in sources}
    assert {path for path in files(image.root / VENV) if path.suffix == ".pyc"} == set(compiled.values())
    unchecked_hash = (1).to_bytes(4, "little")
    assert {path for path in compiled.values() if path.read_bytes()[4:8] != unchecked_hash} == set()


def test_the_image_is_small(image: Image) -> None:
    _, *ours = json.loads(image.about["Manifest"])["layers"]
    assert 5e6 < sum(layer["size"] for layer in ours) < ADDED_MEGABYTES * 1e6


def test_the_user_owns_nothing_but_its_volume(image: Image) -> None:
    places = [image.root, *image.root.rglob("*")]
    owned = [path for path in places if USER in {path.lstat().st_uid, path.lstat().st_gid}]
    assert owned == [image.root / "data"]
    assert owned[0].stat().st_mode & 0o7777 == 0o750
    assert list(owned[0].iterdir()) == []


def test_the_commands_answer_and_nothing_is_compiled_anew(sandbox: Sandbox) -> None:
    told = sandbox.run("anthropic-exporter", "--version")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"anthropic-exporter {__version__}\n", "")
    told = sandbox.run("anthropic-exporter", "health", PYTHONVERBOSE="1")
    assert told.stderr.count(" matches ") > 100
    loaded = [line for line in told.stderr.splitlines() if line.startswith("# code object from")]
    assert [line for line in loaded if not line.endswith(".pyc'")] == []


def test_a_command_that_draws_tables_has_all_that_it_needs(sandbox: Sandbox) -> None:
    address = {
        "ANTHROPIC_ADMIN_API_KEY": "sk-ant-admin01-test",
        "ANTHROPIC_EXPORTER_API_BASE_URL": "http://127.0.0.1:1",
    }
    told = sandbox.run("anthropic-exporter", "report", PYTHONVERBOSE="1", **address)
    assert told.returncode == 1
    assert "http://127.0.0.1:1 does not answer" in told.stderr
    ours = [line for line in told.stderr.splitlines() if line.startswith("# code object from '/opt/anthropic-exporter")]
    assert any("/rich/" in line for line in ours)
    assert [line for line in ours if not line.endswith(".pyc'")] == []


def test_without_a_key_it_says_so(sandbox: Sandbox) -> None:
    told = sandbox.run("anthropic-exporter")
    assert told.returncode == 2
    assert "ANTHROPIC_ADMIN_API_KEY" in told.stderr


def test_it_runs_is_watched_stops_and_goes_on(image: Image, sandbox: Sandbox, start: Callable[[], Container]) -> None:
    assert sandbox.run(*health(image)).returncode == 1

    container = start()
    usage = "anthropic_usage_tokens_total"
    samples = container.wait_for(lambda samples: total(samples, usage) > 0)
    assert samples["anthropic_exporter_state_loaded", frozenset()] == 0
    done = until(lambda: _green(sandbox.execute(container, *health(image))), 10, container.log)
    assert done.stdout.startswith("alive, ")

    status = container.status()
    assert status["NSpid"][-1] == "1"
    assert (set(status["Uid"]), set(status["Gid"]), status["Groups"]) == ({str(USER)}, {str(USER)}, [])
    assert {int(status[name][0], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    found = sandbox.execute(
        container, "find", "/", "-path", "/proc", "-prune", "-o", "-writable", "!", "-type", "l", "-print"
    )
    writable = {path for path in found.stdout.split() if path not in {"/dev/null", "/dev/zero", "/dev/urandom"}}
    assert "/data" in writable
    assert {path for path in writable if path != "/data" and not path.startswith("/data/")} == set()

    last, page = container.samples(), container.metrics()
    code, seconds = container.terminate()
    assert code == 0
    assert seconds < 5
    done = sandbox.run(*health(image))
    assert done.returncode == 1
    assert "no exporter runs with this state.path" in done.stderr

    again = start()
    samples = again.wait_for(lambda samples: total(samples, usage) > 0)
    assert samples["anthropic_exporter_state_loaded", frozenset()] == 1
    before, after = counters(last), counters(samples)
    assert before
    assert {key: (value, after.get(key)) for key, value in before.items() if after.get(key, -1) < value} == {}

    told = page + container.log() + again.log() + again.metrics()
    assert "canary" not in told
    assert [path for path in files(sandbox.data) if KEY.encode() in path.read_bytes()] == []
    assert {path.stat().st_mode & 0o077 for path in files(sandbox.data)} == {0}


def _green(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str] | None:
    return done if done.returncode == 0 else None


def test_by_itself_it_listens_where_the_image_says(sandbox: Sandbox) -> None:
    container = sandbox.start("--net", ANTHROPIC_ADMIN_API_KEY_FILE="/run/key")
    assert container.url
    assert container.listening_on() == {f"00000000:{10017:04X}"}
    assert container.terminate()[0] == 0
