"""The unit, started by a real systemd as PID 1 of its own namespaces, on a copy of this machine's file system."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from tests.certificates import Authority
from tests.integration.conftest import free_port, until
from tests.tools import ROOT, tool
from tests.unit.test_systemd import UNIT, uncommented
from tests.world import Page, parse, total, value, watermark

pytestmark = pytest.mark.process

OTHER = "anthropic-exporter-acme"
LOADED = "anthropic_exporter_state_loaded"
KEY = "sk-ant-admin01-canary-of-the-unit"
QUICK = {"USAGE_POLL_INTERVAL": "1", "USAGE_SETTLE": "70", "USAGE_HOLD": "1"}
DYNAMIC_USERS = range(61184, 65520)

BOOT = r"""
echo $$ >"$3/cgroup.procs"
exec unshare --mount --pid --fork --kill-child --cgroup --ipc --uts bash -eu -c '
    grep -qx 0::/ /proc/self/cgroup
    mount -t tmpfs -o mode=755 none "$1"
    mkdir "$1/work" "$1/root"
    cp -a "$2" "$1/upper"
    mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" none "$1/root"
    cd "$1/root"
    # What else boots would meddle with the one kernel that there is.
    rm -rf etc/systemd/system/*.wants usr/lib/systemd/system/*.wants
    mount -t proc none proc
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t sysfs -o ro none sys
    mount -t cgroup2 none sys/fs/cgroup
    for folder in run tmp dev; do mount -t tmpfs -o mode=755 none "$folder"; done
    ln -s pts/ptmx dev/ptmx
    for device in null zero full random urandom tty; do
        touch "dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    pivot_root . mnt
    umount -l mnt
    # Credentials reach a service through propagation, which systemd leaves to the manager of a container.
    mount --make-rshared /
    echo ready
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=machine.target --log-target=null --show-status=no
' boot "$@"
"""


class Machine:
    """A systemd in namespaces of its own, which sees a copy of ``layer`` in front of this machine's files."""

    def __init__(self, layer: Path, scratch: Path, group: Path) -> None:
        command: list[str | Path] = ["bash", "-euc", BOOT, "boot", scratch, layer, group]
        self._log = scratch.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def boot(self) -> None:
        """Wait for it; skip the test where namespaces are refused, before systemd has had its chance."""

        def ready() -> bool | None:
            if self._process.poll() is None:
                return "ready\n" in self._log.read_text() or None
            return False

        if not until(ready, 20, self._log.read_text):
            pytest.skip(f"no machine of its own can be made here: {self._log.read_text().strip()}")
        until(
            lambda: self.call("systemctl", "is-active", "machine.target") == "active" or None, 20, self._log.read_text
        )

    def call(self, *command: str) -> str:
        """Run a command in there and return what it prints."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        enter = ["nsenter", "--target", children[0], "--mount", "--pid", "--cgroup", "--ipc", "--uts"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=60, check=False)
        return (done.stdout + done.stderr).strip()

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        lines = self.call("systemctl", "show", f"--property={','.join(properties)}", unit).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def start(self, unit: str) -> None:
        assert self.call("systemctl", "start", unit) == "", self.journal(unit)

    def journal(self, unit: str) -> str:
        return self.call("journalctl", "--no-pager", "--output=cat", f"--identifier={unit}")

    def status(self, unit: str) -> dict[str, str]:
        """Return what the kernel says of the unit's process."""
        pid = self.show(unit, "MainPID")["MainPID"]
        return dict(re.findall(r"^(\w+):\s*(.*)$", self.call("cat", f"/proc/{pid}/status"), re.MULTILINE))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def python() -> Path:
    """Return an interpreter that the unit may see, with which the installed packages work."""
    own = Path(sys.executable).resolve()
    if not own.is_relative_to("/root") and not own.is_relative_to("/home"):
        return own
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return Path(shutil.which(version, path="/usr/bin") or pytest.skip(f"{own} is hidden from services"))


def install(layer: Path) -> None:
    """Do to the layer what the README says, but with the packages that are here."""
    venv = layer / "opt/anthropic-exporter"
    subprocess.run([python(), "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python3*/site-packages")
    for name in re.findall(r"^([\w.-]+)==", (ROOT / "deploy/requirements.txt").read_text(), re.MULTILINE):
        with suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.distribution(name).files or ():
                if ".." not in file.parts:
                    (packages / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(str(file.locate()), packages / file)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps"]
    wheels = layer.with_name("wheels")
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", wheels, ROOT], check=True)
    subprocess.run([*pip, "--python", venv, "install", *offline, *wheels.glob("*.whl")], check=True)
    script = venv / "bin/anthropic-exporter"
    script.write_text(script.read_text().replace(str(layer), ""))
    units = layer / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "machine.target").write_text("[Unit]\nRequires=basic.target systemd-journald.service\n")
    # Without it the first boot of a machine is set up, which takes its time; containers have none.
    (layer / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    for unit, text in ((UNIT.stem, UNIT.read_text()), (OTHER, uncommented(UNIT.read_text()))):
        (units / f"{unit}.service").write_text(text)


def configure(layer: Path, unit: str, settings: Mapping[str, str]) -> Path:
    folder = layer / "etc" / unit
    folder.mkdir(mode=0o700)
    (folder / "admin-api-key").write_text(f"{KEY}\n")
    (folder / "admin-api-key").chmod(0o600)
    lines = [f"ANTHROPIC_EXPORTER_{name}={value}\n" for name, value in settings.items()]
    (folder / "environment").write_text("".join(lines))
    return folder


@contextmanager
def control_group() -> Iterator[Path]:
    """Make a control group; the machine takes it for the root of all, and its systemd touches no other."""
    found = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/self/mounts").read_text(), re.MULTILINE)
    group = Path(found[1] if found else "/sys/fs/cgroup") / f"test-machine-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield group
    finally:
        until(lambda: "populated 0" in (group / "cgroup.events").read_text() or None, 10, lambda: f"{group} lives on")
        for inner in sorted(group.glob("**/"), reverse=True):
            inner.rmdir()


@pytest.fixture(scope="module")
def ports() -> Mapping[str, int]:
    return {UNIT.stem: free_port(), OTHER: free_port()}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, ports: Mapping[str, int], authority: Authority
) -> Iterator[Machine]:
    tool("systemd-analyze")
    if os.geteuid() != 0:
        pytest.skip("only root can make a machine of its own")
    folder = tmp_path_factory.mktemp("machine")
    layer, scratch = folder / "layer", folder / "scratch"
    scratch.mkdir()
    install(layer)
    started = int(time.time()) - 3 * DAY
    organization = SimulatedOrganization(seed=7, started=started, arrival=Arrival(median=0, late_share=0), bill_delay=0)
    with serve(AdminApi(organization, key=KEY, clock=time.time)) as api, control_group() as group:
        url = api.url.replace("127.0.0.1", "localhost")
        for unit, port in ports.items():
            settings = {"API_BASE_URL": url, "WEB_LISTEN_ADDRESS": f"127.0.0.1:{port}", **QUICK}
            own = configure(layer, unit, settings)
        authority.write(own)
        (own / "cert.pem").rename(own / "server.crt")
        (own / "key.pem").rename(own / "server.key")
        (own / "web.yml").write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
        machine = Machine(layer, scratch, group)
        try:
            machine.boot()
            yield machine
        finally:
            machine.close()


