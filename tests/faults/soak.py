"""Everything breaks, again and again, for so many minutes: ``python -m tests.faults.soak --minutes 60``.

Writes ``benchmarks/results/soak.md``. At the end each result that was stored must have arrived, once more
where a broker forgot it, under one number and one event id, and nothing may have been given up. Exit code 1
where that does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from tests.faults.plant import PREFIX, Plant, Sample, plant

Fault = Callable[[Plant, random.Random], None]
"""Breaks something and mends it again; returns when everything is as it was but for the recovery."""


def agent_killed(one: Plant, rng: random.Random) -> None:
    """Kill -9 at any moment."""
    time.sleep(rng.uniform(0, 1))
    one.kill()
    one.start()


def learner_killed(one: Plant, rng: random.Random) -> None:
    for process in one.learners():
        os.kill(process, signal.SIGKILL)


def learner_hangs(one: Plant, rng: random.Random) -> None:
    learners = one.learners()
    for process in learners:
        os.kill(process, signal.SIGSTOP)
    time.sleep(2)
    for process in learners:
        os.kill(process, signal.SIGCONT)


def broker_killed(one: Plant, rng: random.Random) -> None:
    """It keeps nothing on disk, so what it had acknowledged is gone."""
    one.broker.kill()
    time.sleep(rng.uniform(0, 2))
    one.broker.start()


def broker_frozen(one: Plant, rng: random.Random) -> None:
    """It takes everything and acknowledges nothing."""
    process = one.broker._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    process.send_signal(signal.SIGCONT)


def cable_cut(one: Plant, rng: random.Random) -> None:
    for _ in range(3):
        one.wire.cut()
        time.sleep(rng.uniform(0.1, 0.6))


def cable_cut_in_a_packet(one: Plant, rng: random.Random) -> None:
    one.wire.cut_after = rng.randrange(1, 3000)
    time.sleep(1)


def cable_half_open(one: Plant, rng: random.Random) -> None:
    one.wire.silent = True
    time.sleep(6)
    one.wire.cut()
    one.wire.silent = False


def cable_slow(one: Plant, rng: random.Random) -> None:
    one.wire.bytes_per_s = 2000
    time.sleep(4)
    one.wire.bytes_per_s = 0


def camera_stalls(one: Plant, rng: random.Random) -> None:
    one.camera.mood = "stalls"
    time.sleep(3)
    one.camera.mood = "well"


def camera_unplugged(one: Plant, rng: random.Random) -> None:
    one.camera.unplug()
    time.sleep(2)
    one.camera.plug()


def camera_floods(one: Plant, rng: random.Random) -> None:
    """240 pictures a second."""
    one.camera.mood = "floods"
    time.sleep(3)
    one.camera.mood = "well"


def camera_grows(one: Plant, rng: random.Random) -> None:
    """Another resolution in the middle of the stream."""
    one.camera.mood = "grows"
    time.sleep(2)
    one.camera.mood = "well"


def camera_garbage(one: Plant, rng: random.Random) -> None:
    one.camera.mood = "garbage"
    time.sleep(2)
    one.camera.mood = "well"


def config_saved_often(one: Plant, rng: random.Random) -> None:
    """Half of the saves are broken."""
    good = one.config.read_text()
    for number in range(20):
        cut = rng.randrange(len(good))
        one.config.write_text(good[:cut] if number % 2 else f"{good}# {number}\n")
        time.sleep(0.1)
    one.config.write_text(good)
    one.save(threshold=round(rng.uniform(0.3, 0.7), 4))


def disk_full(one: Plant, rng: random.Random) -> None:
    """Only where the data folder is on a disk of its own."""
    filler = one.data / "filler"
    try:
        with filler.open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()
    except OSError:
        pass
    time.sleep(4)
    filler.unlink()


def flood_of_commands(one: Plant, rng: random.Random) -> None:
    """Good ones, bad ones and noise, as fast as they go."""
    for number in range(3000):
        verb = rng.choice(("ping", "label", "adapter/list", "nonsense", "stats"))
        body = {"transaction": f"{rng.random()}", "user": "flood", "event_id": str(number)}
        payload = json.dumps(body).encode() if rng.random() < 0.8 else rng.randbytes(200)
        one.subscriber.send(f"{PREFIX}/cmd/request/{verb}", payload)


def second_agent(one: Plant, rng: random.Random) -> None:
    """On the same data folder; it has to refuse."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "-c", str(one.config)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 75, done.stderr[-500:]
    assert "another agent uses this data folder" in done.stderr


FAULTS: dict[str, Fault] = {
    each.__name__: each
    for each in (
        agent_killed, learner_killed, learner_hangs, broker_killed, broker_frozen, cable_cut,
        cable_cut_in_a_packet, cable_half_open, cable_slow, camera_stalls, camera_unplugged, camera_floods,
        camera_grows, camera_garbage, config_saved_often, disk_full, flood_of_commands, second_agent,
    )
}  # fmt: skip


