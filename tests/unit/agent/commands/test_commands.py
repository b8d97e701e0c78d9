"""What anybody may send to the agent: read strictly, within bounds, and answered once at most."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.rate_limiter import RateLimiter
from agent.commands.answer_cache import MAX_ANSWERS, AnswerCache
from agent.commands.bodies import BODIES
from agent.commands.dispatcher import Dispatcher
from agent.commands.schema import Command, Refusal, matches, may_answer, read
from agent.config.models_mqtt import CommandSettings, MqttSettings
from agent.domain.command_answer import Answer
from agent.mqtt.bounded_inbox import CAPACITY, REFUSALS, Inbox
from agent.mqtt.messages import Inbound, Message
from agent.mqtt.retained_topics import RetainedTopics
from tests.support.line_site import UNHURRIED
from tests.support.mqtt_peers import SCHEMAS

OWN = "plant/agent"
LABEL = b'{"event_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "label": "good"}'


def heard(topic: str, payload: Any = b"", **more: Any) -> Inbound:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Inbound(f"{OWN}/{topic}", body, **more)


def asked(topic: str, payload: Any = b"", **more: Any) -> Command | Refusal:
    return read(heard(topic, payload, **more), OWN, "plant", 16 * 1024)


class Site:
    """A dispatcher whose handlers note what they were asked."""

    def __init__(self, **settings: Any) -> None:
        self.obeyed: list[Command] = []
        self.audit: list[tuple[Any, ...]] = []
        self.again: list[tuple[str, str]] = []
        self.retained = RetainedTopics(lambda station: f"{OWN}/{station}/state")
        self.answer: Any = Answer("done")
        handlers = {verb: self._execute for verb in BODIES if verb != "reload"}
        self.dispatcher = Dispatcher(
            MqttSettings(
                topic_prefix="plant",
                commands=CommandSettings(**{"allow": ("*",), "per_s": 1000.0} | settings),
            ),
            "agent",
            handlers,
            self.retained,
            lambda station, name: self.again.append((station, name)),
            lambda *row: self.audit.append(row),
        )

    def _execute(self, command: Command) -> Any:
        self.obeyed.append(command)
        return self.answer

    def hear(self, *inbounds: Inbound) -> list[Message]:
        """Serve messages in one turn and return what is published."""
        for inbound in inbounds:
            self.dispatcher.receive(inbound)
        self.dispatcher.serve()
        return self.retained.take()


def answers(messages: list[Message], verb: str = "") -> list[dict[str, Any]]:
    """Return the answers on our own topics, each checked against its schema."""
    found = []
    for message in messages:
        payload = json.loads(message.payload)
        SCHEMAS[payload["schema"]].validate(payload)
        assert message.expiry_s == 60
        if message.topic.startswith(f"{OWN}/cmd/response/{verb}"):
            found.append(payload)
    return found


def test_a_command_is_read_with_who_asks_and_its_transaction() -> None:
    found = asked(
        "cmd/request/adapter/rollback", {"number": 3, "user": "eve", "transaction": "t1", "why": "x"}
    )
    assert isinstance(found, Command)
    assert (found.verb, found.actor, found.body.transaction) == ("adapter/rollback", "mqtt:eve", "t1")


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("cmd/request/adapter/rollback", b"{", "no JSON"),
        ("cmd/request/adapter/rollback", b'{"number": 1, "nubmer": 2}', "nubmer: is not known"),
        ("cmd/request/adapter/rollback", b'{"number": "1"}', "whole number"),
        ("cmd/request/adapter/rollback", b'{"number": -1}', "at least 0"),
        ("cmd/request/adapter/rollback", b'{"number": 1e999}', "number"),
        ("cmd/request/ping", b'{"user": "a\\nERROR forged line"}', "LINE FEED as character 2"),
        ("cmd/request/ping", b'{"user": "\xff"}', "UTF-8"),
        ("cmd/request/ping", b"[" * 9000, "no JSON"),
        ("cmd/request/ping", b" " * 20_000, "more than 16384 bytes"),
        ("cmd/request/format-disk", b"", "no such verb"),
        ("cmd/request/set/recipe", b'{"value": "line"}', "<station>/recipe/set"),
        ("cmd/request/set/enabled", b"off", "<station>/enabled/set"),
        ("cmd/request/label", LABEL, "<station>/label"),
        ("top/label", b'{"event_id": "x", "label": "good"}', "no event_id"),
        ("top/enabled/set", b"perhaps", "true or false"),
        ("top/recipe/set", b"true\x00", "NULL as character 5"),
        ("top/recipe/set", b"\xff\xfe", "UTF-8"),
    ],
)
def test_what_is_no_command_is_refused_with_the_reason(topic: str, payload: bytes, why: str) -> None:
    import re

    found = asked(topic, payload)
    assert isinstance(found, Refusal)
    assert re.search(why, found.why), found.why
    assert found.why.isprintable()


def test_a_refused_command_still_names_its_transaction() -> None:
    found = asked("cmd/request/adapter/rollback", {"transaction": "t9", "number": "three"})
    assert isinstance(found, Refusal)
    assert found.transaction == "t9"


def test_a_setting_is_a_bare_word_or_an_object() -> None:
    for payload in (b"ON", b"true", {"value": True}, {"value": "on", "user": "eve"}):
        found = asked("top/enabled/set", payload)
        assert isinstance(found, Command)
        assert (found.verb, found.station, found.body.value) == ("set/enabled", "top", True)  # type: ignore[attr-defined]
    found = asked("top/recipe/set", b"housing")
    assert isinstance(found, Command)
    assert found.body.value == "housing"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("topic", "may"),
    [
        ("plant/mes/answers", True),
        ("plant/agent/cmd/response/mine", True),
        ("plant/agent/top/result", False),
        ("plant/agent/availability", False),
        ("plant/other/cmd/request/adapter/reset", False),
        ("plant/other/top/recipe/set", False),
        ("plant/other/top/trigger", False),
        ("elsewhere/mes", False),
        ("$SYS/x", False),
        ("plant/#", False),
        ("plant/a\x00b", False),
        ("", False),
    ],
)
def test_nobody_makes_the_agent_write_where_agents_listen_or_speak(topic: str, may: bool) -> None:
    assert may_answer(topic, OWN, "plant", ()) is may


def test_response_topics_of_the_config_are_the_only_ones() -> None:
    assert may_answer("mes/answers/1", OWN, "plant", ["mes/answers/#"])
    assert not may_answer("plant/mes", OWN, "plant", ["mes/answers/#"])
    assert not may_answer("plant/agent/top/result", OWN, "plant", ["#"])
    assert matches("a/+/c", "a/b/c")
    assert not matches("a/+", "a/b/c")


def test_an_answer_goes_to_both_topics_and_carries_what_was_given() -> None:
    messages = Site().hear(
        heard("cmd/request/ping", {"transaction": "t"}, response_topic="plant/mes", correlation=b"\x01")
    )
    assert [(m.topic, m.correlation) for m in messages] == [
        (f"{OWN}/cmd/response/ping", None),
        ("plant/mes", b"\x01"),
    ]
    assert answers(messages)[0]["transaction"] == "t"


def test_a_forbidden_response_topic_refuses_the_command_and_is_not_written_to() -> None:
    site = Site()
    messages = site.hear(heard("cmd/request/ping", response_topic=f"{OWN}/top/result"))
    assert [m.topic for m in messages] == [f"{OWN}/cmd/response/ping"]
    assert answers(messages)[0]["status"] == "refused"
    assert site.obeyed == []


def test_the_same_transaction_is_obeyed_once_and_answered_alike() -> None:
    """QoS 1 may bring a command twice: a rollback twice is one rollback."""
    site = Site()
    one = heard("cmd/request/adapter/reset", {"transaction": "t"})
    first, second = answers(site.hear(one, one))
    assert len(site.obeyed) == 1
    assert first["status"] == second["status"] == "done"
    assert len(site.audit) == 1


@pytest.mark.parametrize(
    ("topic", "body", "more"),
    [
        ("adapter/reset", {"station": "top", "user": "eve"}, {}),
        ("adapter/reset", {"station": "side"}, {}),
        ("adapter/reset", {"station": "top", "why": "another"}, {}),
        ("adapter/freeze", {"station": "top"}, {}),
        ("adapter/reset", {"station": "top"}, {"response_topic": "plant/mes"}),
        ("adapter/reset", {"station": "top"}, {"response_topic": "plant/hmi", "correlation": b"2"}),
        ("adapter/reset", {"station": "top"}, {"correlation": b"1"}),
    ],
    ids=["user", "station", "body", "verb", "response topic", "correlation", "no response topic"],
)
def test_an_equal_transaction_of_another_client_is_another_command(topic: str, body: Any, more: Any) -> None:
    """Clients count from one without knowing of each other: each command is obeyed and answered."""
    site = Site()
    first = heard(
        "cmd/request/adapter/reset",
        {"station": "top", "transaction": "1"},
        response_topic="plant/hmi",
        correlation=b"1",
    )
    other = heard(f"cmd/request/{topic}", {**body, "transaction": "1"}, **more)
    site.hear(first, other, first, other)
    assert len(site.obeyed) == 2
    assert len(site.audit) == 2


def test_a_command_that_comes_again_is_known_however_it_is_written() -> None:
    """A client that asks again may write its JSON in another order."""
    site = Site()
    site.hear(heard("cmd/request/adapter/reset", b'{"transaction": "t", "station": "top"}'))
    site.hear(heard("cmd/request/adapter/reset", b'{ "station":"top","transaction":"t" }'))
    assert len(site.obeyed) == 1


def test_answers_are_remembered_for_a_thousand_transactions() -> None:
    site = Site()
    for number in range(MAX_ANSWERS + 1):
        site.dispatcher.use(CommandSettings(allow=("*",), per_s=1000 - number % 2))  # a pace anew
        site.hear(heard("cmd/request/ping", {"transaction": str(number)}))
    site.hear(heard("cmd/request/ping", {"transaction": "1"}))
    assert len(site.obeyed) == MAX_ANSWERS + 1
    site.hear(heard("cmd/request/ping", {"transaction": "0"}))
    assert len(site.obeyed) == MAX_ANSWERS + 2


def test_answers_that_are_remembered_do_not_fill_the_memory() -> None:
    """A thousand times the numbers of fifty stations would be hundreds of megabytes."""
    answered, large = (
        AnswerCache(max_answers=1000, max_bytes=100_000),
        Answer("done", data={"a": "x" * 10_000}),
    )
    for number in range(50):
        answered.keep(str(number), None)
        answered.keep(str(number), large)
    assert [number for number in range(50) if str(number) in answered] == list(range(41, 50))
    answered.keep("one", Answer("done", data={"a": "x" * 1_000_000}))
    assert "one" in answered
    assert len(answered) == 1
    answered.keep("two", Answer("done"))
    assert len(answered) == 1
    assert answered["two"] == Answer("done")


def test_retained_commands_are_ignored_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    assert site.hear(*[heard("cmd/request/adapter/reset", retained=True)] * 3) == []
    assert site.obeyed == []
    assert site.dispatcher.shown()["retained"] == 3
    assert len([r for r in caplog.records if "retained" in r.message]) == 1


def test_what_the_config_does_not_allow_is_refused() -> None:
    site = Site(allow=("adapter/*",))
    assert answers(site.hear(heard("cmd/request/adapter/pin", {"number": 1})))[0]["status"] == "done"
    (no,) = answers(site.hear(heard("cmd/request/ping")))
    assert (no["status"], no["reason"]) == ("refused", "ping is not in mqtt.commands.allow")


def test_by_default_nothing_is_allowed_that_changes_anything() -> None:
    site = Site(allow=CommandSettings().allow)
    changing = [verb for verb in BODIES if verb.startswith("adapter/") and verb[8:] not in ("list", "show")]
    for verb in [*changing, "reload"]:
        body = {"number": 1} if BODIES[verb].model_fields.get("number") else {}
        (no,) = answers(site.hear(heard(f"cmd/request/{verb}", body)))
        assert no["status"] == "refused", verb
    for name in ("recipe", "adaptation", "enabled"):
        assert answers(site.hear(heard(f"top/{name}/set", b"on")))[0]["status"] == "refused"
    assert site.obeyed == []


def test_a_verb_without_a_handler_says_so() -> None:
    (no,) = answers(Site().hear(heard("cmd/request/reload")))
    assert no["reason"] == "reload: not possible in this agent"


def test_a_set_shows_what_is_in_force_again_also_when_refused() -> None:
    """Home Assistant shows what it asked for until it hears otherwise."""
    site = Site(allow=())
    site.hear(heard("top/recipe/set", b"other"))
    assert site.again == [("top", "recipe")]


def test_a_handler_that_waits_is_answered_when_it_is_done() -> None:
    site = Site()
    site.answer = later = Future[Answer]()
    assert site.hear(heard("cmd/request/stats", {"transaction": "t"})) == []
    assert site.hear(heard("cmd/request/stats", {"transaction": "t"})) == []  # a duplicate meanwhile
    later.set_result(Answer("done", data={"x": 1}))
    (one,) = answers(site.hear())
    assert one["data"] == {"x": 1}


def test_too_many_commands_are_refused_and_only_some_of_them_told() -> None:
    """Work is bounded: what is allowed a second is obeyed, 64 a turn are told, all are counted."""
    site = Site(per_s=5.0)
    messages = site.hear(*[heard("cmd/request/ping") for _ in range(10_000)])
    told = answers(messages)
    assert [a["status"] for a in told].count("done") == 5
    assert [a["status"] for a in told].count("refused") == 64
    assert "5 commands a second" in told[-1]["reason"]
    shown = site.dispatcher.shown()
    assert shown["received"] == 10_000 == sum(shown[k] for k in ("obeyed", "refused", "unanswered"))


def test_the_inbox_is_bounded_and_counts() -> None:
    inbox = Inbox()
    for _ in range(CAPACITY + REFUSALS + 7):
        inbox.put(heard("cmd/request/ping"))
    waiting, too_many = inbox.take()
    assert (len(waiting), len(too_many), inbox.lost) == (CAPACITY, REFUSALS, 7)
    assert inbox.take() == ([], [])


def test_a_pace_lets_through_so_many_a_second() -> None:
    pace = RateLimiter(10.0)
    assert sum(pace.allows(0.0) for _ in range(100)) == 10
    assert sum(pace.allows(1.0) for _ in range(100)) == 10
    assert sum(pace.allows(1.1 + 1e-9) for _ in range(100)) == 1


_FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "transaction",
            "user",
            "why",
            "station",
            "number",
            "from_seq",
            "to_seq",
            "event_id",
            "label",
            "value",
            "x",
        ]
    )
    | st.text(max_size=5),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.integers(), max_size=3),
    max_size=5,
)
_PAYLOADS = st.binary(max_size=200) | _FIELDS.map(lambda fields: json.dumps(fields).encode())
_KNOWN = [*(f"cmd/request/{verb}" for verb in BODIES), "top/label", "top/recipe/set", "x/enabled/set"]
_TOPICS = st.sampled_from(_KNOWN) | st.text(max_size=30).map(lambda text: f"cmd/request/{text}")


@given(
    st.lists(
        st.tuples(_TOPICS, _PAYLOADS, st.booleans(), st.none() | st.text(max_size=30) | st.just("plant/mes")),
        max_size=5,
    )
)
@UNHURRIED
def test_nothing_that_anybody_sends_breaks_it(messages: list[tuple[str, bytes, bool, str | None]]) -> None:
    """No exception, at most one answer a message and topic, never a traceback; where it goes is allowed."""
    site = Site()
    for topic, payload, retained, response in messages:
        published = site.hear(heard(topic, payload, retained=retained, response_topic=response))
        own = answers(published)
        assert len(own) == (0 if retained else 1)
        assert all("Traceback" not in (a["reason"] or "") and (a["reason"] or "x").isprintable() for a in own)
        elsewhere = [m.topic for m in published if not m.topic.startswith(f"{OWN}/cmd/response/")]
        assert all(topic == response and may_answer(topic, OWN, "plant", ()) for topic in elsewhere)
        assert all(len(m.topic) < 200 for m in published)


def test_ten_thousand_messages_cost_little() -> None:
    """What the connection's thread does for each is next to nothing, and one turn of work is bounded."""
    site = Site(per_s=50.0)
    one = heard("cmd/request/ping", {"transaction": "t" * 50})
    began = time.perf_counter()
    for _ in range(10_000):
        site.dispatcher.receive(one)
    received = time.perf_counter() - began
    site.hear()
    assert received < 1.0  # 10 ms here
    assert time.perf_counter() - began < 2.0
