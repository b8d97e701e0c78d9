"""Names, hosts and words that look good and cannot be: refused by `mekiki check`, or served."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest
from pydantic import SecretStr

from agent.base.errors import ConfigError
from agent.config.models import MetricsSettings
from agent.config.types import at_port
from agent.domain.command_answer import one_line
from agent.telemetry.prometheus import metrics_server
from agent.versions.station_plans import check_prompts
from tests.support.configs import MINIMAL, load_text, problems_in


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on the loopback")

NOW = {
    "health": "ok",
    "results": {"stored": 3, "published": 2, "waiting": 1, "lost": 0, "given_up": 0, "too_large": 0},
    "storage": {
        "database_bytes": 9, "images": 2, "image_bytes": 5, "images_dropped": 1, "oldest_at": None,
        "purging": True, "purged": 7, "purged_images": 0,
    },
    "stations": {},
}  # fmt: skip


def told(tmp_path, text: str) -> list[str]:
    return [problem.split(": ", 1)[1] for problem in problems_in(tmp_path, f"{MINIMAL}{text}\n")]


@pytest.mark.parametrize(
    "host",
    [
        "mqtt://plc", "plc:1883", "[::1]", "[::1]:1883", "user@plc", "plc/x", "plc ", " plc", "a..b", ".",
        "256.1.1.1", "10.0.0", "1.2.3.4.5", "a" * 64, ".".join(["a" * 60] * 5), "::1::2", "fe80::1%", "plc\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("section", ["mqtt", "metrics"])
def test_a_host_is_a_name_or_an_address_alone(tmp_path, section, host):
    """Whatever else is refused where it stands, before anybody tries to connect or to serve."""
    (problem,) = told(tmp_path, f"{section}: {{host: {json.dumps(host)}, {_token(section)}}}")
    assert problem.startswith((f"{section}.host: should be the name", f"{section}.host: is no "))


@pytest.mark.parametrize(
    "host", ["plc", "plc.", "my_plc.plant1", "10.0.0.1", "::1", "fe80::1%eth0", "ブローカー", "::"]
)
@pytest.mark.parametrize("section", ["mqtt", "metrics"])
def test_good_hosts_stay_good(tmp_path, section, host):
    """Names of any letters, and addresses of both kinds, IPv6 without brackets and with a zone."""
    load_text(tmp_path, f'{MINIMAL}{section}: {{host: "{host}", {_token(section)}}}\n')


def _token(section: str) -> str:
    return "token: 0123456789abcdef" if section == "metrics" else "port: 1883"


def test_the_loopback_of_both_kinds_needs_no_token(tmp_path):
    """Nobody else can reach it, by whichever address."""
    for host in ("::1", "127.0.0.1", "127.0.0.2", "localhost"):
        load_text(tmp_path, f'{MINIMAL}metrics: {{host: "{host}"}}\n')
    for host in ("::", "0.0.0.0", "fe80::1", "plc"):
        assert "needs a token" in told(tmp_path, f'metrics: {{host: "{host}"}}')[0]


def _get(port: int, host: str, token: str | None = None) -> int:
    headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://[::1]:{port}/metrics", headers=headers), timeout=60
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@ipv6
@pytest.mark.parametrize("host", ["::1", "0:0:0:0:0:0:0:1", "::"])
def test_metrics_are_served_over_ipv6(caplog, host):
    """By the address as its owner writes it; the journal shows it as a browser takes it."""
    token = SecretStr("0123456789abcdef")
    caplog.set_level("INFO")
    with metrics_server(MetricsSettings(host=host, port=0, token=token), lambda: NOW) as port:
        assert _get(port, f"[::1]:{port}", token.get_secret_value()) == 200
        assert _get(port, f"[::1]:{port}") == 401
    assert f"metrics: http://[{host}]:{port}/metrics" in caplog.text


@ipv6
def test_without_a_token_the_host_has_to_be_the_loopback():
    """A page of another host cannot ask by a name that points here."""
    with metrics_server(MetricsSettings(host="::1", port=0), lambda: NOW) as port:
        for good in (f"[::1]:{port}", "[::1]", f"localhost:{port}", "127.0.0.1"):
            assert _get(port, good) == 200
        for bad in ("evil.example", f"[fe80::1]:{port}", "[", "::1", "[::1"):
            assert (_get(port, bad) == 403) == (bad != "[::1"), bad


@ipv6
def test_a_port_that_is_taken_is_told_with_brackets():
    """As the address would be written elsewhere."""
    with socket.socket(socket.AF_INET6) as one:
        one.bind(("::1", 0))
        one.listen()
        port = one.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=rf"metrics: \[::1\]:{port} cannot be served"),
            metrics_server(MetricsSettings(host="::1", port=port), lambda: NOW),
        ):
            pass


def test_an_address_with_its_port():
    """IPv6 stands in brackets, its zone escaped."""
    assert at_port("plc", 1883) == "plc:1883"
    assert at_port("::1", 1883) == "[::1]:1883"
    assert at_port("fe80::1%eth0", 1883) == "[fe80::1%25eth0]:1883"


FOUR_BYTES = "\U00020bb7"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("agent: {id: NAME}", "agent.id"),
        ("recipes: {NAME: {templates: ['{}'], classes: {a: {verdict: pass, phrases: [a]}, "
         "b: {verdict: fail, phrases: [b]}}}}", "recipes."),
        ("mqtt: {topic_prefix: x/NAME}", "mqtt.topic_prefix"),
    ],
)  # fmt: skip
def test_a_name_has_to_fit_into_the_name_of_a_file(tmp_path, text, place):
    """Bytes count there, not letters: 64 letters of four bytes are too many, of three they fit."""
    if place != "mqtt.topic_prefix":
        (problem,) = told(tmp_path, text.replace("NAME", FOUR_BYTES * 64))
        assert problem.startswith(place)
        assert "is 256 bytes long in UTF-8" in problem
    load_text(tmp_path, f"{MINIMAL}{text.replace('NAME', '吉' * 64)}\n")


def test_a_station_has_to_fit_into_the_name_of_a_folder(tmp_path):
    """A station has a folder of its own."""
    text = MINIMAL.replace("top", FOUR_BYTES * 64)
    assert "is 256 bytes long in UTF-8" in problems_in(tmp_path, text)[0]
    load_text(tmp_path, MINIMAL.replace("top", "吉" * 64))


def test_a_prefix_has_to_fit_into_a_topic(tmp_path):
    """However many levels it has."""
    assert told(tmp_path, f"mqtt: {{topic_prefix: {'/'.join('a' * 300)}}}") == [
        "mqtt.topic_prefix: is 599 bytes long in UTF-8: at most 500 fit into a topic"
    ]


def _recipe(first: list[str], second: list[str], labels: tuple[str, str] = ("ok", "bad")) -> str:
    classes = {
        labels[0]: {"verdict": "pass", "phrases": first},
        labels[1]: {"verdict": "fail", "phrases": second},
        "third": {"verdict": "fail", "phrases": ["something else"]},
    }
    return f"recipes: {json.dumps({'r': {'templates': ['a {}'], 'classes': classes}}, ensure_ascii=False)}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["good part"], ["Good Part"]),
        (["good part"], ["  good   part "]),
        (["good part"], ["good　part"]),
        (["good part"], ["good\N{NO-BREAK SPACE}part"]),
        (["good part"], ["ｇｏｏｄ part"]),  # noqa: RUF001
        (["good & part"], ["good &amp; part"]),
        (["STRASSE"], ["straße"]),
        (["a", "b"], ["B", "A"]),
        (["a", "A"], ["a"]),
        (["e\u0301tat"], ["état"]),
    ],
)
def test_classes_with_the_same_words_are_refused_by_name(tmp_path, first, second):
    """The model would give each half of what is one."""
    assert told(tmp_path, _recipe(first, second)) == [
        "recipes.r.classes: 'ok' and 'bad' are the same words to the model: change the phrases of one"
    ]


@pytest.mark.parametrize(
    "labels", [("good part", "good　part"), ("go\u200dod", "good"), ("é", "e\u0301"), ("❤", "❤\ufe0f")]
)
def test_labels_that_look_alike_are_refused(tmp_path, labels):
    """Nobody could tell which of them a result means."""
    (problem,) = told(tmp_path, _recipe(["a"], ["b"], labels))
    assert problem.startswith("recipes.r.classes: ")
    assert problem.endswith("look alike: give one another name")


def test_classes_that_share_a_phrase_are_good(tmp_path):
    """As long as they are not the same altogether."""
    load_text(tmp_path, f"{MINIMAL}{_recipe(['a', 'b'], ['a', 'c'])}\n")


def test_what_is_the_same_to_this_model_is_refused_with_it(tmp_path):
    """Some models know no punctuation: to them these words are equal, to others not."""

    class Deaf:
        def tokenize(self, texts):
            import numpy as np

            texts = ["".join(letter for letter in text if letter.isalnum()) for text in texts]
            return np.array([[*text.ljust(40).encode()] for text in texts])

    text = f"{MINIMAL.replace('recipe: line', 'recipe: r')}{_recipe(['a dent!'], ['a dent'])}\n"
    loaded = load_text(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        check_prompts(loaded, Deaf())  # type: ignore[arg-type]
    assert [one_line(problem).split(": ", 1)[1] for problem in caught.value.problems] == [
        "recipes.r.classes.bad.phrases: 'ok' and 'bad' are the same words to the model:"
        " change the phrases of one"
    ]
