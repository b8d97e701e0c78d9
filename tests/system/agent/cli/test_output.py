"""What is printed where it cannot be printed: full, closed, nobody reads it, or another encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from agent.cli.output import as_json, safe_json
from tests.support.configs import MINIMAL
from tests.support.places import ROOT

ODD = "刀\n\x1b[2J\x9b\u202e\u2028.png"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $M is mekiki."""
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        timeout=170,
        cwd=folder,
        encoding="utf-8",
        errors="surrogateescape",
        env={
            **os.environ,
            "M": f"{sys.executable} -m agent",
            "PYTHONPATH": str(ROOT),
            **environment,
        },
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(MINIMAL.replace("stations", "mqtt: {enabled: false}\nstations"))
    return tmp_path


PRINTING = ["$M check --print", "$M check --schema", "$M --version", "$M check --help"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", PRINTING)
def test_a_full_disk_is_told_in_one_line(folder, command):
    """It may pass: exit code 75, and nothing of the interpreter."""
    done = shell(f"{command} > /dev/full", folder)
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1] == "standard output: cannot be written: No space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("command", PRINTING)
def test_a_closed_output_is_told_in_one_line(folder, command):
    """The command line is wrong: exit code 64."""
    done = shell(f"{command} >&-", folder)
    assert done.returncode == 64
    assert done.stderr.splitlines()[-1] == "standard output: is closed: open it, or send it to a file"
    assert "Traceback" not in done.stderr


def test_what_prints_nothing_needs_no_output(folder):
    """`check` says what it has to say on standard error."""
    done = shell("$M check >&-", folder)
    seen, good = done.stderr.splitlines()
    assert (done.returncode, good) == (0, "config.yaml: good: top")
    assert seen.startswith("station top: 256x256, region 256x256, squashed into 128x128: all of it is seen")


def test_without_standard_error_nothing_is_told_on_standard_output(folder):
    """Nobody is there to read a message; the exit code says it."""
    for closed in ("2>&-", "2>/dev/full"):
        done = shell(f"$M check {closed}", folder)
        assert (done.returncode, done.stdout) == (0, "")
        done = shell(f"$M check -c nowhere.yaml {closed}", folder)
        assert (done.returncode, done.stdout) == (78, "")


def test_a_reader_that_has_gone_is_no_mistake(folder):
    """As in `mekiki ... | head`."""
    done = shell("(trap '' PIPE; sleep 3; $M check --schema; echo $? >code) | true", folder)
    assert done.stderr == ""
    assert (folder / "code").read_text() == "0\n"


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "C"},
        {},
    ],
)
def test_every_encoding_has_every_line(folder, environment):
    """What an encoding does not have is escaped, also within JSON, and no line is broken by a name."""
    for name in (ODD, "plain.png"):
        Image.new("RGB", (64, 64), (90, 90, 90)).save(folder / name)
    (folder / os.fsdecode(b"\xff.png")).write_bytes((folder / "plain.png").read_bytes())
    done = shell("$M inspect . --recipe line --json", folder, **environment)
    assert (done.returncode, json.loads(done.stderr)["results"]) == (0, 3)
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3
    paths = {json.loads(line)["path"] for line in done.stdout.splitlines()}
    assert {ODD, "plain.png"} <= paths
    done = shell("$M inspect . --recipe line", folder, **environment)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("3 results: ")
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_a_message_is_one_line_whatever_a_name_holds(folder):
    """Of a path that is not there, and of a picture that is none."""
    odd = "a\nERROR forged\x1b[2J.png"
    done = subprocess.run(
        [sys.executable, "-m", "agent", "inspect", odd, "--recipe", "line"], capture_output=True, text=True,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=170,
    )  # fmt: skip
    assert done.returncode == 64
    assert done.stderr == "a\\nERROR forged\\x1b[2J.png: no such file or folder\n"
    (folder / odd).write_bytes(b"no picture")
    done = shell("$M inspect . --recipe line", folder)
    assert len(done.stdout.splitlines()) == 1
    assert len(done.stderr.splitlines()) == 2  # the reason, and the totals
    assert "\x1b" not in done.stderr + done.stdout


def test_json_that_is_safe_is_the_same_json():
    """Escapes mean what they stand for; what is visible stays as it is."""
    value = {"a\u2028\x9b\x7f\U000e0001\ud800": ["良品　A", "❤\ufe0f", "\n\t\x1b"]}
    for indent in (None, 2):
        text = as_json(value, indent)
        assert json.loads(text) == value
        assert "良品　A" in text
        assert set(text) & set("\u2028\x9b\x7f\U000e0001\ud800\x1b\t") == set()
    assert safe_json('{"a":"\x9b"}') == '{"a":"\\u009b"}'
