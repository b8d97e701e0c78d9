"""`mekiki adapter`: what it shows, what it asks, and how it refuses."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from adapters.core.adapter import Adapter
from adapters.core.protocol import Engine
from adapters.core.version import Version, Window
from adapters.core.version_store import AdapterStore
from adapters.engines.factory import ModelSettings, open_engine
from agent.audit.hash_chain import Audit
from agent.base.data_dir import lock_folder, require_owner
from agent.base.errors import UsageError
from agent.cli.main import main
from agent.config.recipes import shipped
from agent.versions.learner_memory import Memory
from agent.versions.operator_requests import take

AT = "2026-01-01T00:00:00.000Z"

Mekiki = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_engine(ModelSettings(threads=1))


@pytest.fixture(autouse=True)
def _switch_interval_restored() -> Iterator[None]:
    interval, handlers = sys.getswitchinterval(), list(logging.getLogger().handlers)
    yield
    sys.setswitchinterval(interval)
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def mekiki(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Mekiki:
    """Run `mekiki adapter` where two stations have the shipped model; return code, stdout and stderr."""
    station = {"camera": {"kind": "simulated"}, "recipe": "line"}
    config = {"version": 1, "stations": {"top": station, "side": station}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    # Opening the model takes most of a command's time; that commands can do it, the last test shows.
    monkeypatch.setattr("adapters.engines.factory.open_plain", lambda _: engine)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(["adapter", *arguments])
        except SystemExit as error:  # argparse leaves this way
            code = int(str(error.code))
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def store_of(engine: Engine, station: str = "top") -> AdapterStore:
    return AdapterStore(Path("data/stations") / station / "adapters", engine.source, engine.info.weights)


def fill(engine: Engine, count: int = 2, station: str = "top") -> AdapterStore:
    store = store_of(engine, station)
    for number in range(1, count + 1):
        tensors = {name: tensor + np.float32(number / 100) for name, tensor in engine.source.tensors.items()}
        version = Version(
            adapter=Adapter(tensors),
            parent=number - 1,
            origin="learned",
            made_at=AT,
            window=Window(100, 300, 150),
            offset=number / 4,
            recipe=shipped("line").words,
            condition={"lamp": "dim"},
            numbers={"gain": 0.25, "unknown": float("nan")},
        )
        store.promote(version, AT)
    return store


def damage(number: int) -> Path:
    path = Path(f"data/stations/top/adapters/{number:06}.safetensors")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    return path


def requests(station: str = "top") -> list[tuple[str, int | None, str]]:
    taken = take(Path("data/stations") / station / "requests")
    assert taken.refused == ()
    return [(request.kind, request.number, request.why) for request in taken.requests]


def test_list_shows_that_learning_is_frozen(mekiki: Mekiki, engine: Engine) -> None:
    """Beside what answers, with who has stopped it; nothing where nobody has."""
    store = fill(engine, 2)
    store.activate(2, AT)
    assert "frozen" not in mekiki("list", "-s", "top")[1]
    store.remember(Memory(frozen_by="yamada").blob())
    lines = mekiki("list", "-s", "top")[1].splitlines()
    assert [line.endswith("  frozen by yamada") for line in lines] == [False, False, False, True]
    rows = [json.loads(line) for line in mekiki("list", "-s", "top", "--json")[1].splitlines()]
    assert [row.get("frozen_by") for row in rows] == [None, None, "yamada"]
    store.activate(0, AT)
    assert mekiki("list", "-s", "top")[1].splitlines()[1].endswith("source  frozen by yamada")


def test_export_takes_its_file_as_other_exports_do(mekiki: Mekiki, engine: Engine) -> None:
    """`--out FILE`, as `store export` and `audit export`; FILE alone is the same."""
    fill(engine, 1)
    assert mekiki("export", "1", "--out", "one", "-s", "top")[0] == 0
    assert mekiki("export", "1", "two", "-s", "top")[0] == 0
    assert Path("one").stat().st_size == Path("two").stat().st_size


def test_list_shows_every_version_and_which_answers(mekiki: Mekiki, engine: Engine) -> None:
    """A table for people, one JSON object a line for programs; a damaged version is a line too."""
    fill(engine, 3).activate(2, AT)
    damage(1)
    code, out, err = mekiki("list", "-s", "top")
    assert (code, err) == (0, "")
    lines = out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [
        ["0", "source"],
        ["1", "cannot"],
        ["*", "2"],
        ["3", "learned"],
    ]
    assert "altered" in lines[1]

    code, out, err = mekiki("list", "-s", "top", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["number"] for row in rows if row["active"]] == [2]
    assert "altered" in rows[1]["damaged"]
    assert rows[2]["offset"] == 0.5
    assert rows[2]["numbers"] == {"gain": 0.25, "unknown": "nan"}
    assert rows[2]["window"] == {"first": 100, "last": 300, "count": 150}


def test_looking_makes_no_folder(mekiki: Mekiki) -> None:
    """Before the agent ever ran there is the source and nothing else."""
    assert mekiki("list", "-s", "side")[1].splitlines()[1:] == ["*      0  source"]
    assert json.loads(mekiki("show", "-s", "side", "0")[1])["active"]
    assert not Path("data").exists()


def test_show_tells_all_of_one_version(mekiki: Mekiki, engine: Engine) -> None:
    """As JSON, with since when it answers."""
    fill(engine)
    shown = json.loads(mekiki("show", "2", "-s", "top")[1])
    assert (shown["number"], shown["parent"], shown["active"], shown["since"]) == (2, 1, True, AT)
    assert json.loads(mekiki("show", "1", "-s", "top")[1])["since"] is None


@pytest.mark.parametrize("verb", ["freeze", "resume", "reset"])
def test_a_wish_waits_for_the_agent(mekiki: Mekiki, verb: str) -> None:
    """On disk, for one station, with who and why; said whether an agent is there to take it."""
    code, out, err = mekiki(verb, "-s", "side", "--why", "lamp is being changed")
    assert (code, out) == (0, "")
    assert "it waits until the station is commissioned" in err
    Path("data/stations/side/commissioning.safetensors").touch()
    assert "no agent runs; it takes it when it starts" in mekiki(verb, "-s", "side")[2]
    lock = lock_folder(Path("data"))
    assert "the running agent takes it within a second" in mekiki(verb, "-s", "side")[2]
    lock.close()
    assert requests("side") == [(verb, None, "lamp is being changed"), (verb, None, ""), (verb, None, "")]
    assert requests("top") == []


def test_rollback_asks_only_for_what_can_answer(mekiki: Mekiki, engine: Engine) -> None:
    """A good version and the source; an unknown and a damaged one are refused at once, by name."""
    fill(engine)
    assert mekiki("rollback", "1", "-s", "top")[0] == 0
    assert mekiki("rollback", "0", "-s", "top")[0] == 0
    code, _, err = mekiki("rollback", "9", "-s", "top")
    assert (code, err) == (64, "top: no version 9; there is 0, 1, 2\n")
    path = damage(1)
    code, _, err = mekiki("rollback", "1", "-s", "top")
    assert code == 78
    assert str(path) in err
    assert requests() == [("rollback", 1, ""), ("rollback", 0, "")]


@pytest.mark.parametrize("verb", ["pin", "unpin"])
def test_a_version_is_kept_whatever_its_age_on_request(mekiki: Mekiki, engine: Engine, verb: str) -> None:
    """Only one that is there; the source cannot go anyway."""
    fill(engine)
    assert mekiki(verb, "1", "-s", "top")[0] == 0
    assert mekiki(verb, "0", "-s", "top")[0] == 64
    assert mekiki(verb, "9", "-s", "top")[0] == 64
    assert requests() == [(verb, 1, "")]


def test_verify_finds_a_changed_trail_and_a_damaged_version(mekiki: Mekiki, engine: Engine) -> None:
    """Names each, exit code 1; a good trail's head can be kept elsewhere and given back."""
    fill(engine)
    assert mekiki("verify", "-s", "top")[0] == 64
    trail = Path("data/stations/top/audit.jsonl")
    audit = Audit("top", trail)
    for why in ("first", "second"):
        audit.append(AT, "promoted", actor="guard", why=why)
    code, out, _ = mekiki("verify", "-s", "top")
    assert code == 0
    assert out == f"top: 2 versions, 2 lines, head {audit.head}\n"
    assert mekiki("verify", "-s", "top", "--head", audit.head)[0] == 0
    whole = trail.read_text()
    trail.write_text(whole.splitlines(keepends=True)[0])
    assert mekiki("verify", "-s", "top")[0] == 0
    code, out, _ = mekiki("verify", "-s", "top", "--head", audit.head)
    assert code == 1
    assert "lines are missing" in out
    trail.write_text(whole.replace("first", "other"))
    path = damage(1)
    code, out, _ = mekiki("verify", "-s", "top")
    assert code == 1
    assert f"{trail}:1: " in out
    assert str(path) in out