def broken(one: Plant, name: str, rng: random.Random) -> float:
    """Break and mend one thing; returns the seconds from then to the arrival of a result decided since."""
    FAULTS[name](one, rng)
    mended_s, began = time.time(), time.monotonic()
    one.recovered(mended_s)
    return time.monotonic() - began


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a disk of 96 MB for the data; None where that may not be done here."""
    place = folder / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", place], capture_output=True)
    if done.returncode:
        yield None
        return
    try:
        yield place / "data"
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def main() -> int:
    """Run, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=0, help="kill -9 so often, on top")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", default="soak")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    recovery: dict[str, list[float]] = {}
    resent = 0
    with small_disk(folder) as data, plant(folder, data) as one:
        names = [name for name in FAULTS if name != "disk_full" or data is not None]
        # Where the agent is not to live for long, nothing can be said about its growth: the first half of the
        # time leaves it alone.
        until = time.monotonic() + 60 * arguments.minutes
        calm_until = until - 30 * arguments.minutes
        while time.monotonic() < until:
            calm = time.monotonic() < calm_until
            name = rng.choice([each for each in names if not (calm and each == "agent_killed")])
            recovery.setdefault(name, []).append(broken(one, name, rng))
            print(f"{name}: {recovery[name][-1]:.2f} s", flush=True)
            if name == "broker_killed":  # before retention takes what it has forgotten
                resent += one.ask_for_missing()
            time.sleep(rng.uniform(0, 2))
        for _ in range(arguments.kills):
            recovery.setdefault("agent_killed", []).append(broken(one, "agent_killed", rng))
        resent += one.ask_for_missing()
        lost = _lost(one)
        code = one.stop()
        stored, missing, wrong = one.stored(), one.missing(), one.subscriber.wrong
    shutil.rmtree(folder, ignore_errors=True)
    growth = grown(max(one.lives, key=len))
    problems = judge(stored, missing, wrong, lost, code)
    how = f"--minutes {arguments.minutes:g} --kills {arguments.kills} --seed {arguments.seed}"
    _report(arguments.report, how, recovery, stored, resent, lost, growth, problems)
    print("\n".join(problems) or "nothing lost")
    return 1 if problems else 0


def judge(
    stored: dict[str, dict[int, str]], missing: dict[str, list[int]], wrong: list[str], lost: int, code: int
) -> list[str]:
    """Return what broke a promise."""
    problems = [f"{station}: {len(numbers)} never arrived" for station, numbers in missing.items() if numbers]
    for station, rows in stored.items():
        gaps = max(rows) - min(rows) + 1 - len(rows)
        if gaps:
            problems.append(f"{station}: {gaps} numbers are not in the store")
    problems += wrong[:5]
    if lost:
        problems.append(f"{lost} results were lost or given up")
    if code:
        problems.append(f"the agent ended with exit code {code}")
    return problems


def grown(life: list[Sample]) -> dict[str, float]:
    """Return how memory, threads and files changed over a life without its first minute, per hour."""
    late = [sample for sample in life if sample.at_s > life[0].at_s + 60]
    if len(late) < 60:
        return {}
    hours = np.array([sample.at_s - late[0].at_s for sample in late]) / 3600
    quarter = len(late) // 4
    first, last = late[:quarter], late[-quarter:]
    return {
        "minutes": round(60 * float(hours[-1]), 1),
        "rss_mb_first_quarter": round(float(np.median([sample.rss_mb for sample in first])), 1),
        "rss_mb_last_quarter": round(float(np.median([sample.rss_mb for sample in last])), 1),
        "rss_mb_per_hour": round(float(np.polyfit(hours, [sample.rss_mb for sample in late], 1)[0]), 2),
        "threads_first": float(np.median([sample.threads for sample in first])),
        "threads_last": float(np.median([sample.threads for sample in last])),
        "files_first": float(np.median([sample.files for sample in first])),
        "files_last": float(np.median([sample.files for sample in last])),
    }


def _lost(one: Plant) -> int:
    port = yaml.safe_load(one.config.read_text())["metrics"]["port"]
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    found = [line.split() for line in text.splitlines() if line.startswith("mekiki_results_")]
    numbers = {name: float(value) for name, value in found}
    return int(numbers.get("mekiki_results_lost_total", -1) + numbers.get("mekiki_results_given_up_total", 0))


def _report(
    name: str,
    how: str,
    recovery: dict[str, list[float]],
    stored: dict[str, dict[int, str]],
    resent: int,
    lost: int,
    growth: dict[str, float],
    problems: list[str],
) -> None:
    from benchmarks.machine import describe, in_words, table, write

    machine = describe("onnxruntime", "paho-mqtt")
    rows = [
        [fault, str(len(times)), *(f"{np.percentile(times, q):.2f}" for q in (50, 99, 100))]
        for fault, times in sorted(recovery.items())
    ]
    everything = [one for times in recovery.values() for one in times]
    count = sum(map(len, stored.values()))
    after = "; ".join(problems) or "all have arrived, each under one number and one event id"
    text = (
        f"# Soak\n\nWritten by `python -m tests.faults.soak {how}`; the second half of the minutes with"
        f" kill -9 of the agent too. Machine: {in_words(machine)}.\n\n{count} results stored, {lost} lost or"
        " given up;"
        f" {resent} that a killed broker had acknowledged and forgotten were asked for again. Then: {after}."
        "\n\nFrom the mending of a fault to the arrival of a result decided since:\n\n"
        + table(["fault", "times", "p50, s", "p99, s", "slowest, s"], rows)
        + f"\n\nAll: {len(everything)} faults, p99 {np.percentile(everything, 99):.2f} s.\n\n"
        + "The agent's longest life without its first minute: "
        + (", ".join(f"{key} {value:g}" for key, value in growth.items()) or "too short to say anything")
        + ".\n"
    )
    facts = {"machine": machine, "recovery_s": recovery, "stored": count, "resent": resent, "lost": lost}
    write(name, {**facts, "growth": growth, "problems": problems}, text)


if __name__ == "__main__":
    sys.exit(main())
