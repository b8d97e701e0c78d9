"""config.yaml: secrets are used, and never shown."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import yaml

from agent.config import loader as configfile
from agent.config.loader import print_config
from tests.support.configs import MINIMAL, load_text, problems_in

SECRETS = {
    "MQTT_USER": "planted-user",
    "MQTT_PW": "planted-pw",
    "CAM_PW": "planted-cam",
    "LINE": "planted-id",
}

WITH_SECRETS = """version: 1
agent: {id: "${env:LINE}"}
mqtt:
  username: ${env:MQTT_USER}
  password: "${env:MQTT_PW}"
stations:
  a:
    camera: {kind: opencv, source: "rtsp://${env:MQTT_USER}:${env:CAM_PW}@10.0.0.11:554/live"}
    recipe: line
  b:
    camera: {kind: opencv, source: "rtsp://admin:${file:cam_password}@10.0.0.12/planted-path"}
    recipe: line
  c:
    camera: {kind: opencv, source: "http://10.0.0.13/user=x&password=planted-query"}
    recipe: line
  d:
    camera: {kind: opencv, source: 0}
    recipe: line
"""


@pytest.fixture
def config_of(tmp_path):
    """Return a function that loads a config from text."""
    return partial(load_text, tmp_path)


@pytest.fixture
def problems_of(tmp_path):
    """Return a function that gives the problems of a text."""
    return partial(problems_in, tmp_path)


@pytest.fixture
def secrets(monkeypatch, tmp_path):
    """Plant a secret in every place that a config can take one from; all of them begin with `planted`."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "cam_password").write_text("planted-file\n")


@pytest.mark.usefixtures("secrets")
def test_references_are_resolved(config_of):
    """The agent gets the values, from the environment and from files."""
    config = config_of(WITH_SECRETS).config
    assert config.agent.id == "planted-id"
    assert (config.mqtt.username, config.mqtt.password.get_secret_value()) == ("planted-user", "planted-pw")
    sources = [each.camera.source.get_secret_value() for each in config.stations.values()]
    assert sources[:2] == [
        "rtsp://planted-user:planted-cam@10.0.0.11:554/live",
        "rtsp://admin:planted-file@10.0.0.12/planted-path",
    ]


@pytest.mark.usefixtures("secrets")
def test_secrets_are_never_shown(config_of, monkeypatch, caplog, capfd):
    """Neither print, repr, log nor the digest's input holds a secret; references stand in their place."""
    hashed = []
    sha256 = configfile.hashlib.sha256
    monkeypatch.setattr(
        configfile.hashlib, "sha256", lambda data: hashed.append(data.decode()) or sha256(data)
    )
    caplog.set_level(logging.DEBUG)
    loaded = config_of(WITH_SECRETS)
    printed = print_config(loaded)
    config = loaded.config
    shown = [
        repr(loaded),
        str(config),
        repr(config),
        repr(config.mqtt),
        repr(config.stations),
        *hashed,
        caplog.text,
    ]
    for text in (printed, *shown, *capfd.readouterr()):
        assert "planted" not in text
    assert len(hashed) == 1
    data = yaml.safe_load(printed)
    assert data["agent"]["id"] == "${env:LINE}"
    assert data["mqtt"]["password"] == "${env:MQTT_PW}"
    assert [each["camera"]["source"] for each in data["stations"].values()] == [
        "rtsp://${env:MQTT_USER}:${env:CAM_PW}@10.0.0.11:554/live",
        "***",
        "***",
        "0",
    ]


@pytest.mark.usefixtures("secrets")
def test_literal_secrets_are_masked(config_of):
    """A password that stands in the file is printed as ***, also beside a reference."""
    for password in ("planted", "'planted${env:MQTT_PW}'", "'12345'"):
        text = print_config(config_of(f"{MINIMAL}mqtt: {{username: u, password: {password}}}\n"))
        assert yaml.safe_load(text)["mqtt"]["password"] == "***"


@pytest.mark.usefixtures("secrets")
def test_errors_hold_no_secrets(problems_of):
    """Every kind of error names the reference where its value is wrong."""
    problems = problems_of("""version: ${env:MQTT_PW}
agent: {id: "a/${env:MQTT_PW}", data_dir: "${env:MQTT_PW}/x", x: "${env:MQTT_PW}"}
log: {level: "${env:MQTT_PW}"}
mqtt:
  port: ${env:MQTT_PW}
  password: [planted]
  tls: {ca: "${file:cam_password}"}
  topic_prefix: "${env:MQTT_PW} x"
  username: {a: planted}
stations:
  a: {camera: "rtsp://u:planted@h", recipe: "${env:MQTT_PW}", trigger: {mode: "${env:MQTT_PW}"}}
  b: {camera: {kind: folder, path: "${env:MQTT_PW}"}, recipe: line, enabled: "${env:MQTT_PW}"}
  c: {camera: {kind: opencv, source: "${env:MQTT_PW}.mp4", fps: "${env:MQTT_PW}"}, recipe: line}
""")
    assert len(problems) == 16
    assert "planted" not in "\n".join(problems)
    assert "config.yaml:5: mqtt.port: should be a whole number, is '${env:MQTT_PW}'" in problems
    assert (
        "config.yaml:7: mqtt.tls.ca: no such file: '${file:cam_password}': relative paths start at FOLDER"
        in problems
    )


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (
            "${env:MEKIKI_UNSET}",
            "${env:MEKIKI_UNSET}: no such environment variable: set MEKIKI_UNSET for the agent",
        ),
        ("${file:absent}", "${file:absent}: No such file or directory: name a file that the agent may read"),
        ("${file:folder}", "${file:folder}: Is a directory: name a file that the agent may read"),
        ("${file:latin}", "${file:latin}: not UTF-8: save it as UTF-8"),
        ("${file:lines}", "${file:lines}: holds a line break or another control character: give one line"),
        ("${file:empty}", "${file:empty}: is empty: give it a value"),
        ("${file:large}", "${file:large}: larger than 4096 bytes: name a file with one value"),
        ("planted${", "${ starts no reference here: write ${env:NAME} or ${file:path}"),
        ("${planted}", "${ starts no reference here: write ${env:NAME} or ${file:path}"),
        ("${env:}", "${ starts no reference here: write ${env:NAME} or ${file:path}"),
    ],
)
def test_reference_that_leads_nowhere_is_a_problem(problems_of, tmp_path, reference, problem):
    """The message names the reference and its line, and nothing else is said about that setting."""
    (tmp_path / "folder").mkdir()
    for name, content in {"latin": b"\xe9", "lines": b"a\nb\n", "empty": b"\n", "large": b"x" * 5000}.items():
        (tmp_path / name).write_bytes(content)
    assert problems_of(f"{MINIMAL}log: {{level: '{reference}'}}\n") == [
        f"config.yaml:6: log.level: {problem}"
    ]
