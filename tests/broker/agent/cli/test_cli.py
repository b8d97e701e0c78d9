"""The command line: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.cli.main import main
from tests.support.mqtt_peers import free_port, mosquitto
from tests.support.places import ROOT
from tests.support.running_agent import at, write_config, write_pictures

pytestmark = pytest.mark.usefixtures("logging_restored")


def mekiki(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["frobnicate"], 64),
        ([], 64),
        (["run", "--frames", "-3"], 64),
        (["inspect", "nowhere.png", "--recipe", "line"], 64),
        (["inspect", ".", "--recipe", "no-such-recipe"], 64),
        (["run", "-c", "nowhere.yaml"], 78),
        (["check", "-c", "nowhere.yaml"], 78),
        (["doctor", "-c", "nowhere.yaml"], 78),
    ],
)
def test_mistakes_have_their_exit_code_and_one_message(
    arguments: list[str],
    code: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """No traceback for a user's mistake, nothing on stdout, and the documented code."""
    monkeypatch.chdir(tmp_path)
    try:
        got = main(arguments)
    except SystemExit as error:  # argparse leaves this way
        got = error.code
    out, err = capfd.readouterr()
    assert got == code
    assert out == ""
    assert err
    assert "Traceback" not in err


def test_unexpected_trouble_is_70_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tiny_bundle: Path, tmp_path: Path
) -> None:
    """A bug is not dressed up as a mistake of the user."""
    from agent.inspection.inspector import Inspector

    monkeypatch.setattr(Inspector, "judge", lambda *_: 1 / 0)
    path = write_config(tmp_path, tiny_bundle, {"line": {"camera": {"kind": "simulated"}}})

    assert main(["run", "-c", str(path)]) == 70


