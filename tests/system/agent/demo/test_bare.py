"""An environment without torch, as on a line PC: the demo learns LayerNorms there."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import ROOT

BARE = ROOT / ".venv-bare"
ABSENT = ("torch", "torchvision", "open_clip", "timm", "onnx", "onnx_ir", "onnxscript")

DEMO = """
import json, sys
from agent.demo import main as demo
from agent.cli.main import main

take = demo.DemoSubscriber._take

def taken(self, result):
    take(self, result)
    print(json.dumps({"provenance": result["provenance"]}), flush=True)

demo.DemoSubscriber._take = taken
sys.exit(main(["demo", "--json", "--fps", "10", "--frames", "1500"]))
"""
"""`mekiki demo` that also says by which adapter each part was judged.

At half its usual pace, because a busy machine learns slowly, and at most until the lamp is changed: nothing
is to be learned after that. It usually has learned by part 620, and the test ends it there.
"""


def python() -> str:
    """Return the environment's interpreter; without it the test fails."""
    if not (BARE / "ready").exists():
        pytest.fail("there is no environment without torch: make .venv-bare/ready")
    return str(BARE / "bin" / "python")


@pytest.mark.slow
def test_there_is_no_torch_in_it() -> None:
    """Nor anything that builds bundles: what follows proves nothing otherwise."""
    code = f"import importlib.util as u; print([name for name in {ABSENT} if u.find_spec(name) is not None])"
    found = subprocess.run([python(), "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_layer_norms_are_learned_without_torch(tmp_path: Path) -> None:
    """When the lamp dies, a version with other LayerNorms is promoted and answers; then the test ends it."""
    said: list[dict[str, Any]] = []
    adapters: list[tuple[int, str]] = []
    ended = False
    with (
        (tmp_path / "stderr").open("w") as stderr,
        subprocess.Popen(
            [python(), "-I", "-c", DEMO], stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=tmp_path
        ) as demo,
    ):
        try:
            assert demo.stdout is not None
            for line in demo.stdout:
                message = json.loads(line)
                if "provenance" in message:
                    made = message["provenance"]
                    adapters.append((made["adapter"], made["adapter_digest"]))
                else:
                    said.append(message)
                if not ended and learned(said) & {number for number, _ in adapters[-1:]}:
                    ended = True
                    demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0, (tmp_path / "stderr").read_text()
        finally:
            demo.kill()
    assert ended, [one for one in said if "event" in one]
    source = adapters[0]
    assert source[0] == 0
    assert source[1] not in {digest for number, digest in adapters if number in learned(said)}
    assert said[-1]["received"] == len(adapters)


def learned(said: list[dict[str, Any]]) -> set[int]:
    """Return the numbers of the versions whose LayerNorms were promoted."""
    return {one["number"] for one in said if str(one.get("why")).startswith("gain on known parts")}