def test_a_version_is_carried_to_another_station(mekiki: Mekiki, engine: Engine) -> None:
    """Export, import under a new number, asked to answer only with --activate."""
    fill(engine)
    fill(engine, 1, "side")
    assert mekiki("export", "2", "good.safetensors", "-s", "top")[0] == 0
    code, out, err = mekiki("import", "good.safetensors", "-s", "side")
    assert (code, out) == (0, "2\n")
    assert "does not answer yet" in err
    assert mekiki("import", "good.safetensors", "-s", "side", "--activate")[1] == "3\n"
    # Each is a line of the audit trail, too: the agent writes it when it takes the request.
    assert requests("side") == [
        ("imported", 2, "from good.safetensors"),
        ("imported", 3, "from good.safetensors"),
        ("activate", 3, ""),
    ]  # fmt: skip
    side = store_of(engine, "side")
    assert (side.active().number, side.load(2).origin) == (1, "imported")
    assert side.load(2).digest == store_of(engine).load(2).digest


def test_what_cannot_be_carried_is_refused_in_one_line(mekiki: Mekiki, engine: Engine) -> None:
    """A file that is there, one that is not, the source, another recipe, a damaged file."""
    store = fill(engine)
    assert mekiki("export", "1", "file", "-s", "top")[0] == 0
    other = AdapterStore(Path("other"), engine.source, engine.info.weights, reading=True)
    stranger = other.add(Path("file"), "sha256:other", any_recipe=True)
    other.export(stranger.number, Path("stranger"))
    damaged = bytearray(Path("file").read_bytes())
    damaged[-9] ^= 1
    Path("damaged").write_bytes(damaged)
    for arguments, what in [
        (("export", "1", "file"), "is there already"),
        (("export", "1", "no/such/folder/file"), "cannot be written"),
        (("export", "0", "source"), "0 is the model as it was trained"),
        (("export", "7", "seven"), "no version 7; there is 0, 1, 2"),
        (("import", "nowhere"), "not a readable adapter file"),
        (("import", "stranger"), "--any-recipe takes it all the same"),
        (("import", "damaged"), "altered"),
    ]:
        code, out, err = mekiki(*arguments, "-s", "top")
        assert (code, out, err.count("\n")) == (64, "", 1), arguments
        assert what in err
    assert store.numbers() == [1, 2]
    assert mekiki("export", "1", "file", "-s", "top", "--force")[0] == 0
    assert mekiki("import", "stranger", "-s", "top", "--any-recipe")[1] == "3\n"


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["list"], 64, "which station? add -s with one of"),
        (["list", "-s", "tob"], 64, "did you mean top?"),
        (["show", "-1", "-s", "top"], 64, ""),
        (["show", "x", "-s", "top"], 64, "argument N: x is not the number of a version"),
        (["export", "1", "-s", "top"], 64, "--out"),
        (["export", "1", "a", "--out", "b", "-s", "top"], 64, "not allowed with"),
        (["rollback", "-s", "top"], 64, ""),
        ([], 64, ""),
        (["freeze", "-s", "top", "--why", "two\nlines"], 64, "why: holds U+000A LINE FEED as character 4"),
        (["list", "-c", "nowhere.yaml"], 78, "nowhere.yaml"),
    ],
)
def test_mistakes_have_their_exit_code(mekiki: Mekiki, arguments: list[str], code: int, what: str) -> None:
    """One message, nothing on stdout, nothing written."""
    got, out, err = mekiki(*arguments)
    assert (got, out) == (code, "")
    assert what in err
    assert not Path("data").exists()


def test_a_data_folder_that_cannot_be_written_is_78(mekiki: Mekiki) -> None:
    """A file where a folder should be, as root meets it too."""
    Path("data").write_text("")
    code, _, err = mekiki("freeze", "-s", "top")
    assert (code, err.count("\n")) == (78, 1)
    assert "cannot be written" in err


def test_root_leaves_no_files_among_the_services_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could not be taken away by the agent: the message names the user to be."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    owned_by = os.stat_result((0o40755, 0, 0, 0, 987, 987, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(Path, "stat", lambda *_: owned_by)
    with pytest.raises(UsageError, match="sudo -u '#987' mekiki adapter"):
        require_owner(tmp_path, "adapter")


def test_with_one_station_none_needs_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the command opens the config's model itself."""
    station = {"camera": {"kind": "simulated"}, "recipe": "line"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"version": 1, "stations": {"only": station}}))
    monkeypatch.chdir(tmp_path)
    assert main(["adapter", "list", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"number": 0, "active": True, "origin": "source"}
