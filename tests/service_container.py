"""The service under a real systemd: ``python -m tests.service_container``, as root, with systemd-nspawn.

A Debian that debootstrap makes boots in a container; `deploy/install.sh` installs there what is in this
checkout, and then the service is started, hung, killed, given a bad config, a baseline and a learned version,
upgraded to a release that adds to everything that is stored, rolled back, and given versions that do not come
up or whose data the older one cannot use. Takes some minutes and 1.5 GB; not a part of `make test`.

`--from COMMIT` upgrades from the release of that commit to this checkout and returns; `--only WORDS` takes
the steps whose names hold one of the words.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import releases
from tests.support.places import ROOT

PACKAGES = "systemd,systemd-sysv,dbus,udev,python3,python3-venv,ca-certificates"
KEPT = ("agent", "camera", "adapters", "deploy")
FILES = ("pyproject.toml", "constraints.txt", "config.yaml", "README.md", "CHANGELOG.md", "LICENSE")
PATIENCE_S = 120.0


class Machine:
    """A booted container.

    Args:
        folder: its root file system.
        leader: process id of its init, seen from here.
    """

    def __init__(self, folder: Path, leader: int) -> None:
        self.folder, self._leader = folder, leader

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command in it, as root."""
        inside = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return subprocess.run(
            [*inside, "sh", "-c", command], capture_output=True, text=True, timeout=900, env=_environment()
        )

    def must(self, command: str) -> str:
        """Run a command that is to succeed; return what it prints."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def show(self, what: str) -> str:
        """Return a property of the service."""
        return self.must(f"systemctl show mekiki -P {what}")


def main() -> None:
    """Try all of it, and say what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, default=Path("/var/tmp/mekiki-debian"), help="made if absent")
    parser.add_argument("--bind", nargs="*", default=[], help="folders that pip needs there, read-only")
    parser.add_argument("--from", dest="commit", help="upgrade from the release of this commit, and return")
    parser.add_argument("--only", nargs="*", default=[""], help="steps whose names hold one of these words")
    arguments = parser.parse_args()
    steps: list[Step] = list(STEPS)
    if arguments.commit:
        steps = [
            lambda machine: _installs_a_commit(machine, arguments.commit),
            _learns,
            _upgrades_to_this_checkout_and_goes_back,
        ]
        steps[0].__name__ = f"_installs_{arguments.commit}"
    steps = [step for step in steps if any(word in step.__name__ for word in arguments.only)]
    if not (arguments.base / "bin").exists():
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={PACKAGES}",
            "bookworm",
            str(arguments.base),
        ]
        subprocess.run(command, check=True)
    with _booted(arguments.base, arguments.bind) as machine:
        for step in steps:
            began = time.monotonic()
            said = step(machine)
            seconds = time.monotonic() - began
            sys.stdout.write(f"{step.__name__[1:].replace('_', ' ')}: {said} ({seconds:.1f} s)\n")
            sys.stdout.flush()


def _installs(machine: Machine) -> str:
    _release(machine, "1.0.0")
    machine.must("/root/checkout/deploy/install.sh")
    assert machine.show("ActiveState") == "active"
    assert machine.show("User") == "mekiki"
    uid = machine.must("id -u mekiki")
    assert machine.must(f"stat -c %u /proc/{machine.show('MainPID')}") == uid
    _more_verdicts(machine)
    exposure = machine.must("systemd-analyze security --no-pager mekiki | tail -1")
    return f"active, inspects as a user of its own; {exposure.partition(':')[2].strip()[:3]}"


def _writes_only_its_data(machine: Machine) -> str:
    inside = f"nsenter -t {machine.show('MainPID')} -m -S $(id -u mekiki) -G $(id -g mekiki) touch"
    assert machine.run(f"{inside} /var/lib/mekiki/x").returncode == 0
    for place in ("/etc/mekiki/x", "/opt/mekiki/x", "/usr/x", "/home/x"):
        assert machine.run(f"{inside} {place}").returncode != 0, place
    return "elsewhere it is refused"


def _a_hang_is_ended_by_the_watchdog(machine: Machine) -> str:
    restarts, hung = int(machine.show("NRestarts")), machine.show("MainPID")
    began = time.monotonic()
    machine.must(f"kill -STOP {hung}")
    _until(lambda: int(machine.show("NRestarts")) > restarts and machine.show("ActiveState") == "active")
    seconds = time.monotonic() - began
    assert "atchdog" in machine.must("journalctl -u mekiki -o cat")
    _more_verdicts(machine)
    return f"inspects again {seconds:.0f} s after it hung"