def test_a_damaged_model_is_78_and_names_the_file(tiny_bundle: Path, tmp_path: Path) -> None:
    """A flipped byte in the bundle stops the start, with the file and the remedy."""
    import shutil

    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    content = bytearray((bundle / "image.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "image.onnx").write_bytes(content)
    path = write_config(tmp_path, bundle, {"line": {"camera": {"kind": "simulated"}}})

    run = mekiki("run", "-c", str(path))

    assert run.returncode == 78
    assert "image.onnx" in run.stderr
    assert "Traceback" not in run.stderr


def test_inspect_gives_one_json_object_per_picture(tmp_path: Path) -> None:
    """Good and bad pictures, folders and clips; stdout is JSON lines and nothing else."""
    import cv2

    pictures = write_pictures(tmp_path / "pictures", 3)
    (pictures / "9-broken.jpg").write_bytes(b"\xff\xd8\xff")
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in range(5):
        writer.write(np.random.default_rng(level).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    single = tmp_path / "single.png"
    Image.new("RGB", (64, 64), (200, 100, 50)).save(single)

    run = mekiki("inspect", str(pictures), str(clip), str(single), "--recipe", "line", "--json")

    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 1, run.stderr  # of the broken one
    names = ["path", "verdict", "reason", "label", "score", "scores", "view", "tile", "reference"]
    assert all(list(line) == names for line in lines)
    assert [line["path"] for line in lines] == [
        *(str(pictures / f"{n:04}.png") for n in range(3)),
        str(pictures / "9-broken.jpg"),
        *(f"{clip}#{n}" for n in range(5)),
        str(single),
    ]
    assert [line["reason"] for line in lines].count("unreadable") == 1
    assert all(abs(sum(line["scores"].values()) - 1) < 1e-4 for line in lines if line["scores"])


def test_inspect_knows_the_recipes_of_a_config(tiny_bundle: Path, tmp_path: Path) -> None:
    """With `-c` recipes and model come from there."""
    pictures = write_pictures(tmp_path / "pictures", 1)
    path = write_config(tmp_path, tiny_bundle, {"line": {"camera": {"kind": "simulated"}}})

    run = mekiki("inspect", str(pictures), "--recipe", "tiny", "-c", str(path), "--json")

    assert set(json.loads(run.stdout)["scores"]) == {"ok", "bad"}


def test_a_reader_who_leaves_early_is_no_error(tmp_path: Path) -> None:
    """`mekiki inspect ... | head -1` ends without a traceback."""
    pictures = write_pictures(tmp_path / "pictures", 60)
    command = f"{sys.executable} -m agent inspect {pictures} --recipe line | head -1"
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)

    assert len(run.stdout.splitlines()) == 1
    assert "Traceback" not in run.stderr


def test_demo_ends_with_a_summary_that_adds_up() -> None:
    """Every part is inspected, stored, published, received and compared with the truth."""
    run = mekiki("demo", "--frames", "40", "--fps", "0", "--json")

    lines = [json.loads(line) for line in run.stdout.splitlines()]
    summary = lines[-1]
    assert run.returncode == 0, run.stderr
    assert list(summary) == ["frames", "correct", "accuracy", "verdicts", "published", "received", "fps"]
    assert summary["frames"] == summary["verdicts"] == summary["published"] == summary["received"] == 40
    assert len(lines) == 41
    agree = sum(line["label"] == line["truth"] and line["verdict"] in ("pass", "fail") for line in lines[:-1])
    assert summary["correct"] == agree
    assert summary["accuracy"] >= 0.8


def test_demo_ends_on_ctrl_c() -> None:
    """Ctrl-C is the ordinary end: summary and exit code 0."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "agent", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    demo.stdout.readline()
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=30)

    assert demo.returncode == 0, err
    assert "received" in json.loads(out.splitlines()[-1])
    assert "Traceback" not in err


@pytest.mark.broker
def test_doctor_asks_every_question(tiny_bundle: Path, tmp_path: Path) -> None:
    """One line each; a good installation is 0, a broker or camera that is away is 1 and named."""
    (tmp_path / "broker").mkdir()
    stations = {"line": {"camera": {"kind": "simulated"}}}
    with mosquitto(tmp_path / "broker") as broker:
        path = write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker))
        well = mekiki("doctor", "-c", str(path))
    subjects = [line.split()[1].rstrip(":") for line in well.stdout.splitlines()]
    assert well.returncode == 0, well.stdout
    assert subjects == ["runtime", "model", "gpu", "camera", "view", "learning", "broker", "disk"]
    assert not (tmp_path / "data").exists()  # looking changes nothing

    stations["dead"] = {"camera": {"kind": "opencv", "source": "http://127.0.0.1:9/x", "backend": "ffmpeg"}}
    path = write_config(tmp_path, tiny_bundle, stations, mqtt={"port": free_port(), "connect_timeout_s": 0.5})
    ill = mekiki("doctor", "-c", str(path))
    failed = [line for line in ill.stdout.splitlines() if line.startswith("FAIL")]
    assert ill.returncode == 1
    assert len(failed) == 2
    assert "camera dead" in failed[0]
    assert "broker" in failed[1]


def test_two_onnx_runtimes_are_counted_and_said(tiny_bundle: Path, tmp_path: Path) -> None:
    """They overwrite each other without a word from pip, so `doctor` and the start speak."""
    other = tmp_path / "site" / "onnxruntime_gpu-1.31.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    stations = {"line": {"camera": {"kind": "simulated", "parts": 1}}}
    path = write_config(tmp_path, tiny_bundle, stations)
    where = f"{tmp_path / 'site'}:{ROOT}"

    doctor = mekiki("doctor", "-c", str(path), PYTHONPATH=where)
    run = mekiki("run", "-c", str(path), PYTHONPATH=where)

    assert doctor.returncode == 1
    assert doctor.stdout.startswith("FAIL runtime: onnxruntime")
    assert run.returncode == 0
    assert "overwrite each other" in run.stderr


def test_check_prints_what_is_in_force_without_secrets(tiny_bundle: Path, tmp_path: Path) -> None:
    """`--print` is for support tickets: defaults included, the planted password nowhere."""
    path = write_config(
        tmp_path, tiny_bundle, {"line": {"camera": {"kind": "simulated"}}},
        mqtt={"username": "u", "password": "hunter2-planted"},
    )  # fmt: skip

    check = mekiki("check", "-c", str(path), "--print")

    assert check.returncode == 0
    assert "keepalive_s" in check.stdout
    assert "hunter2-planted" not in check.stdout + check.stderr


def test_help_needs_no_heavy_imports() -> None:
    """`mekiki --help` must not wait for torch, ONNX Runtime or OpenCV."""
    script = (
        "import sys; from agent.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'cv2', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).returncode == 0


def test_ctrl_c_in_run_is_an_orderly_end(tiny_bundle: Path, tmp_path: Path) -> None:
    """The same as SIGTERM."""
    path = write_config(tmp_path, tiny_bundle, {"line": {"camera": {"kind": "simulated", "fps": 50}}})
    run = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "-c", str(path)], stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    assert any("inspecting" in line for line in run.stderr)
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 0, err
    assert "verdicts stored" in err
