"""What the product says and does, as text files to compare before and after a refactoring.

    python -m tests.golden record OUT [--inputs DIR] [--only replay|mqtt|commands|schema]
    python -m tests.golden compare A B

It drives the command line and MQTT alone, so it runs unchanged when modules move. Only recordings with the
same inputs can be compared: pictures of a line, a commissioned station, and one that learned. All is done in
one folder and at one port, since digests of configs cover both. Left out are Sparkplug, and `mekiki demo` and
`mekiki bench` on good input: what they say is chance and speed.
"""

from __future__ import annotations

import argparse
import difflib
import fcntl
import hashlib
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.golden import cases
from tests.golden.site import (
    ROOT,
    WORK,
    environment,
    fresh_work,
    make_inputs,
    need,
    prepare_commands,
    run,
    write_config,
)

PORT = 18843
_NORMAL = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (re.escape(str(WORK)), "<work>"),
        (re.escape(str(ROOT)), "<root>"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?(Z|\+00:00)?", "<time>"),
        (r"\b\d{4}-\d\d-\d\d\b", "<day>"),
        (r"(\b\d{20}-)?\b[0-9A-HJKMNP-TV-Z]{26}\b", "<ulid>"),
        (r"\.damaged-[^\s:;,'\"]+", ".damaged-<time>"),
        (r'"(wait|infer|total|up_s|instance|since_s|pid)": ?("[^"]*"|[\d.]+)', r'"\1":"<now>"'),
        (r"/tmp/[^\s:;,'\"]+", "<temporary>"),
        (r"\b\d+(\.\d+)? (MB free)", r"<n> \2"),
        (r"\b\d+(\.\d+)? (s|ms)\b", r"<n> \2"),
        # Whether it is said depends on how long the run took.
        (r"(?m)^<time> \w+ +clock: .*\n", ""),
    )
)