def _a_kill_is_answered_by_a_start(machine: Machine) -> str:
    restarts, began = int(machine.show("NRestarts")), time.monotonic()
    machine.must(f"kill -KILL {machine.show('MainPID')}")
    _until(lambda: int(machine.show("NRestarts")) > restarts and machine.show("ActiveState") == "active")
    seconds = time.monotonic() - began
    _until(lambda: "the last run: killed" in machine.must("journalctl -u mekiki -o cat"))
    _more_verdicts(machine)
    return f"ready {seconds:.1f} s later, RestartSec included, and says that it was killed"


def _a_stop_is_orderly(machine: Machine) -> str:
    began = time.monotonic()
    machine.must("systemctl stop mekiki")
    seconds = time.monotonic() - began
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    assert seconds < 10
    assert "0 lost" in machine.must("journalctl -u mekiki -o cat -n 3")
    machine.must("systemctl start mekiki")
    return f"{seconds:.1f} s, nothing lost"


def _a_config_is_reloaded(machine: Machine) -> str:
    machine.must("sed -i 's/^  level: info/  level: debug/' /etc/mekiki/config.yaml")
    _until(lambda: "log.level" in machine.must("journalctl -u mekiki -o cat -n 20"))
    machine.must("sed -i 's/^  level: debug/  level: info/' /etc/mekiki/config.yaml")
    machine.must("systemctl reload mekiki")
    _until(lambda: "debug -> info" in machine.must("journalctl -u mekiki -o cat -n 20"))
    return machine.must("journalctl -u mekiki -o cat | grep log.level | tail -1")


def _a_bad_config_starts_with_the_last_good_one(machine: Machine) -> str:
    machine.must("cp /etc/mekiki/config.yaml /root/good.yaml")
    machine.must("sed -i s/^stations:/statoins:/ /etc/mekiki/config.yaml")
    machine.must("systemctl restart mekiki")
    _more_verdicts(machine)
    said = machine.must("journalctl -u mekiki -o cat | grep 'config refused' | tail -1")
    machine.must("cp /root/good.yaml /etc/mekiki/config.yaml && systemctl reload mekiki")
    _until(lambda: "good again" in machine.must("journalctl -u mekiki -o cat -n 20"))
    return said


def _a_bad_config_is_not_tried_again(machine: Machine) -> str:
    machine.must("rm -r /var/lib/mekiki/last_good")
    machine.must("sed -i s/^stations:/statoins:/ /etc/mekiki/config.yaml")
    assert machine.run("systemctl restart mekiki").returncode != 0
    restarts = machine.show("NRestarts")
    time.sleep(6)  # thrice RestartSec
    assert (machine.show("ActiveState"), machine.show("ExecMainStatus")) == ("failed", "78")
    assert machine.show("NRestarts") == restarts
    said = machine.must("journalctl -u mekiki -o cat | grep statoins | tail -1")
    machine.must("cp /root/good.yaml /etc/mekiki/config.yaml && systemctl start mekiki")
    return said


def _installs_a_commit(machine: Machine, commit: str) -> str:
    checkout = machine.folder / "root" / "checkout"
    shutil.rmtree(checkout, ignore_errors=True)
    assert releases.archived(checkout, commit) is not None, f"there is no commit {commit} here"
    machine.must("/root/checkout/deploy/install.sh")
    _more_verdicts(machine)
    return machine.must("readlink /opt/mekiki/current")


def _learns(machine: Machine) -> str:
    """Give the station a baseline and a version that answers, as hours of a line would."""
    machine.must("sed -i 's/mode: adaptive /mode: frozen /' /etc/mekiki/config.yaml")
    return f"version {_at_site(machine, 'commission', 'promote')[0]} answers"


def _upgrades_and_goes_back(machine: Machine) -> str:
    return _there_and_back(machine, lambda: _release(machine, "1.1.0", releases.additive))


def _upgrades_to_this_checkout_and_goes_back(machine: Machine) -> str:
    return _there_and_back(machine, lambda: _release(machine, "1.1.0"))


