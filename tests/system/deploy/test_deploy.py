"""What plant IT installs: the unit, the installer, the broker's sample, containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import trustme
import yaml
from paho.mqtt import client as paho

from tests.support.mqtt_peers import Mosquitto, wait_until
from tests.support.places import ROOT

DEPLOY = ROOT / "deploy"


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=170, env=os.environ | environment, check=False
    )


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed: run tests/setup-services.sh as root")
    return found


@pytest.mark.parametrize(("without_torch", "most"), [(False, 1.6), (True, 1.5)])
def test_the_unit_leaves_little_open(without_torch: bool, most: float, analyze: str, tmp_path: Path) -> None:
    """Its exposure by systemd's own count, with cameras and graphics cards."""
    unit = tmp_path / "mekiki.service"
    text = (DEPLOY / "mekiki.service").read_text()
    if without_torch:
        more = (DEPLOY / "10-without-torch.conf").read_text().partition("[Service]\n")[2]
        text = text.replace("[Service]\n", f"[Service]\n{more}")
    unit.write_text(text)
    found = run(analyze, "security", "--offline=true", f"--threshold={round(10 * most)}", str(unit))
    assert found.returncode == 0, found.stdout[-300:]
    assert run(analyze, "security", "--offline=true", "--threshold=5", str(unit)).returncode != 0


