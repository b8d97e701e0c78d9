"""Where the golden master works, what it starts from, and how it runs the product: as a command."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.golden import cases
from tests.support.places import ROOT

WORK = Path(tempfile.gettempdir()) / "mekiki-golden"
"""Always the same, as digests of configs cover paths."""
INPUTS = ("bundle", "golden", "data-commissioned", "data-learned", "recording-1", "recording-2")
LIMIT_S = 300.0


def make_inputs(inputs: Path) -> None:
    """Make what all recordings start from, by the product's own commands."""
    fresh_work(None)
    bundle = next(path for path in ROOT.glob("a*/**/mekiki-line/manifest.json")).parent
    shutil.copytree(bundle, WORK / "bundle")
    for name, camera in cases.RECORDED.items():
        write_config(f"{name}.yaml", {"line": {"camera": camera, "recipe": "line"}}, data=f"data-{name}")
        need("record", "line", "-c", f"{name}.yaml", "--out", name)
    told: dict[str, int] = {}
    for line in need("inspect", "known/frames", "--recipe", "line", "--json").splitlines():
        judged = json.loads(line)
        label, told[judged["label"]] = judged["label"], told.get(judged["label"], 0) + 1
        if told[label] <= 20:  # named by the model, which is sure of a clean line
            (WORK / "golden" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(WORK / judged["path"], WORK / "golden" / label)
    write_config("config.yaml", {"line": {"camera": cases.CLEAN, "recipe": "line"}})
    need("commission", "-s", "line", "--parts", "1000", "--golden", "golden")
    shutil.copytree(WORK / "data", WORK / "data-commissioned")
    write_config(
        "config.yaml", {"line": cases.LEARNS}, storage={"min_free_mb": 0, "images": {"enabled": True}}
    )
    need("run", "--frames", "500")
    shutil.move(WORK / "data", WORK / "data-learned")
    (WORK / "data-learned" / "clock.json").unlink()  # it would doubt the clock of another boot
    inputs.mkdir(parents=True, exist_ok=True)
    for name in INPUTS:
        shutil.copytree(WORK / name, inputs / name, dirs_exist_ok=True)
    (inputs / "complete").write_text("")


def prepare_commands() -> None:
    """Lay out anew what the cases name: a learned station, and everything that can be damaged, damaged."""
    for path in WORK.iterdir():
        if path.name not in INPUTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copy(WORK / "data-learned/stations/line/adapters/000001.safetensors", WORK / "one.safetensors")
    shutil.copytree(WORK / "data-learned", WORK / "data")
    line = {**cases.LEARNS, "camera": {**cases.CLEAN, "parts": 5}}
    images = {"min_free_mb": 0, "images": {"enabled": True}}
    write_config("config.yaml", {"line": line}, storage=images)
    write_config("crowded.yaml", {"line": line, "other": line})
    write_config("fresh.yaml", {"line": line}, data="data-fresh")
    write_config("bad-bundle.yaml", {"line": line}, model={"threads": 1, "bundle": "bad-bundle"})
    write_config("no-bundle.yaml", {"line": line}, model={"threads": 1, "bundle": "nowhere"})
    for kind, files in cases.DAMAGED.items():
        shutil.copytree(WORK / ("bundle" if kind == "bundle" else "data-learned"), WORK / f"bad-{kind}")
        for name in files:
            _damage(WORK / f"bad-{kind}" / name)
        if kind != "bundle":
            write_config(f"bad-{kind}.yaml", {"line": line}, data=f"bad-{kind}")
    for name, text in cases.FILES.items():
        (WORK / name).write_text(text)
    shutil.copytree(WORK / "recording-1", WORK / "bad-recording")
    _damage(WORK / "bad-recording" / "frames" / "000003.png")
    shutil.copytree(WORK / "recording-1", WORK / "bad-manifest")
    _damage(WORK / "bad-manifest" / "manifest.json")
    (WORK / "pictures").mkdir()
    for picture in sorted((WORK / "recording-1" / "frames").iterdir())[:5]:
        shutil.copy(picture, WORK / "pictures")
    shutil.copy(WORK / "bad-recording" / "frames" / "000003.png", WORK / "pictures" / "damaged.png")
    (WORK / "empty").mkdir()


def _damage(file: Path) -> None:
    """Write noise, always the same, over the second half."""
    content = file.read_bytes()
    file.write_bytes(
        content[: len(content) // 2] + random.Random(0).randbytes(len(content) - len(content) // 2)
    )


def environment() -> dict[str, str]:
    """What the product is given: nothing of whoever records."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    code = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    fixed = {
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "100",
        "TERM": "dumb",
        "LOGNAME": "golden",
        "CAM_USER": "cam",
    }
    return {**kept, **fixed, "PYTHONPATH": code, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=WORK,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def need(*arguments: str) -> str:
    done = run(list(arguments))
    if done.returncode:
        raise SystemExit(f"mekiki {shlex.join(arguments)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def write_config(name: str, stations: dict[str, Any], *, data: str = "data", **sections: Any) -> None:
    config = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": data},
        "model": {"threads": 1, "bundle": "bundle"},
        "mqtt": {"enabled": False},
        "stations": stations,
        "storage": {"min_free_mb": 0},
        **sections,
    }
    (WORK / name).write_text(yaml.safe_dump(config, sort_keys=False))


def fresh_work(inputs: Path | None) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(inputs, WORK) if inputs is not None else WORK.mkdir()
