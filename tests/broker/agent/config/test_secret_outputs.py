"""What a real agent says, in every way that it has, while passwords are right, wrong and misspelt."""

from __future__ import annotations

import base64
import re
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.base import logs
from agent.cli.main import main
from agent.reload import last_known_good
from tests.support.configs import MINIMAL, load_text, problems_in, station
from tests.support.mqtt_peers import Subscriber, mosquitto, wait_until

PATIENCE_S = 300.0
PASSWORD = 'Gehe@imnis7/Sesam#oeff?nedich%Mond:Blau +&\\ü"Kern'
PIECES = [word for word in re.split(r"\W+", PASSWORD) if len(word) >= 4]
PLACES = {
    "unknown scheme": "rtps://admin:Gehe/imnis7@10.0.0.1/Sesam",
    "no scheme": "admin:Gehe/imnis7@10.0.0.1/Sesam",
    "one slash": "rtsp:/admin:Gehe@imnis7@10.0.0.1/Sesam",
    "no colon": "rtsp//admin:Geheimnis7@10.0.0.1/Sesam",
    "slash": "rtsp://admin:Gehe/imnis7@10.0.0.1/Sesam",
    "at": "rtsp://admin:Gehe@imnis7@10.0.0.1/Sesam",
    "hash": "http://admin:Gehe#imnis7@10.0.0.1/Sesam",
    "port": "rtsp://admin:1234/imnis7@10.0.0.1/Sesam",
    "percent": "rtsp://admin:Gehe%imnis7@10.0.0.1/Sesam",
    "blank": "rtsp://admin:Gehe imnis7@10.0.0.1/Sesam",
    "backslash": "rtsp:\\\\admin:Gehe\\imnis7@10.0.0.1\\Sesam",
    "no host": "rtsp://admin:Gehe",
    "path": "10.0.0.1/Geheimnis7",
    "query": "camera/1?user=admin&pwd=Geheimnis7",
    "pipeline": "rtspsrc location=rtsp://admin:Gehe/imnis7@10.0.0.1/Sesam user-pw=Sesam ! appsink",
}


def seen(text: str) -> list[str]:
    """Return the pieces of secrets that are in a text."""
    return [piece for piece in (*PIECES, "Geheimnis", "1234/") if piece in text]


