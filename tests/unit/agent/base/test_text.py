"""Visible text on one line: what is taken for phrases, labels, users, part ids and reasons."""

# ruff: noqa: RUF001 - letters of other languages are the point here

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from agent.base.text import looks, on_one_line, visible, visible_as_given, visible_key
from agent.commands.bodies import LabelBody, Reasoned, Setting
from agent.commands.schema import read
from agent.domain.trigger_body import TriggerBody
from agent.mqtt.messages import Inbound
from agent.versions.operator_requests import Request
from tests.support.configs import MINIMAL, load_text, problems_in

TAKEN = [
    "傷のある　金属部品",
    "une pièce sans défaut\N{NO-BREAK SPACE}!",
    "12\N{NARROW NO-BREAK SPACE}mm",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "می\u200cخواهم",
    "❤\ufe0f",
    "葛\U000e0100城",
    "flag of \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "e\u0301tat",
    "שלום",
]
REFUSED = [
    ("a\tb", "U+0009 TAB as character 2"),
    ("a\x00b", "U+0000 NULL as character 2"),
    ("a\x1b[2Jb", "U+001B ESCAPE as character 2"),
    ("a\x01", "U+0001 CONTROL CHARACTER as character 2"),
    ("a\nb", "U+000A LINE FEED as character 2"),
    ("a\x85b", "U+0085 NEXT LINE as character 2"),
    ("ab\u2028c", "U+2028 LINE SEPARATOR as character 3"),
    ("ab\u2029", "U+2029 PARAGRAPH SEPARATOR as character 3"),
    ("ok \u202edab", "U+202E RIGHT-TO-LEFT OVERRIDE as character 4"),
    ("ok \u2066dab", "U+2066 LEFT-TO-RIGHT ISOLATE as character 4"),
    ("\ufeffgood", "U+FEFF ZERO WIDTH NO-BREAK SPACE as character 1"),
    ("a\ud800", "U+D800 HALF OF A PAIR as character 2"),
    ("a\u200bb", "U+200B ZERO WIDTH SPACE as character 2"),
    ("a\ue000", "U+E000 OF PRIVATE USE as character 2"),
    ("good\u200d", "U+200D ZERO WIDTH JOINER as character 5"),
    ("\u200cgood", "U+200C ZERO WIDTH NON-JOINER as character 1"),
    ("a\U000e0067", "U+E0067 TAG LATIN SMALL LETTER G as character 2"),
]
EMPTY = ["", " ", "\n", "　", "\N{NO-BREAK SPACE} ", "\ufe0f", "\u3164", "\u2800"]
NO_EVENT_ID = "event_id: is no event_id as results have it: 26 digits and capital letters"
CHECKS = [visible, visible_as_given, visible_key]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("text", TAKEN)
def test_what_people_write_is_taken_as_it_is(check, text):
    """Blanks of any width, joiners inside words and emoji, and variation selectors belong to writing."""
    assert check(text) == text


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("text", "what"), REFUSED)
def test_what_is_not_visible_is_named_with_its_place(check, text, what):
    """The message says which character, by number and name, and where, and shows nothing of the text."""
    with pytest.raises(ValueError, match="holds") as caught:
        check(text)
    assert str(caught.value) == f"holds {what}: remove it"


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("text", EMPTY)
def test_nothing_to_see_is_no_text(check, text):
    """Blanks, lone selectors and fillers show nothing."""
    with pytest.raises(ValueError, match=r"empty|nothing that can be seen|holds U\+000A"):
        check(text)


def test_what_stands_around_a_text():
    """A line break behind a text is none of it, nor are blanks but where somebody compares them."""
    assert visible(" sato　\r\n") == "sato"
    assert visible_as_given(" sato \r\n") == " sato "
    with pytest.raises(ValueError, match="ends with U\\+3000 IDEOGRAPHIC SPACE: remove it"):
        visible_key("良品　")
    with pytest.raises(ValueError, match="begins with U\\+00A0 NO-BREAK SPACE: remove it"):
        visible_key("\N{NO-BREAK SPACE}ok ")


