"""TLS, passwords and who may connect: with real certificates and a real mosquitto."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trustme

from agent.base.errors import ConfigError
from agent.config.models_mqtt import TlsSettings
from agent.mqtt.embedded_broker import embedded_broker
from tests.support.mqtt_peers import Subscriber, free_port, mosquitto, wait_until
from tests.support.running_publisher import running
from tests.support.verdicts import a_publisher, a_store, a_verdict


def write_certificates(folder: Path) -> trustme.CA:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    client = authority.issue_cert("agent@plant.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server.private_key_pem.write_to_path(folder / "server.key")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    return authority


def tls_lines(folder: Path) -> str:
    return (
        f"allow_anonymous true\ncafile {folder}/ca.pem\ncertfile {folder}/server.pem\n"
        f"keyfile {folder}/server.key\nrequire_certificate true\n"
    )


@pytest.mark.broker
def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    """The broker's certificate is checked, and ours is asked for."""
    write_certificates(tmp_path)
    tls = TlsSettings(
        ca=str(tmp_path / "ca.pem"), cert=str(tmp_path / "client.pem"), key=str(tmp_path / "client.key")
    )
    with (
        mosquitto(tmp_path, tls_lines(tmp_path)) as broker,
        running(a_publisher(a_store(tmp_path / "data"), broker.port, tls=tls)) as publisher,
    ):
        publisher.put([a_verdict()])
        wait_until(lambda: publisher.stats().published == 1)


@pytest.mark.broker
def test_a_broker_with_a_foreign_certificate_is_not_trusted(tmp_path: Path) -> None:
    """Somebody between us and the broker gets nothing, and health says why."""
    write_certificates(tmp_path)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other-ca.pem")
    tls = TlsSettings(ca=str(tmp_path / "other-ca.pem"))
    with (
        mosquitto(tmp_path, tls_lines(tmp_path)) as broker,
        running(a_publisher(a_store(tmp_path / "data"), broker.port, tls=tls), drain_s=0.1) as publisher,
    ):
        publisher.put([a_verdict()])
        wait_until(lambda: "certificate" in str(publisher.stats().link_problem))
        assert publisher.stats().published == 0


def test_broken_certificate_files_stop_the_start(tmp_path: Path) -> None:
    """A file that is no PEM is a config error at start, not an endless reconnect."""
    (tmp_path / "ca.pem").write_text("not a certificate")
    store = a_store(tmp_path / "data")

    with pytest.raises(ConfigError, match=r"mqtt\.tls"):
        a_publisher(store, free_port(), tls=TlsSettings(ca=str(tmp_path / "ca.pem")))
    store.close()


@pytest.mark.broker
def test_user_and_password_are_used(tmp_path: Path) -> None:
    """The right password gets in; it never shows in what the agent says about itself."""
    import subprocess

    passwords = tmp_path / "passwords"
    passwords.write_text("agent:planted-secret\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    lines = f"allow_anonymous false\npassword_file {passwords}\n"
    login = {"username": "agent", "password": "planted-secret"}
    with mosquitto(tmp_path, lines) as broker:
        subscriber = Subscriber(broker.port, **login)
        with running(a_publisher(a_store(tmp_path / "data"), broker.port, **login)) as publisher:
            publisher.put([a_verdict()])
            wait_until(lambda: subscriber.results())
            assert "planted-secret" not in repr(publisher.stats())
        assert not any(b"planted-secret" in payload for _, payload, _ in subscriber.messages)
        subscriber.close()


@pytest.mark.usefixtures("sockets_left_behind")
def test_the_embedded_broker_serves_loopback_only() -> None:
    """It has no passwords, so nobody outside this machine may reach it."""
    with embedded_broker(port := free_port()):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == 0
        with socket.socket() as probe:
            # Bound to every address, it would answer here as well: all of 127/8 is this machine.
            assert probe.connect_ex(("127.0.0.2", port)) != 0


@pytest.mark.usefixtures("sockets_left_behind")
def test_a_taken_port_is_a_config_error() -> None:
    """The message names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)), embedded_broker(port):
            pass