@pytest.mark.parametrize("source", PLACES.values(), ids=PLACES)
def test_check_refuses_a_misspelt_address_and_shows_nothing_of_it(
    tmp_path: Path, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Key and line stand in the message, the value does not; also by reference, also in station_defaults."""
    (tmp_path / "whole").write_text(source)
    for written in (source, "${file:whole}"):
        camera = yaml.safe_dump({"kind": "opencv", "source": written}, default_flow_style=True, width=1000)
        path = tmp_path / "config.yaml"
        path.write_text(station(f"{{camera: {camera.strip()}, recipe: line}}"))
        code = main(["check", "-c", str(path)])
        output = "".join(capfd.readouterr())
        if not source.startswith("rtspsrc"):  # whether it can be opened is not for check to say
            assert code == 78
            assert f"{path}:7: stations.b.camera.source: " in output
        assert seen(output) == []


@pytest.mark.parametrize(
    "text",
    [
        "mqtt: {host: 'mqtt://user:Gehe/imnis7@broker'}",
        "mqtt: {host: 'user:Geheimnis7@broker'}",
        "metrics: {host: 'http://user:Gehe/imnis7@h'}",
        "mqtt: {username: u, password: [Geheimnis7]}",
        "mqtt: {username: u, password: {Geheimnis7: x}}",
        "mqtt: {username: {a: Geheimnis7}}",
        "mqtt: {username: u, pasword: Geheimnis7}",
        "mqtt: {username: u, password:Geheimnis7}",
        "mqtt: {username: u, pasword=Geheimnis7}",
        "mqtt: {username: u, password: *Geheimnis7}",
        "mqtt: {username: u, password: !Geheimnis7 x}",
        "mqtt: {username: u, password: !Geheimnis7! x}",
        "mqtt: {username: u, password: %Geheimnis7}",
        "mqtt: {username: u, password: @Geheimnis7}",
        "mqtt: {username: u, password: 'Geheimnis7}",
        'mqtt: {username: u, password: "Sesam\\Geheimnis7"}',
        "mqtt: {username: u, password: Sesam: Geheimnis7}",
        "mqtt:\n  username: u\n  password Geheimnis7\n  port: 1883",
        "mqtt:\n  username: u\n  password: a\n Geheimnis7: b",
        "mqtt: {username: u, password: a, password: Geheimnis7}",
        "mqtt: 'mqtt://user:Gehe/imnis7@h'",
        "mqtt: {username: u, password: '${env:Gehe/imnis7}'}",
        "mqtt: {username: u, password: '${Geheimnis7}'}",
        "mqtt: {username: 1, password: 12345}",
        "metrics: {token: Sesam}",
        "webhook: 'https://Geheimnis7@h/Sesam'",
        "log: {level: 'rtps://admin:Gehe/imnis7@h'}",
        "agent: {id: 'rtps://admin:Gehe/imnis7@h'}",
        "model: {engine: 'rtps://admin:Gehe/imnis7@h'}",
        "model: {bundle: 'rtps://admin:Gehe/imnis7@h'}",
        "mqtt: {tls: {ca: 'rtps://admin:Gehe/imnis7@h'}}",
    ],
)
def test_no_message_about_a_config_shows_a_secret(tmp_path: Path, text: str) -> None:
    """Wrong types, unknown and double keys, mistakes of YAML: none of them quotes the value."""
    problems = problems_in(tmp_path, f"{MINIMAL}{text}\n")
    assert problems
    assert seen("\n".join(problems)) == []


@pytest.mark.parametrize(
    "text",
    [
        "camera: 'rtps://admin:Gehe/imnis7@h'",
        "camera: {kind: 'rtps://admin:Gehe/imnis7@h'}",
        "camera: {kind: folder, path: 'rtps://admin:Gehe/imnis7@h'}",
        "camera: {kind: recording, path: 'admin:Gehe/imnis7@h'}",
        "camera: {kind: opencv, source: [Geheimnis7]}",
        "camera: {kind: opencv, source: {rtsp://admin:Geheimnis7@h: x}}",
        "camera: {kind: opencv, sorce: 'rtsp://admin:Geheimnis7@h'}",
        "camera: {kind: opencv, source: 0, fps: 'rtsp://admin:Gehe/imnis7@h'}",
        "'rtsp://admin:Geheimnis7@h': {}",
        "recipe: 'rtps://admin:Gehe/imnis7@h'",
    ],
)
def test_no_message_about_a_station_shows_a_secret(tmp_path: Path, text: str) -> None:
    """An address in the wrong place is none the less one."""
    rest = "" if text.startswith("recipe") else "\n    recipe: line"
    camera = "camera: {kind: simulated}\n    " if text.startswith("recipe") else ""
    problems = problems_in(tmp_path, station(f"{camera}{text}{rest}"))
    assert problems
    assert seen("\n".join(problems)) == []


def test_what_libraries_log_and_raise_is_masked(capfd: pytest.CaptureFixture[str]) -> None:
    """The last barrier: an address with a password in a line or a traceback, as text and as JSON."""
    before = logs.logging.getLogger().handlers[:]
    try:
        for style in ("text", "json"):
            logs.set_up("info", style)
            logger = logs.logging.getLogger("agent.test")
            try:
                raise OSError("rtsp://admin:Gehe/imnis7@h: no route")
            except OSError:
                logger.exception("tried http://admin:Geheimnis7@h/?password=Sesam")
            output = capfd.readouterr().err
            assert "no route" in output
            assert seen(output) == []
    finally:
        logs.logging.getLogger().handlers[:] = before


def test_what_is_kept_of_the_config_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds literal passwords, as the file does; also where the folder was there before."""
    loaded = load_text(tmp_path, f"{MINIMAL}mqtt: {{username: u, password: Geheimnis7}}\n")
    folder = Path(loaded.config.agent.data_dir) / "last_good"
    folder.mkdir(parents=True)
    last_known_good.keep(loaded)
    (kept,) = folder.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert last_known_good.find(tmp_path / "config.yaml") is not None


class Camera:
    """A camera that wants Basic authentication and then has no picture; keeps what it was told."""

    def __init__(self, folder: Path) -> None:
        self.logins: list[str] = []
        camera = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while request := self._request():
                    number = re.search(r"(?im)^cseq: *(\d+)", request)
                    login = re.search(r"(?im)^authorization: basic (\S+)", request)
                    if login:
                        camera.logins.append(base64.b64decode(login[1]).decode())
                    protocol = "RTSP/1.0" if number else "HTTP/1.1"
                    status = "404 Not Found" if login else "401 Unauthorized"
                    answer = f"{protocol} {status}\r\n" + (f"CSeq: {number[1]}\r\n" if number else "")
                    answer += 'WWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
                    self.wfile.write(answer.encode())
                    if not number:
                        return

            def _request(self) -> str:
                lines = []
                try:
                    while (line := self.rfile.readline().decode("latin-1")) not in ("\r\n", "\n", ""):
                        lines.append(line)
                except OSError:
                    return ""
                return "".join(lines)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    made = Camera(tmp_path)
    yield made
    made.close()


def config(folder: Path, broker: int, camera: int) -> Path:
    """Write a config in which every camera takes the password by reference."""
    (folder / "cam_password").write_text(f"{PASSWORD}\n")
    quick = {"open_timeout_s": 2.0, "reconnect": {"initial_s": 0.5, "max_s": 1.0}}
    sources = {
        "rtsp": f"rtsp://admin:${{env:CAMPW}}@127.0.0.1:{camera}/${{env:CAMPW}}",
        "http": f"http://admin:${{file:cam_password}}@127.0.0.1:{camera}/x?password=${{env:CAMPW}}",
        "refused": "rtsp://${env:CAMLOGIN}@127.0.0.1:1/stream",
        "nobody": "rtsp://admin:${env:CAMPW}@no-such-host.invalid/stream",
    }
    settings = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "mqtt": {
            "host": "127.0.0.1",
            "port": broker,
            "username": "agent",
            "password": "${env:CAMPW}",
            "stats_interval_s": 0.5,
        },
        "stations": {
            "line": {"recipe": "line", "camera": {"kind": "simulated", "fps": 2}},
            **{
                name: {"recipe": "line", "camera": {"kind": "opencv", "source": source, **quick}}
                for name, source in sources.items()
            },
        },
        "storage": {"min_free_mb": 0},
        "homeassistant": {"enabled": True},
        "log": {"level": "debug"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


@contextmanager
def edited(path: Path, station: str, source: str) -> Iterator[None]:
    """Have another source in the file, for a while."""
    before = path.read_text()
    settings: dict[str, Any] = yaml.safe_load(before)
    settings["stations"][station]["camera"]["source"] = source
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    try:
        yield
    finally:
        path.write_text(before)


@pytest.mark.broker
@pytest.mark.timeout(1800)
def test_a_password_of_any_letters_reaches_the_camera_and_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, camera: Camera
) -> None:
    """Journal, FFmpeg's own words, MQTT, files, other commands; with right and with misspelt addresses."""
    monkeypatch.setenv("CAMPW", PASSWORD)
    monkeypatch.setenv("CAMLOGIN", f"admin:{PASSWORD}")
    (tmp_path / "broker").mkdir()
    passwords = tmp_path / "broker" / "passwords"
    for user, secret in (("agent", PASSWORD), ("reader", "reader")):
        create = [] if passwords.exists() else ["-c"]
        subprocess.run(["mosquitto_passwd", "-b", *create, passwords, user, secret], check=True)
    said: dict[str, str] = {}
    journal = tmp_path / "journal"

    def heard(text: str, times: int) -> None:
        wait_until(lambda: journal.read_text().count(text) >= times, PATIENCE_S)

    with mosquitto(tmp_path / "broker", f"allow_anonymous false\npassword_file {passwords}\n") as broker:
        path = config(tmp_path, broker.port, camera.port)
        subscriber = Subscriber(broker.port, username="reader", password="reader")
        with journal.open("wb") as output:
            agent = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "-c", str(path)], stdout=output, stderr=output
            )
            try:
                wait_until(lambda: subscriber.results("line"), PATIENCE_S)
                wait_until(lambda: len(camera.logins) >= 2, PATIENCE_S)
                heard("cannot be opened: ", 4)
                misspelt = [PLACES[name] for name in ("unknown scheme", "no scheme", "at")]
                for number, source in enumerate(misspelt, start=1):
                    with edited(path, "rtsp", source):
                        heard(f"config refused: {path}:", number)
                        wait_until(lambda: b"config_refused" in _last(subscriber, "health"), PATIENCE_S)
                        for command in ("check", "check --print"):
                            said[f"{command} with mistake {number}"] = _said(command, path)
                    heard("config: good again", number)
            finally:
                agent.send_signal(signal.SIGTERM)
                agent.wait(PATIENCE_S)
        subscriber.close()
    assert set(camera.logins) == {f"admin:{PASSWORD}"}
    said["mqtt"] = "\n".join(f"{topic} {payload!r}" for topic, payload, _ in subscriber.messages)
    said["journal"] = journal.read_text()
    for command in ("check --print", "check --diff", "doctor"):
        said[command] = _said(command, path)
    for file in (tmp_path / "data").rglob("*"):
        if file.is_file():  # what was kept of the config holds references alone, as the file does
            said[str(file)] = file.read_bytes().decode("latin-1")
    assert len(said) > 12
    assert {name: seen(text) for name, text in said.items() if seen(text)} == {}
    assert "its host answers at port" in said["journal"]
    assert "port 1: Connection refused" in said["journal"]


def _last(subscriber: Subscriber, name: str) -> bytes:
    found = [payload for topic, payload, _ in subscriber.messages if topic.endswith(f"/agent/{name}")]
    return found[-1] if found else b""


def _said(command: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agent", *command.split(), "-c", str(path)], capture_output=True, text=True
    )
    return done.stdout + done.stderr