def main() -> int:
    """Record or compare, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("out", type=Path, metavar="OUT")
    recording.add_argument("--inputs", type=Path, default=Path("out/golden/inputs"), metavar="DIR")
    recording.add_argument("--only", choices=sorted(PARTS), action="append", help="leave out the others")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("a", type=Path, metavar="A")
    comparing.add_argument("b", type=Path, metavar="B")
    arguments = parser.parse_args()
    if arguments.verb == "compare":
        return compare(arguments.a, arguments.b)
    record(arguments.out.absolute(), arguments.inputs.absolute(), arguments.only or list(PARTS))
    return 0


def compare(a: Path, b: Path) -> int:
    """Print how two recordings differ; 1 where they do."""
    found = [
        {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        for folder in (a, b)
    ]
    if not all(found):
        raise SystemExit(f"{a if not found[0] else b}: no recording lies there")
    differs = 0
    for name in sorted(found[0] | found[1]):
        texts = [files[name].read_text().splitlines(True) if name in files else [] for files in found]
        lines = list(difflib.unified_diff(*texts, str(a / name), str(b / name)))
        differs += bool(lines)
        sys.stdout.writelines(line if line.endswith("\n") else f"{line}\n" for line in lines)
    print(f"{len(found[0] | found[1])} files, {differs} differ")
    return 1 if differs else 0


def record(out: Path, inputs: Path, parts: list[str]) -> None:
    """Write a recording of the code that runs here."""
    with Path(f"{WORK}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: the folder is of everybody on this machine
        if not (inputs / "complete").exists():
            _timed("inputs", lambda: make_inputs(inputs))
        for name in parts:
            fresh_work(inputs)
            for old in [out / name, *out.glob(f"{name}[-.]*")]:
                shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            out.mkdir(parents=True, exist_ok=True)
            _timed(name, lambda part=name: PARTS[part](out))
        shutil.rmtree(WORK)


def replay(out: Path) -> None:
    """Two replays: from the model as it was trained, and from a learned version under a second condition."""
    for number, (data, start) in enumerate((("commissioned", "source"), ("learned", "active")), 1):
        write_config("config.yaml", {"line": {**cases.LEARNS, "camera": cases.CLEAN}}, data=f"data-{data}")
        before = _tree(WORK)
        done = run(["replay", f"recording-{number}", "--from", start, "--json"])
        folder = out / f"replay-{number}"
        folder.mkdir(parents=True)
        (folder / "stdout.jsonl").write_text(
            done.stdout
        )  # nothing of this day is in it: not one byte is normalised
        (folder / "stderr.txt").write_text(_normal(done.stderr))
        # The versions and the trail are within a temporary folder; their digests are in the summary.
        (folder / "left.txt").write_text(
            f"exit code {done.returncode}\nleft behind: {sorted(_tree(WORK) ^ before)}\n"
        )


def schema(out: Path) -> None:
    """The schema, what is in force of three configs, and what a changed one would change."""
    (out / "schema.json").write_text(need("check", "--schema"))
    shutil.copy(ROOT / "config.yaml", WORK / "shipped.yaml")
    rich = re.sub(r"^( *)#(?=[a-z-])", r"\1", (ROOT / "config.yaml").read_text(), flags=re.MULTILINE)
    (WORK / "rich.yaml").write_text(rich)
    (WORK / "other.yaml").write_text(cases.OTHER)
    for name in ("ca.pem", "agent.pem", "agent.key", "cam_password"):
        (WORK / name).write_text("secret\n")
    for name in ("photos", "recordings/top"):
        (WORK / name).mkdir(parents=True)
    text = "".join(_said(["check", "-c", f"{name}.yaml", "--print"]) for name in ("shipped", "rich", "other"))
    text += _said(["check", "-c", "rich.yaml", "--installed", "--print"])
    (out / "schema-check-print.txt").write_text(text)
    write_config("config.yaml", {"line": {"recipe": "line", "camera": {**cases.CLEAN, "parts": 5}}})
    need("run")
    text = _said(["check", "--diff"])
    (WORK / "config.yaml").write_text(cases.OTHER)
    (out / "schema-check-diff.txt").write_text(text + _said(["check", "--diff"]))


def commands(out: Path) -> None:
    """Every help text, and every verb on good and on bad input."""
    folder = out / "commands"
    folder.mkdir(parents=True)
    leaves = dict(_leaves([]))
    for verb, text in leaves.items():
        (folder / f"{verb.replace(' ', '-') or 'mekiki'}.help.txt").write_text(text)
    ours = {verb for verb in leaves if not re.search(r"^    [a-z]+(?= |$)", leaves[verb], re.MULTILINE)}
    if ours != set(cases.VERBS):
        raise SystemExit(
            f"tests/golden/cases.py: verbs without a case, or gone: {sorted(ours ^ set(cases.VERBS))}"
        )
    (folder / "mekiki.txt").write_text("".join(map(_said, ([], ["--version"], ["nonsense"], ["--nonsense"]))))
    for verb, lines in cases.VERBS.items():
        tried = [line.strip() for line in lines.splitlines()[1:-1]]
        good = tried[0].partition(" -c ")[0]
        tried += ["", f"{good} --nonsense"]
        if "--config" in leaves[verb] and verb not in cases.MEASURES:
            bad = cases.BAD_CONFIGS if verb == "check" else cases.SOME_BAD_CONFIGS
            bad = bad[:1] if verb in cases.LIKE_ANOTHER else bad
            tried += [f"{good} -c {config}" for config in (*bad, "crowded.yaml")]
        if verb in cases.NOT_ALONE | cases.MEASURES:
            tried.remove("")
        prepare_commands()  # what one verb leaves behind is no other's
        before = _tree(WORK)
        text = "".join(_said([*verb.split(), *shlex.split(line)], shape=verb in cases.RACY) for line in tried)
        text += _left(before)
        (folder / f"{verb.replace(' ', '-')}.txt").write_text(text)


def _leaves(path: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each parser's help, found by walking the help texts."""
    text = need(*path, "--help")
    yield " ".join(path), text
    for name in re.findall(r"^    ([a-z]+)(?= |$)", text, re.MULTILINE):
        yield from _leaves([*path, name])


def mqtt(out: Path) -> None:
    """What an agent says at a broker, topic by topic."""
    from tests.golden.mqtt import trace

    (out / "mqtt.txt").write_text(trace(WORK, PORT, environment(), _normal))


def _said(arguments: list[str], *, shape: bool = False) -> str:
    """Run a command and return what is to be compared."""
    done = run(arguments)
    texts = [_shape(text) if shape else text for text in (_normal(done.stdout), _normal(done.stderr))]
    command = f"$ mekiki {shlex.join(arguments)}\nexit code {done.returncode}\n"
    return f"{command}-- stdout\n{texts[0]}-- stderr\n{texts[1]}\n"


def _normal(text: str) -> str:
    for pattern, put in _NORMAL:
        text = pattern.sub(put, text)
    return text


def _shape(text: str) -> str:
    """Without numbers, each line once: of what counts and measures."""
    return "".join(
        f"{line}\n" for line in sorted({re.sub(r"\b\d[\d.]*", "<n>", line) for line in text.splitlines()})
    )


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _left(before: set[str]) -> str:
    """Return what commands have made; of exported rows, which lie beside the configs, the digests too.

    Not of exported versions: safetensors writes its header in an order of chance.
    """
    made = {_normal(name) for name in _tree(WORK) - before}
    exported = [path for path in WORK.iterdir() if path.suffix in (".csv", ".json")]
    digests = [f"{path.name}: sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in exported]
    return "".join(f"{line}\n" for line in ("-- made", *sorted(made), *sorted(digests)))


def _timed(what: str, do: Callable[[], None]) -> None:
    began = time.monotonic()
    do()
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


PARTS: dict[str, Callable[[Path], None]] = {
    "replay": replay,
    "schema": schema,
    "mqtt": mqtt,
    "commands": commands,
}