def test_texts_that_look_alike():
    """Joiners, selectors and widths of blanks cannot be told apart; letters can."""
    assert looks("go\u200cod　part") == looks("good part")
    assert looks("❤\ufe0f") == looks("❤")
    assert looks("Good") != looks("good")


def test_anything_can_be_put_on_one_line():
    """What breaks a line or steers a terminal is escaped, the rest stays readable."""
    assert on_one_line("良品　A\n\x1b[2J\u202e\ud800") == "良品　A\\n\\x1b[2J\\u202e\\ud800"


def test_words_of_every_language_are_good_in_a_config(tmp_path):
    """Phrases, templates and labels take them."""
    recipes = {
        "r": {
            "templates": ["写真：　{}"],
            "classes": {
                f"良品　{number}": {"verdict": "pass", "phrases": [text]} for number, text in enumerate(TAKEN)
            },
        }
    }
    loaded = load_text(tmp_path, f"{MINIMAL}recipes: {json.dumps(recipes, ensure_ascii=False)}\n")
    assert [one.phrases[0] for one in loaded.config.recipes["r"].classes.values()] == TAKEN


def test_a_block_of_yaml_is_one_line(tmp_path):
    """The line break with which a block ends is none of the phrase."""
    text = f"""{MINIMAL}recipes:
  r:
    templates: ["{{}}"]
    classes:
      a:
        verdict: pass
        phrases:
          - |
            a good part
      b: {{verdict: fail, phrases: [bad]}}
"""
    assert load_text(tmp_path, text).config.recipes["r"].classes["a"].phrases == ("a good part",)


def test_a_config_says_which_character(tmp_path):
    """In phrases, templates, labels and what else is text."""
    text = (
        f"{MINIMAL}mqtt: {{commands: {{allow: [\"a\\u2028\"], response_topics: [\"a\\tb\"]}}}}\n"
        "sparkplug: {group_id: \"a\\u202eb\"}\n"
        'recipes: {r: {templates: ["a\\eb {}"], classes: {"a ": {verdict: pass, phrases: ["x\\ufeff"]},'
        ' "b\\u2029": {verdict: fail, phrases: [" "]}}}}\n'
    )  # fmt: skip
    assert [problem.split(": ", 1)[1] for problem in problems_in(tmp_path, text)] == [
        "mqtt.commands.allow.0: holds U+2028 LINE SEPARATOR as character 2: remove it",
        "mqtt.commands.response_topics.0: holds U+0009 TAB as character 2: remove it",
        "sparkplug.group_id: holds U+202E RIGHT-TO-LEFT OVERRIDE as character 2: remove it",
        "recipes.r.templates.0: holds U+001B ESCAPE as character 2: remove it",
        "recipes.r.classes.'a ': ends with U+0020 SPACE: remove it",
        "recipes.r.classes.'a '.phrases.0: holds U+FEFF ZERO WIDTH NO-BREAK SPACE as character 2: remove it",
        "recipes.r.classes.'b\\u2029': holds U+2029 PARAGRAPH SEPARATOR as character 2: remove it",
        "recipes.r.classes.'b\\u2029'.phrases.0: holds nothing that can be seen",
    ]


@pytest.mark.parametrize("text", TAKEN)
def test_commands_take_what_people_write(text):
    """Labels, users, reasons and part ids alike, over MQTT and from the command line."""
    event = "0" * 26
    label = LabelBody.model_validate_json(
        json.dumps({"event_id": event, "label": text, "user": f" {text}\n"})
    )
    assert (label.label, label.user) == (text, text)
    assert Reasoned.model_validate_json(json.dumps({"why": text})).why == text
    trigger = TriggerBody.model_validate_json(json.dumps({"trigger_id": text, "part_id": f"{text}\r\n"}))
    assert (trigger.trigger_id, trigger.part_id) == (text, text)
    assert Request(kind="freeze", actor=text, at="now", why=text).why == text