def _there_and_back(machine: Machine, newer: Callable[[], object]) -> str:
    """Upgrade, learn, return and go forth again: numbers, versions, baseline and config stay."""
    first, before = machine.must("readlink /opt/mekiki/current"), _answers(machine)
    config = machine.must("sha256sum /etc/mekiki/config.yaml")
    newer()
    machine.must("/root/checkout/deploy/install.sh")
    second = machine.must("readlink /opt/mekiki/current")
    assert second.startswith("1.1.0-")
    _more_verdicts(machine)
    assert _answers(machine) == before
    learned = _at_site(machine, "rewrite", "promote")
    assert learned[0] == before[0] + 1
    assert learned[3] == before[3]
    _require_whole(machine)
    for version in (first, second, first):
        machine.must("/root/checkout/deploy/install.sh --rollback")
        assert machine.must("readlink /opt/mekiki/current") == version
        _more_verdicts(machine)
        assert _answers(machine) == learned
        _require_whole(machine)
    assert machine.must("sha256sum /etc/mekiki/config.yaml") == config
    return (
        f"back, forth and back again: {_stored(machine)} results without a gap, version {learned[0]} answers"
    )


def _data_of_a_release_that_cannot_be_read_is_no_way_back(machine: Machine) -> str:
    first = machine.must("readlink /opt/mekiki/current")
    _release(machine, "1.3.0", releases.breaking)
    machine.must("/root/checkout/deploy/install.sh")
    newer = machine.must("readlink /opt/mekiki/current")
    assert newer.startswith("1.3.0-")
    _more_verdicts(machine)
    before = _answers(machine)
    done = machine.run("/root/checkout/deploy/install.sh --rollback")
    assert done.returncode == 1, done.stdout + done.stderr
    assert machine.must("readlink /opt/mekiki/current") == newer
    assert machine.must("readlink /opt/mekiki/previous") == first
    _more_verdicts(machine)
    assert _answers(machine) == before
    # Nor can that one read versions of before: it was made of this checkout by changing names of formats.
    _require_whole(machine, "store check", "audit verify")
    assert "mekiki.db: written by a newer version of the agent (release 1.3.0, schema 4)" in machine.must(
        "journalctl -u mekiki -o cat"
    )
    return done.stderr.strip().splitlines()[-1]


def _a_version_that_does_not_come_up_is_left(machine: Machine) -> str:
    first, before = (machine.must(f"readlink /opt/mekiki/{name}") for name in ("current", "previous"))
    _release(machine, "1.2.0")
    machine.must(
        "printf 'raise RuntimeError(\"of this release\")\\n' >> /root/checkout/agent/inspection/inspector.py"
    )
    done = machine.run("/root/checkout/deploy/install.sh")
    assert done.returncode == 1, done.stdout + done.stderr
    assert machine.must("readlink /opt/mekiki/current") == first
    assert machine.must("readlink /opt/mekiki/previous") == before
    assert "1.2.0" not in machine.must("ls /opt/mekiki")
    assert machine.show("ActiveState") == "active"
    _more_verdicts(machine)
    return done.stderr.strip().splitlines()[-1]


Step = Callable[[Machine], str]
STEPS: tuple[Step, ...] = (
    _installs,
    _writes_only_its_data,
    _a_stop_is_orderly,
    _a_kill_is_answered_by_a_start,
    _a_hang_is_ended_by_the_watchdog,
    _a_config_is_reloaded,
    _a_bad_config_starts_with_the_last_good_one,
    _a_bad_config_is_not_tried_again,
    _learns,
    _upgrades_and_goes_back,
    _a_version_that_does_not_come_up_is_left,
    _data_of_a_release_that_cannot_be_read_is_no_way_back,
)


def _more_verdicts(machine: Machine) -> None:
    """Wait until more is stored than now."""
    before = _stored(machine)
    _until(lambda: _stored(machine) > before)


def _stored(machine: Machine) -> int:
    return int(_asked(machine, "SELECT IFNULL(MAX(seq), 0) FROM verdict"))


def _asked(machine: Machine, query: str) -> str:
    """Ask the database, while the agent writes."""
    place = machine.folder / "root" / "ask.py"
    place.write_text(
        "import sqlite3, sys\n"
        "db = sqlite3.connect('file:/var/lib/mekiki/mekiki.db?mode=ro', uri=True, timeout=30)\n"
        "print(db.execute(sys.argv[1]).fetchone()[0])\n"
    )
    return machine.must(f'/opt/mekiki/current/bin/python /root/ask.py "{query}"')


