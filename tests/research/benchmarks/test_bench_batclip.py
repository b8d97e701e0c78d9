"""The photo benchmark: its arithmetic, its short form, and the models that it ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapters.torch_model.diffclip import LambdaInit, stored_lambda_init  # noqa: E402
from adapters.torch_model.loader import load_clip  # noqa: E402
from benchmarks import bench_batclip, bench_tables, photo_model, train_clip  # noqa: E402
from benchmarks.corruptions import KINDS  # noqa: E402
from benchmarks.photos import FOLDER, read_photos  # noqa: E402

needs_photos = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs {FOLDER}")


def pictures(count: int) -> np.ndarray:
    """Smooth random pictures."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)


def run(out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Run the benchmark on pictures of our own, two methods, in this process' children."""
    out.mkdir(exist_ok=True)
    np.save(out / "labels.npy", np.arange(6) % 10)
    for kind in KINDS:
        np.save(out / f"{kind}-5.npy", pictures(6))
    options = ["--out", str(out), "--photos", "6", "--continual-photos", "4", "--kinds", "diffclip"]
    options += ["--methods", "frozen", "BATCLIP exact", "--modes", "reset", "continual, reversed"]
    monkeypatch.setattr("sys.argv", ["bench_batclip", *options, "--json", *more])
    bench_batclip.main()


@pytest.mark.slow
def test_the_short_form_runs_and_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every job leaves its answers; a second run computes nothing and says the same."""
    run(tmp_path, monkeypatch)
    first = capsys.readouterr().out
    figures = json.loads(first)
    assert {(r["mode"], r["method"]) for r in figures["results"]} == {
        (mode, method) for mode in ("reset", "continual, reversed") for method in ("frozen", "BATCLIP exact")
    }
    frozen, learned = (r for r in figures["results"] if r["mode"] == "reset")
    # A kind is one batch here: what is answered before the first update is the frozen answer.
    assert learned["of_kind"] == frozen["of_kind"]
    assert learned["gain"] == [0, 0, 0]
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")}
    run(tmp_path, monkeypatch)
    again = capsys.readouterr().out
    assert json.loads(again)["results"] == figures["results"]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")} == written


def test_tables_and_plot_say_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mean, gain and the worst kind of made-up answers, in Markdown, JSON and a picture."""
    from benchmarks import machine

    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(bench_tables, "PLOTS", tmp_path)
    labels = np.arange(200) % 10
    np.save(tmp_path / "labels.npy", labels)
    frozen = np.tile(labels, (15, 1))
    frozen[:, :100] += 1  # half of every kind is wrong
    better = frozen.copy()
    better[KINDS.index("fog")] = labels
    better[KINDS.index("snow"), 100:140] += 1
    args = bench_batclip.arguments(["--out", str(tmp_path), "--kinds", "clip", "--modes", "reset"])
    args.methods = ["frozen", "TENT"]
    found = {
        ("clip", "reset", name): {"answers": answers, "step_s": np.array([0.25])}
        for name, answers in (("frozen", frozen), ("TENT", better))
    }
    bench_tables.write_tables(args, found)
    text = (tmp_path / "bench_batclip-5.md").read_text()
    assert "| clip | frozen | 50.0 (" in text
    # (50 - 20) points over fifteen kinds.
    assert "| clip | TENT | 52.0 (" in text
    assert "| +2.0 (" in text
    assert "| -20.0 snow | 250 |" in text
    assert json.loads((tmp_path / "bench_batclip-5.json").read_text())["severity"] == 5
    assert (tmp_path / "bench_batclip-5.png").stat().st_size > 10_000
    assert capsys.readouterr().out == text + "\n"


def test_gains_are_paired_and_intervals_hold_what_they_say() -> None:
    """Accuracy, gain over frozen and their 95 % intervals of known answers."""
    rng = np.random.default_rng(1)
    frozen = rng.random((15, 2000)) < 0.6
    better = frozen | (rng.random((15, 2000)) < 0.25)
    right = {("clip", "reset", "frozen"): frozen, ("clip", "reset", "x"): better}
    of = bench_tables.result(("clip", "reset", "x"), right, np.array([0.1, 0.3, 0.2]))
    assert of["step_ms"] == 200
    assert of["accuracy"][0] == pytest.approx(100 * better.mean(), abs=0.01)
    assert of["gain"][0] == pytest.approx(10, abs=1)
    mean, low, high = of["gain"]
    # Fifteen independent kinds: the deviation of a photo's mean gain is sqrt(.1 * .9 / 15).
    assert (high - low) / 2 == pytest.approx(100 * 1.96 * np.sqrt(0.09 / 15 / 2000), rel=0.1)
    assert low < mean < high
    assert "gain" not in bench_tables.result(("clip", "reset", "frozen"), right, np.array([0.1]))


def test_pictures_reach_the_model_as_its_preprocessing_would_have_them() -> None:
    """At the model's own size nothing but the normalisation is left to do."""
    from camera.pictures.preprocess import prepare

    photo_model.register()
    clip = load_clip(photo_model.NAME, checkpoint=photo_model.weights("clip"), device="cpu")
    images = pictures(2)
    expected = prepare(images[0], clip.info.preprocess)
    assert np.allclose(bench_batclip.prepare(images, clip)[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", list(photo_model.KINDS))
def test_the_shipped_models_are_small_and_what_they_say(kind: str) -> None:
    """Below 12 MB; DiffCLIP carries its lambda_init; LayerNorms of both towers adapt."""
    file = photo_model.weights(kind)
    assert file.stat().st_size < 12e6
    assert stored_lambda_init(photo_model.NAME, file) == photo_model.KINDS[kind]
    photo_model.register()
    clip = load_clip(photo_model.NAME, checkpoint=file, device="cpu")
    facts = json.loads(file.with_suffix(".json").read_text())
    assert clip.info.weights == f"sha256:{facts['sha256']}"
    assert clip.norm_names("image")
    assert clip.norm_names("text")


@pytest.mark.data
@needs_photos
@pytest.mark.parametrize("kind", list(photo_model.KINDS))
def test_the_shipped_models_know_the_photos(kind: str) -> None:
    """Zero-shot, on the first thousand of `test-dev`, as good as the facts beside the weights say."""
    photos = read_photos("test-dev")
    facts = json.loads(photo_model.weights(kind).with_suffix(".json").read_text())
    photo_model.register()
    clip = load_clip(photo_model.NAME, checkpoint=photo_model.weights(kind), device="cpu")
    first = type(photos)(photos.images[:1000], photos.labels[:1000])
    assert train_clip.accuracy(clip.model, first) == pytest.approx(facts["history"][-1]["test-dev"], abs=0.04)


# See below: torch's fused RMSNorm.
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_diffclip_learns_like_any_clip(precision: str) -> None:
    """A step moves LayerNorms of both towers, and neither lambda nor RMSNorm gains, also in bf16."""
    from adapters.methods.batclip import Batclip

    clip, texts = bench_batclip.load("diffclip", 0)
    method = Batclip(precision=precision)  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    images = bench_batclip.prepare(pictures(12), clip)
    state, answer = method.step(clip, method.start(clip, texts), images, texts)
    assert answer.numbers["skipped"] == 0
    assert not any("lambda" in name or "sub_norm" in name for name in state.adapter.tensors)
    for name, array in state.adapter.tensors.items():
        assert np.abs(array - clip.source.tensors[name]).max() > 0, name
    assert all(torch.equal(tensor, before[name]) for name, tensor in clip.model.state_dict().items())


def test_augmentation_is_mild_and_repeatable() -> None:
    """Pictures stay in range and near what they were; the same generator gives the same pictures."""
    images = torch.from_numpy(pictures(16))
    once = train_clip.augment(images, torch.Generator().manual_seed(3))
    again = train_clip.augment(images, torch.Generator().manual_seed(3))
    other = train_clip.augment(images, torch.Generator().manual_seed(4))
    assert once.shape == (16, 3, 32, 32)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert 0 <= float(once.min()) <= float(once.max()) <= 1
    grey = train_clip.augment(torch.full((64, 32, 32, 3), 128, dtype=torch.uint8), torch.Generator())
    assert float((grey - 0.5).abs().max()) < 0.25


# torch says that RMSNorm's fused form takes no bf16 beside an fp32 gain; the other form is as right.
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_a_training_step_lowers_the_loss() -> None:
    """Both kinds learn a batch by heart: the recipe's step goes down."""
    for kind, lambda_init in photo_model.KINDS.items():
        assert lambda_init is None or isinstance(lambda_init, LambdaInit)
        torch.manual_seed(0)
        model = photo_model.build(kind)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        images = torch.from_numpy(pictures(10)).permute(0, 3, 1, 2) / 255
        tokens = train_clip.tokenise(photo_model.TEMPLATES)[0]
        losses = [train_clip.descend(model, optimizer, images, torch.arange(10), tokens) for _ in range(50)]
        assert losses[-1] < 0.5 * losses[0]