def test_ids_come_back_as_they_were_given():
    """Who compares a trigger's or a command's id with its own finds it, blanks included."""
    assert TriggerBody(trigger_id=" 17 ").trigger_id == " 17 "
    assert Reasoned(transaction=" 17 ").transaction == " 17 "


@pytest.mark.parametrize("empty", [None, "", " ", "\n", "　\r\n"])
def test_an_empty_part_id_is_none(empty):
    """A scanner that read nothing says nothing; the part is inspected all the same."""
    body = TriggerBody.model_validate_json(json.dumps({"trigger_id": "1", "part_id": empty}))
    assert body.part_id is None
    with pytest.raises(ValidationError, match="holds U\\+202E"):
        TriggerBody(trigger_id="1", part_id="a\u202eb")


def refusal_of(topic: str, payload: bytes) -> str:
    found = read(Inbound(f"mekiki/l/{topic}", payload), "mekiki/l", "mekiki", 16384)
    return found.why


def test_a_bare_word_may_end_with_a_line_break():
    """What `echo line | mosquitto_pub -s` sends is the setting `line`."""
    found = read(Inbound("mekiki/l/s/recipe/set", b"line\n"), "mekiki/l", "mekiki", 999)
    assert isinstance(found.body, Setting)
    assert found.body.value == "line"
    found = read(Inbound("mekiki/l/s/enabled/set", b"on\r\n"), "mekiki/l", "mekiki", 999)
    assert found.body.value is True


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("s/recipe/set", b"\x1b", "value: holds U+001B ESCAPE as character 1: remove it"),
        ("s/recipe/set", b"\n", "value: should not be empty"),
        ("s/recipe/set", b'{"value": [1]}', "value: should be text, true or false"),
        ("s/recipe/set", b'{"value": {"a": "b"}}', "value: should be text, true or false"),
        ("s/recipe/set", b"{}", "value: is missing"),
        ("s/label", b"good", "no JSON: should be an object with event_id, label"),
        ("s/label", b"\xff\xfe", "not UTF-8"),
        ("s/label", b'{"event_id": }', "no JSON: should be an object with event_id, label"),
        ("cmd/request/ping", b"hello", "no JSON: should be an object, such as {}"),
        ("s/label", b"[]", "should be an object with event_id, label"),
        ("cmd/request/ping", b"[]", "should be an object, such as {}"),
        ("s/label", b'{"event_id": "x", "label": "a"}', NO_EVENT_ID),
        ("s/label", b'{"event_id": 5, "label": "a"}', "event_id: should be text"),
        ("s/label", b'{"label": "a"}', "event_id: is missing"),
        ("cmd/request/ping", b'{"user": "\\u001b"}', "user: holds U+001B ESCAPE as character 1: remove it"),
        ("cmd/request/ping", b'{"user": "%s"}' % (b"a" * 65), "user: should have at most 64 characters"),
        ("cmd/request/ping", b'{"wser": "a"}', "wser: is not known here"),
        ("cmd/request/adapter/show", b'{"number": 1.5}', "number: should be a whole number"),
        ("cmd/request/adapter/show", b'{"number": "1"}', "number: should be a whole number"),
        ("cmd/request/adapter/show", b'{"number": -1}', "number: should be at least 0"),
        ("s/trigger", b"17", "should be an object with trigger_id"),
        ("s/trigger", b"", "no JSON: should be an object with trigger_id"),
        ("s/trigger", b'{"trigger_id": "1", "deadline_ms": 60001}', "deadline_ms: should be at most 60000"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_wrong_in_words_of_its_own(topic, payload, why):
    """No name of a function, no pattern, and no text of a library reaches who asked."""
    assert refusal_of(topic, payload) == why