def _answers(machine: Machine) -> tuple:
    """Return what the newest result was decided with: version, its digest, operating point, baseline."""
    payload = _asked(machine, "SELECT payload FROM verdict ORDER BY seq DESC LIMIT 1")
    provenance = json.loads(payload)["provenance"]
    return tuple(provenance[name] for name in ("adapter", "adapter_digest", "offset", "commissioning"))


def _at_site(machine: Machine, *verbs: str) -> tuple:
    """Do what takes a line hours, as the service's user, while the service is stopped."""
    helpers = machine.folder / "opt" / "tests" / "support"
    helpers.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "places.py", "releases.py"):
        shutil.copy(ROOT / "tests" / "support" / name, helpers)
    machine.must("systemctl stop mekiki")
    user = "setpriv --reuid mekiki --regid mekiki --clear-groups --no-new-privs"
    python = "env PYTHONPATH=/opt /opt/mekiki/current/bin/python -m tests.support.releases"
    commands = json.dumps([["line", "/etc/mekiki/config.yaml", *verbs]])
    machine.must(f"cd /var/lib/mekiki && {user} {python} '{commands}'")
    machine.must("systemctl start mekiki")
    _more_verdicts(machine)
    return _answers(machine)


def _require_whole(machine: Machine, *commands: str) -> None:
    """Let the version that runs look at everything that is stored, or by these commands only."""
    user = "setpriv --reuid mekiki --regid mekiki --clear-groups"
    for command in commands or ("store check", "adapter verify", "audit verify"):
        machine.must(f"{user} /opt/mekiki/current/bin/mekiki {command} --config /etc/mekiki/config.yaml")
    count, last = _asked(machine, "SELECT COUNT(*) || ' ' || MAX(seq) FROM verdict").split()
    assert count == last, f"{count} results, the last is number {last}"
    assert machine.run("ls /var/lib/mekiki/mekiki.db.damaged-*").returncode != 0


def _release(
    machine: Machine, version: str, change: Callable[[Path], object] = lambda checkout: None
) -> None:
    """Put a checkout of that version into the container.

    Args:
        change: makes another release of it.
    """
    checkout = machine.folder / "root" / "checkout"
    shutil.rmtree(checkout, ignore_errors=True)
    for name in KEPT:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, checkout / name)
    module = checkout / "agent" / "__init__.py"
    module.write_text(
        re.sub('^__version__ = ".*"', f'__version__ = "{version}"', module.read_text(), flags=re.M)
    )
    change(checkout)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.2)


@contextmanager
def _booted(base: Path, bind: list[str]) -> Iterator[Machine]:
    """Boot a copy of the base, and throw it away."""
    folder = base.with_name(f"{base.name}-{os.getpid()}")
    subprocess.run(["cp", "-a", str(base), str(folder)], check=True)
    settings = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    # What the environment says comes first, and what the file says after it is left out.
    said = dict(reversed([line.partition(".")[2].split("=", 1) for line in settings.splitlines()]))
    lines = [f"{name} = {value.strip(chr(39))}\n" for name, value in said.items()]
    (folder / "etc" / "pip.conf").write_text("".join(["[global]\n", *lines]))
    command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "-D", str(folder)]
    # The host's network, names and certificates, for pip alone.
    command += ["--resolv-conf=copy-host", "--bind-ro=/etc/ssl/certs"]
    command += [f"--bind-ro={place}" for place in bind]
    log = folder.with_suffix(".log").open("w")
    nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
        _until(lambda: children.read_text().split() != [])
        machine = Machine(folder, int(children.read_text().split()[0]))
        _until(lambda: machine.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"))
        yield machine
    except BaseException:
        sys.stderr.write(machine.run("journalctl -u mekiki -o cat -n 60").stdout)
        raise
    finally:
        nspawn.send_signal(signal.SIGTERM)
        try:
            nspawn.wait(30)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()
        log.close()
        shutil.rmtree(folder)


def _environment() -> dict[str, str]:
    """Return what a shell in the container is to know: where packages come from."""
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return kept | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


if __name__ == "__main__":
    main()