def test_the_unit_says_nothing_that_systemd_does_not_know(analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / "mekiki.service"
    text = (DEPLOY / "mekiki.service").read_text()
    unit.write_text(text.replace("/opt/mekiki/current/bin/mekiki", "/bin/true"))
    found = run(analyze, "verify", "--man=no", str(unit))
    assert (found.returncode, found.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("OOMPolicy", "OOMPolitics"))
    assert "OOMPolitics" in run(analyze, "verify", "--man=no", str(unit)).stderr


def test_shell_scripts_and_containers_are_clean() -> None:
    tools = Path(sys.executable).parent
    scripts = [*DEPLOY.glob("*.sh"), *(ROOT / "tests").glob("*.sh"), ROOT / ".ci" / "run"]
    found = run(str(tools / "shellcheck"), *map(str, scripts))
    assert found.returncode == 0, found.stdout
    files = sorted((DEPLOY / "docker").glob("Dockerfile.*"))
    assert len(files) == 3
    found = run(str(tools / "hadolint"), *map(str, files))
    assert found.returncode == 0, found.stdout
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    built = compose["services"]["mekiki"]["build"]
    assert (DEPLOY / "docker" / built["context"] / built["dockerfile"]).is_file()


class Site:
    """A root folder to install into, from a copy of what is needed of the checkout."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.root = folder / "checkout", folder / "root"
        kept = ["agent", "camera", "adapters", "deploy"]
        for name in kept:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.checkout / name, ignore=ignored)
        for name in [
            "pyproject.toml",
            "constraints.txt",
            "config.yaml",
            "README.md",
            "CHANGELOG.md",
            "LICENSE",
        ]:
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, self.checkout / name)
        self.opt = self.root / "opt" / "mekiki"

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Everything but us comes from the tests' environment, the build tool included."""
        return run(
            str(self.checkout / "deploy" / "install.sh"), "--root", str(self.root), *arguments,
            PYTHON=sys.executable, PYTHONPATH=sysconfig.get_path("purelib"),
            PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0",
        )  # fmt: skip

    def release(self, version: str) -> None:
        module = self.checkout / "agent" / "__init__.py"
        lines = module.read_text().splitlines()
        new = [f'__version__ = "{version}"' if line.startswith("__version__") else line for line in lines]
        module.write_text("\n".join(new) + "\n")

    def current(self) -> str:
        return str((self.opt / "current").readlink())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_install_upgrade_and_roll_back(tmp_path: Path) -> None:
    """Config stays, two versions are kept, and one that does not accept the config is not switched to."""
    site = Site(tmp_path)
    site.release("1.0.0")
    found = site.install()
    assert found.returncode == 0, found.stderr
    assert site.current().startswith("1.0.0-")
    etc = site.root / "etc"
    for name in ("systemd/system/mekiki.service", "udev/rules.d/70-mekiki-cameras.rules"):
        assert (etc / name).is_file()
    assert (etc / "systemd/system/mekiki.service.d/10-without-torch.conf").is_file()
    config = etc / "mekiki" / "config.yaml"
    assert yaml.safe_load(config.read_text())["agent"]["data_dir"] == "/var/lib/mekiki"
    config.write_text(config.read_text().replace("id: line-1", "id: press-7"))

    assert site.install("--rollback").returncode == 1
    first = site.current()
    site.release("1.1.0")
    shipped = site.checkout / "deploy" / "mekiki.service"
    shipped.write_text(shipped.read_text().replace("WatchdogSec=30", "WatchdogSec=31"))
    found = site.install()
    assert found.returncode == 0, found.stderr
    second = site.current()
    assert second.startswith("1.1.0-")
    assert "id: press-7" in config.read_text()
    unit = etc / "systemd/system/mekiki.service"
    assert "WatchdogSec=31" in unit.read_text()

    # What the first one does not know stops the return before it begins, and what it ran with is there.
    left_with = config.read_text()
    config.write_text(left_with.replace("stations:", "statoins:"))
    found = site.install("--rollback")
    assert found.returncode == 78
    assert "statoins" in found.stderr
    kept = site.opt / first / "kept"
    assert f"sudo cp {kept}/config.yaml {config}" in found.stderr
    assert (site.current(), kept.stat().st_mode & 0o777) == (second, 0o700)
    assert "WatchdogSec=31" in unit.read_text()
    shutil.copy(kept / "config.yaml", config)
    assert config.read_text() == left_with

    assert site.install("--rollback").returncode == 0
    assert site.current() == first
    assert str((site.opt / "previous").readlink()) == second
    assert "WatchdogSec=30" in unit.read_text()
    assert (etc / "systemd/system/mekiki.service.d/10-without-torch.conf").is_file()

    # What is not there now, such as the secrets of a service that is down, stops neither return nor upgrade.
    left_with = config.read_text()
    secret = "${file:/run/credentials/mekiki.service/secrets_mqtt}"
    gone = yaml.safe_load(left_with)
    gone["mqtt"] |= {"username": "agent", "password": secret}
    gone["stations"]["disk"] = {
        **next(iter(gone["stations"].values())),
        "camera": {"kind": "folder", "path": "/no"},
    }
    config.write_text(yaml.safe_dump(gone))
    for old in (False, True):
        if old:  # a release that does not know of it, as 0.1.0
            for version in (first, second):
                (parser,) = (site.opt / version).glob("lib/python*/site-packages/agent/cli/parser.py")
                parser.write_text(parser.read_text().replace('"--installed"', '"--other", dest="installed"'))
        found = site.install("--rollback")
        assert found.returncode == 0, found.stderr
    assert site.current() == first
    config.write_text(config.read_text().replace("stations:", "statoins:"))
    found = site.install("--rollback")
    assert found.returncode == 78
    assert "secrets_mqtt" not in found.stderr
    config.write_text(left_with)

    config.write_text(config.read_text().replace("stations:", "statoins:"))
    site.release("1.2.0")
    found = site.install()
    assert found.returncode == 78
    assert "statoins" in found.stderr
    assert site.current() == first
    assert sorted(path.name for path in site.opt.iterdir()) == sorted([first, second, "current", "previous"])

    config.write_text(config.read_text().replace("statoins:", "stations:"))
    found = site.install()
    assert found.returncode == 0, found.stderr
    assert site.current().startswith("1.2.0-")
    kept = {path.name for path in site.opt.iterdir() if not path.is_symlink()}
    assert kept == {site.current(), first}


def test_the_installer_says_what_is_wrong(tmp_path: Path) -> None:
    script = str(DEPLOY / "install.sh")
    assert run(script, "--frobnicate").returncode == 64
    assert run(script, "--root").returncode == 64
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    found = run(script, "--root", str(tmp_path / "root"), "--python", str(old))
    assert found.returncode == 1
    assert "3.11" in found.stderr
    assert not (tmp_path / "root").exists()


@pytest.mark.broker
def test_the_sample_broker_lets_each_agent_into_its_own_tree_alone(tmp_path: Path) -> None:
    """And nobody without a certificate."""
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is not installed: run tests/setup-services.sh as root")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    broker_cert = authority.issue_cert("127.0.0.1")
    broker_cert.private_key_pem.write_to_path(tmp_path / "broker.key")
    broker_cert.cert_chain_pems[0].write_to_path(tmp_path / "broker.pem")
    sample = (DEPLOY / "mosquitto" / "mekiki.conf").read_text()
    sample = sample.replace("/etc/mosquitto/certs", str(tmp_path)).replace(
        "/var/lib/mosquitto", str(tmp_path)
    )
    sample = sample.replace("/etc/mosquitto/mekiki.acl", str(DEPLOY / "mosquitto" / "mekiki.acl"))
    broker = Mosquitto(tmp_path, "")
    (tmp_path / "mosquitto.conf").write_text(
        "user root\n" + sample.replace("listener 8883", f"listener {broker.port} 127.0.0.1")
    )
    broker.start()
    try:
        heard: list[str] = []
        scada = client(broker.port, tmp_path, authority, "scada")
        scada.on_message = lambda *arguments: heard.append(arguments[2].topic)
        scada.subscribe("mekiki/#", 1)
        agent = client(broker.port, tmp_path, authority, "line-1")
        for topic in ("mekiki/line-2/top/result", "mekiki/line-1/top/result"):
            agent.publish(topic, b"{}", 1).wait_for_publish(10)
        wait_until(lambda: heard != [])
        assert heard == ["mekiki/line-1/top/result"]
        scada.publish("mekiki/line-1/cmd/request/reload", b"{}", 1).wait_for_publish(10)
        mes = client(broker.port, tmp_path, authority, "mes")
        mes.publish("mekiki/line-1/cmd/request/ping", b"{}", 1).wait_for_publish(10)
        wait_until(lambda: len(heard) > 1)
        assert heard[1:] == ["mekiki/line-1/cmd/request/ping"]
        with pytest.raises(OSError, match=r"(?i)certificate|reset|closed|timed out"):
            client(broker.port, tmp_path, authority, None)
        for one in (scada, agent, mes):
            one.disconnect()
            one.loop_stop()
    finally:
        broker.kill()


def client(port: int, folder: Path, authority: trustme.CA, name: str | None) -> paho.Client:
    """Connect with a certificate of that common name; None shows none."""
    one = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    if name is None:
        one.tls_set(str(folder / "ca.pem"))
    else:
        shown = authority.issue_cert(common_name=name)
        shown.private_key_pem.write_to_path(folder / f"{name}.key")
        shown.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        one.tls_set(str(folder / "ca.pem"), str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    one.connect("127.0.0.1", port)
    one.loop_start()
    wait_until(one.is_connected, 10) if name else _must_connect(one)
    return one


def _must_connect(one: paho.Client) -> None:
    try:
        wait_until(one.is_connected, 2)
    except AssertionError:
        raise ConnectionError("closed: no connection without a certificate") from None
    finally:
        one.loop_stop()
