"""An environment with torch beside one without: ``python -m benchmarks.environments`` writes ``results/environments``.

Both are made new in a temporary folder as a user makes them, `pip install .` with constraints.txt: ``[cpu,demo]``,
what `make demo` installs, which runs the bundle on ONNX Runtime and learns; and the same with ``torch``, which runs
the checkpoint on torch. Then seconds to install, what lies on disk, from the start of the process to its first
verdict, resident memory, and the files of the model. Needs mosquitto, the package index, and 10 GB of disk for a
while. pip's cache and index are as this machine has them, so how long it takes to install tells more of the
index and the disk than of us.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from adapters.architecture import fresh_model
from adapters.bundle import IMAGE, NORMS, TEXT, bundle_path, graph
from benchmarks.line_run import config, mosquitto, subscriber, write_pictures
from benchmarks.machine import describe, in_words, table, write
from benchmarks.ship_line import WEIGHTS
from benchmarks.step_time import MODEL

ROOT = Path(__file__).parent.parent
FRAMES = 200
LEARNING = tuple(graph(tower, use) for tower in (IMAGE, TEXT) for use in ("forward", "backward"))
"""Files of a bundle that only a learner reads."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One to make.

    Attributes:
        extras: of this project.
        model: the section of config.yaml.
    """

    name: str
    extras: str
    model: dict[str, Any]


ENVIRONMENTS = (
    Environment("without torch", "cpu,demo", {"engine": "onnx", "device": "cpu"}),
    Environment(
        "with torch",
        "cpu,demo,torch",
        {"engine": "torch", "name": "mekiki-line", "checkpoint": str(WEIGHTS.absolute()), "device": "cpu"},
    ),
)


def main() -> None:
    """Make and measure one after the other; each is deleted before the next."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument(
        "--bundle", type=Path, default=Path("out/step_time/bundle"), help=f"of {MODEL}, if there"
    )
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for environment in ENVIRONMENTS:
        with tempfile.TemporaryDirectory(prefix="mekiki-env-") as name:
            found[environment.name] = _measured(environment, Path(name), arguments.starts)
        print(environment.name, found[environment.name], flush=True)
    figures: dict[str, Any] = {
        "machine": describe("onnxruntime", "torch"),
        "environments": found,
        "model_mb": {"mekiki-line": _sizes(bundle_path("mekiki-line"), WEIGHTS.stat().st_size)},
    }
    if arguments.bundle.exists():
        weights = sum(tensor.nbytes for tensor in fresh_model(MODEL).state_dict().values())
        figures["model_mb"][MODEL] = _sizes(arguments.bundle, weights)
    write("environments", figures, _markdown(figures))


def _measured(environment: Environment, folder: Path, starts: int) -> dict[str, Any]:
    home = folder / "venv"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["-c", str(ROOT / "constraints.txt"), f"{ROOT}[{environment.extras}]"]
    subprocess.run(install, check=True)
    found: dict[str, Any] = {
        "extras": environment.extras,
        "install_s": round(time.perf_counter() - began, 1),
        "disk_mb": round(sum(_allocated(path) for path in home.rglob("*")) / 1e6),
        "packages": len(list(home.glob("lib/python*/site-packages/*.dist-info"))),
    }
    write_pictures(folder / "pictures")
    with mosquitto(folder) as port:
        times = [_start(environment, python, folder, port, number) for number in range(starts)]
        found["start_s"] = {
            "first": round(times[0], 2),
            "median of the others": round(float(np.median(times[1:])), 2),
            "runs": [round(t, 2) for t in times],
        }
        found["rss_mib"] = _resident(environment, python, folder, port)
    return found


def _start(environment: Environment, python: Path, folder: Path, port: int, number: int) -> float:
    """Return seconds from the start of the process to the arrival of its first verdict."""
    path = _config(environment, folder, port, f"start-{number}")
    with subscriber(port) as seen:
        started = time.time()
        subprocess.run([*_agent(python, path), "--frames", "1"], check=True, capture_output=True, cwd=folder)
        return float(seen(1)[0]["arrived"]) - started


def _resident(environment: Environment, python: Path, folder: Path, port: int) -> float:
    """Return MiB of an agent that has inspected `FRAMES` parts."""
    path = _config(environment, folder, port, "memory")
    with subscriber(port) as seen:
        agent = subprocess.Popen(
            _agent(python, path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )
        try:
            seen(FRAMES)
            return round(float(psutil.Process(agent.pid).memory_info().rss) / 2**20, 1)
        finally:
            agent.terminate()
            agent.wait(30)


def _agent(python: Path, path: Path) -> list[str]:
    # -I: this checkout is not to be found, only what was installed.
    return [str(python), "-I", "-m", "agent", "run", "-c", str(path)]


def _config(environment: Environment, folder: Path, port: int, data: str) -> Path:
    path = config(folder, port, 1, data=data)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**settings, "model": environment.model}), encoding="utf-8")
    return path


def _sizes(bundle: Path, checkpoint_bytes: int) -> dict[str, float]:
    """Return MB of a model's files, by what they are needed for."""
    sizes = {file.name: file.stat().st_size for file in bundle.iterdir()}
    learning = sum(sizes[name] for name in LEARNING)
    return {
        "bundle": _mb(sizes.values()),
        "bundle without learning": _mb([*sizes.values(), -learning]),
        "for learning": _mb([learning]),
        "checkpoint": _mb([checkpoint_bytes]),
        "one learned version": _mb([sizes[NORMS]]),
    }


def _mb(sizes: Iterable[int]) -> float:
    return round(sum(sizes) / 1e6, 2)


def _allocated(path: Path) -> int:
    """Return the bytes of disk that a file or folder takes."""
    return 512 * os.lstat(path).st_blocks


def _markdown(figures: dict[str, Any]) -> str:
    rows = [
        [
            f"{name}: `.[{one['extras']}]`",
            f"{one['install_s']:.0f}",
            f"{one['disk_mb']:,}",
            str(one["packages"]),
            f"{one['start_s']['first']:.2f}",
            f"{one['start_s']['median of the others']:.2f}",
            f"{one['rss_mib']:.0f}",
        ]
        for name, one in figures["environments"].items()
    ]
    kinds = list(next(iter(figures["model_mb"].values())))
    sizes = [[model, *(f"{of[kind]:.2f}" for kind in kinds)] for model, of in figures["model_mb"].items()]
    heads = ["environment", "install, s", "on disk, MB", "packages", "first start, s", "start, s", f"RSS after {FRAMES} parts, MiB"]  # fmt: skip
    return (
        "# With torch and without\n\nWritten by `python -m benchmarks.environments`. Machine:"
        f" {in_words(figures['machine'])}.\n\nBoth are new, from pip's index and cache as this machine has them;"
        " a start is from the start of the process to the arrival of the first verdict over MQTT, the first one"
        " right after the installation, then the median of the others. Model mekiki-line on the CPU: the bundle on"
        " ONNX Runtime, with torch the checkpoint.\n\n"
        + table(heads, rows)
        + "\n## The model's files, MB\n\nThe checkpoint is what torch runs and learns with. A bundle needs no more to"
        " learn than the files of that column, because its graphs share their numbers. Of a learned version the"
        " LayerNorms are kept.\n\n" + table(["", *kinds], sizes)
    )


if __name__ == "__main__":
    main()
