"""What is broken on purpose: each kind of fault breaks something of the plant and mends it again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tests.faults.plant import PATIENCE_S, PREFIX, Plant

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
    one.broker.signal(signal.SIGSTOP)
    time.sleep(6)
    one.broker.signal(signal.SIGCONT)


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
        timeout=PATIENCE_S,
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