def samples(url: str, authority: Authority) -> Page:
    """Return the metrics; none while nobody answers."""
    try:
        with httpx.Client(trust_env=False, verify=authority.client()) as client:
            text = client.get(url).raise_for_status().text
    except httpx.TransportError:
        return {}
    return parse(text)


def counting(machine: Machine, unit: str, url: str, authority: Authority) -> Page:
    """Wait until usage was read, and return the metrics."""

    def look() -> Page | None:
        found = samples(url, authority)
        return found if total(found, "anthropic_up", report="usage") == 1 else None

    return until(look, 20, lambda: machine.journal(unit))


def test_it_runs_as_nobody_and_resumes(machine: Machine, ports: Mapping[str, int], authority: Authority) -> None:
    unit, url = UNIT.stem, f"http://127.0.0.1:{ports[UNIT.stem]}/metrics"
    machine.start(unit)
    first = counting(machine, unit, url, authority)
    assert value(first, LOADED) == 0
    assert value(first, "process_start_time_seconds") > time.time() - 60
    status = machine.status(unit)
    uid = int(status["Uid"].split()[0])
    assert uid in DYNAMIC_USERS
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    kept = machine.call("stat", "--format=%u %a %n", "-L", f"/var/lib/{unit}", f"/var/lib/{unit}/{unit}.db")
    assert kept == f"{uid} 700 /var/lib/{unit}\n{uid} 600 /var/lib/{unit}/{unit}.db"

    begun = time.monotonic()
    assert machine.call("systemctl", "stop", unit) == ""
    seconds = time.monotonic() - begun
    ended = machine.show(unit, "Result", "ExecMainStatus", "ActiveState")
    assert (ended, seconds < 5) == ({"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}, True)

    machine.start(unit)
    again = counting(machine, unit, url, authority)
    assert value(again, LOADED) == 1
    assert watermark(again) >= watermark(first)
    log = machine.journal(unit)
    assert "Traceback" not in log
    assert KEY not in log


def test_a_crash_is_followed_by_a_start_and_wrong_settings_are_not(machine: Machine) -> None:
    unit = UNIT.stem
    machine.call("systemctl", "restart", unit)
    machine.call("systemctl", "kill", "--signal=KILL", unit)
    state = "SubState"
    until(lambda: machine.show(unit, state)[state] == "auto-restart" or None, 10, lambda: machine.journal(unit))
    machine.call("bash", "-c", f"echo ANTHROPIC_EXPORTER_USAGE_SETLE=1 >>/etc/{unit}/environment")
    machine.call("systemctl", "restart", unit)
    until(lambda: machine.show(unit, state)[state] == "failed" or None, 10, lambda: machine.journal(unit))
    assert machine.show(unit, "ExecMainStatus") == {"ExecMainStatus": "2"}
    assert "unknown environment variable ANTHROPIC_EXPORTER_USAGE_SETLE" in machine.journal(unit)


def test_a_copy_is_a_second_organisation_and_its_comments_are_tls(
    machine: Machine, ports: Mapping[str, int], authority: Authority
) -> None:
    machine.start(OTHER)
    url = f"https://127.0.0.1:{ports[OTHER]}/metrics"
    assert value(counting(machine, OTHER, url, authority), LOADED) == 0
    assert machine.call("ls", f"/var/lib/{OTHER}/anthropic-exporter.db") == f"/var/lib/{OTHER}/anthropic-exporter.db"
