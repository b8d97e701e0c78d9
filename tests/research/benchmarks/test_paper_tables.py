"""The paper's tables on imitations of the three published layouts, two pictures of each kind."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image as Pillow  # noqa: E402

from adapters.methods.method import StepResult, Texts  # noqa: E402
from adapters.torch_model.clip import Clip  # noqa: E402
from benchmarks import machine, paper_tables  # noqa: E402
from benchmarks.corruptions import KINDS  # noqa: E402
from benchmarks.paper_tables import Answers, report, run, summary  # noqa: E402
from benchmarks.published_sets import SETS, DataError, Pictures, open_pictures  # noqa: E402
from benchmarks.rivals.frozen import Frozen  # noqa: E402
from camera.pictures.preprocess import InputSpec, prepare  # noqa: E402

FEW = ("fog", "contrast")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go instead of the repository."""
    folder = tmp_path / "results"
    monkeypatch.setattr(machine, "RESULTS", folder)
    return folder


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """CIFAR-10-C with two pictures per kind and severity; those of a severity have its brightness."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 40, (10, 32, 32, 3))
    images = (noise + 40 * np.repeat(np.arange(1, 6), 2).reshape(10, 1, 1, 1)).astype(np.uint8)
    for kind in FEW:
        np.save(folder / f"{kind}.npy", images)
    np.save(folder / "labels.npy", np.arange(10))
    return folder


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """ImageNet-C with two pictures per kind, at severities 3 and 5."""
    folder = tmp_path / "ImageNet-C"
    rng = np.random.default_rng(0)
    for number, name in enumerate(("n01440764/a", "n15075141/b")):
        picture = Pillow.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8))
        for kind in FEW:
            for severity in (3, 5):
                file = folder / kind / str(severity) / f"{name}.JPEG"
                file.parent.mkdir(parents=True)
                picture.point(lambda level, by=number + severity: level // by).save(file, quality=90)
    return folder


@dataclass(frozen=True)
class Counting:
    """A method that answers with the number of pictures since its start."""

    def start(self, clip: Clip, texts: Texts) -> int:
        return 0

    def step(self, clip: Clip, state: int, images: torch.Tensor, texts: Texts) -> tuple[int, StepResult]:
        classes = torch.arange(state, state + len(images))
        return state + len(images), StepResult(torch.nn.functional.one_hot(classes, 10).float(), {})


def predicted(clip: Clip, name: str, pictures: Pictures, kind: str) -> list[int]:
    """What the model, as it was trained, says of each picture, one by one."""
    texts = Texts.of(clip, SETS[name].prompts)
    spec = InputSpec(**asdict(clip.info.preprocess))
    said = []
    for row in range(len(pictures.labels)):
        image = torch.from_numpy(prepare(pictures.read(kind, row), spec))[np.newaxis]
        said.append(int(Frozen().step(clip, None, image, texts)[1].logits.argmax()))
    return said


def command(name: str, folder: Path, checkpoint: Path, *more: str) -> list[str]:
    model = ("--model", "tiny", "--checkpoint", str(checkpoint), "--device", "cpu")
    return ["--set", name, "--data", str(folder), *model, "--kinds", *FEW, *more]


def written(results: Path, name: str) -> dict:
    assert (results / f"paper_tables-{name}.md").read_text().startswith(f"# {name}, severity ")
    return json.loads((results / f"paper_tables-{name}.json").read_text())


@pytest.mark.parametrize("name", ["cifar10-c", "cifar100-c"])
def test_arrays_labelled_by_the_model_itself_are_all_right(name, cifar, results, checkpoints, tiny_clip):
    """The whole command on CIFAR's layout: what the model says is right, and a later kind starts afresh."""
    labels = np.zeros(10, np.int64)
    labels[6:8] = predicted(tiny_clip, name, open_pictures(name, cifar, FEW, 4), "fog")
    np.save(cifar / "labels.npy", labels)
    assert paper_tables.main(command(name, cifar, checkpoints["tiny"], "--severity", "4")) == 0
    figures = written(results, name)
    assert figures["pictures"] == 2
    assert list(figures["results"]) == ["frozen", "TENT", "SAR", "BATCLIP"]
    for of in figures["results"].values():
        assert of["mean"] == [100.0, 100.0, 100.0]
        assert of["of_kind"] == dict.fromkeys(FEW, 100.0)
        assert of["paper"] is None


@pytest.mark.slow
def test_files_labelled_by_the_model_itself_are_all_right(imagenet, results, checkpoints, tiny_clip):
    """The whole command on ImageNet-C's layout with two folders: a synset is a class."""
    name = "imagenet-c"
    pictures = open_pictures(name, imagenet, FEW, 5)
    assert pictures.labels.tolist() == [0, 999]
    said = [predicted(tiny_clip, name, pictures, kind) for kind in FEW]
    assert said[0] == said[1]
    for kind in FEW:
        for old, number in zip(("n01440764/a.JPEG", "n15075141/b.JPEG"), said[0], strict=True):
            new = imagenet / kind / "5" / SETS[name].classes[number][0] / Path(old).name
            new.parent.mkdir(exist_ok=True)
            (imagenet / kind / "5" / old).rename(new)
    more = ("--methods", "frozen", "BATCLIP")
    assert paper_tables.main(command(name, imagenet, checkpoints["tiny"], *more)) == 0
    figures = written(results, name)
    assert {method: of["mean"] for method, of in figures["results"].items()} == {
        "frozen": [100.0, 100.0, 100.0],
        "BATCLIP": [100.0, 100.0, 100.0],
    }


def test_severity_is_a_fifth_of_the_file(cifar):
    """Each severity is its own rows of pictures and of labels, however long the file is."""
    for severity in range(1, 6):
        pictures = open_pictures("cifar10-c", cifar, FEW, severity)
        assert pictures.labels.tolist() == [2 * severity - 2, 2 * severity - 1]
        for row in (0, 1):
            image = pictures.read("contrast", row)
            assert 40 * severity <= image.min()
            assert image.max() < 40 * severity + 40


def test_severity_is_a_folder_of_files(imagenet):
    """Pictures come from the folder of the severity that was asked for."""
    mild, severe = (open_pictures("imagenet-c", imagenet, FEW, severity) for severity in (3, 5))
    assert mild.read("fog", 0).mean() > 1.3 * severe.read("fog", 0).mean()


def test_every_kind_starts_afresh_and_in_the_authors_order(cifar, tiny_clip):
    """A method that counts its pictures counts from zero in every kind, in the authors' order."""
    order = [0, 1]
    random.Random(1).shuffle(order)
    labels = np.zeros(10, np.int64)
    labels[8:] = np.argsort(order)
    np.save(cifar / "labels.npy", labels)
    pictures = open_pictures("cifar10-c", cifar, FEW, 5)
    published = replace(SETS["cifar10-c"], batch=1)
    answers = run(tiny_clip, pictures, published, {"counting": Counting()}, FEW)
    assert answers["counting"].right.tolist() == [[True, True], [True, True]]
    assert len(answers["counting"].step_s) == 4
    limited = run(tiny_clip, pictures, published, {"counting": Counting()}, FEW, limit=1)
    assert limited["counting"].right.shape == (2, 1)


def test_a_list_says_which_pictures_and_in_which_order(imagenet, tmp_path):
    """With a list only its pictures are read, in its order."""
    listed = tmp_path / "list.txt"
    listed.write_text("n15075141/b.JPEG\nn01440764/a.JPEG\n")
    assert open_pictures("imagenet-c", imagenet, FEW, 5, listed).labels.tolist() == [999, 0]
    listed.write_text("n15075141/b.JPEG\n")
    assert open_pictures("imagenet-c", imagenet, FEW, 5, listed).labels.tolist() == [999]


def test_the_papers_means_stand_beside_the_papers_run_only(tiny_clip):
    """All kinds at severity 5 with openai's ViT-B/16 are compared with the paper; anything else is not."""
    options = ["--set", "imagenet-c", "--data", "x", "--pretrained", "openai", "--list", "y"]
    rng = np.random.default_rng(0)
    answers = {name: Answers(rng.random((15, 400)) < 0.3, [0.01]) for name in SETS["imagenet-c"].means}
    figures = summary(paper_tables.arguments(options), tiny_clip, answers)
    batclip = figures["results"]["BATCLIP"]
    assert batclip["mean"][0] == pytest.approx(100 * answers["BATCLIP"].right.mean(), abs=0.01)
    # 400 pictures, the mean of 15 answers each: 1.96 standard errors are 1.16 points.
    assert batclip["mean"][2] - batclip["mean"][1] == pytest.approx(2 * 1.16, rel=0.15)
    assert batclip["difference"] == pytest.approx(batclip["mean"][0] - 30.72, abs=0.01)
    text = report(figures)
    assert "| mean in the paper | 24.51 | 25.15 | 29.73 | 30.72 |" in text
    assert all(f"\n| {kind} | " in text for kind in KINDS)
    some = ["--set", "imagenet-c", "--data", "x"]
    for other in (
        [*options, "--severity", "3"],
        [*options, "--model", "ViT-B-32-quickgelu"],
        [*options, "--limit", "400"],
        [*some, "--pretrained", "openai"],
        [*some, "--checkpoint", "z", "--list", "y"],
    ):
        figures = summary(paper_tables.arguments(other), tiny_clip, answers)
        assert figures["results"]["BATCLIP"]["paper"] is None
        assert "mean in the paper" not in report(figures)


def test_one_class_each_and_the_published_batches():
    """The three sets have 10, 100 and 1000 classes, a text each, and the batches of the authors' files."""
    assert [len(of.prompts.labels) for of in SETS.values()] == [10, 100, 1000]
    assert [of.batch for of in SETS.values()] == [200, 200, 64]
    assert SETS["cifar100-c"].prompts.texts[1] == ("a photo of a aquarium fish.",)
    assert SETS["imagenet-c"].prompts.texts[0] == ("a photo of a tench.",)


def no_labels(folder: Path) -> str:
    (folder / "labels.npy").unlink()
    return "labels.npy: No such file or directory"


def cut_short(folder: Path) -> str:
    content = (folder / "contrast.npy").read_bytes()
    (folder / "contrast.npy").write_bytes(content[:-1])
    return "contrast.npy: not an array as numpy saves it, or cut short"


def empty(folder: Path) -> str:
    (folder / "fog.npy").write_bytes(b"")
    return "fog.npy: not an array as numpy saves it, or cut short"


def pickled(folder: Path) -> str:
    np.save(folder / "fog.npy", np.array([{}]), allow_pickle=True)
    return "fog.npy: not an array as numpy saves it, or cut short"


def other_size(folder: Path) -> str:
    np.save(folder / "contrast.npy", np.zeros((10, 64, 64, 3), np.uint8))
    return "contrast.npy: uint8 (10, 64, 64, 3), expected uint8 (10, 32, 32, 3) for as many labels"


def too_many_classes(folder: Path) -> str:
    np.save(folder / "labels.npy", np.arange(1, 11))
    return "labels.npy: classes 1 to 10, expected 0 to 9"


def labels_of_one_severity(folder: Path) -> str:
    np.save(folder / "labels.npy", np.arange(3))
    return "labels.npy: int64 (3,), expected whole numbers (5 x N,)"


@pytest.mark.parametrize(
    "damage",
    [no_labels, cut_short, empty, pickled, other_size, too_many_classes, labels_of_one_severity],
)
def test_damaged_arrays_are_one_sentence_and_exit_code_2(damage, cifar, results, checkpoints, capsys):
    """What is wrong is said with the file's name before anything runs, and nothing is written."""
    said = damage(cifar)
    assert paper_tables.main(command("cifar10-c", cifar, checkpoints["tiny"])) == 2
    out, err = capsys.readouterr()
    assert err == f"paper_tables: {cifar / said}\n"
    assert out == ""
    assert not results.exists()


def no_kind(folder: Path) -> str:
    shutil.rmtree(folder / "contrast")
    return "contrast/5: no pictures; expected <synset>/<name>.JPEG there"


def one_missing(folder: Path) -> str:
    (folder / "contrast" / "5" / "n15075141" / "b.JPEG").unlink()
    return "contrast/5/n15075141/b.JPEG: no such picture"


def no_synset(folder: Path) -> str:
    for kind in FEW:
        (folder / kind / "5" / "n15075141").rename(folder / kind / "5" / "n99999999")
    return "fog/5/n99999999/b.JPEG: its folder is no synset of ImageNet-1k"


def no_picture(folder: Path) -> str:
    (folder / "fog" / "5" / "n15075141" / "b.JPEG").write_bytes(b"not a picture")
    return "fog/5/n15075141/b.JPEG: not a picture"


@pytest.mark.parametrize("damage", [no_kind, one_missing, no_synset, no_picture])
def test_damaged_folders_are_one_sentence_and_exit_code_2(damage, imagenet, results, checkpoints, capsys):
    """The same for folders of pictures."""
    said = damage(imagenet)
    assert paper_tables.main(command("imagenet-c", imagenet, checkpoints["tiny"])) == 2
    assert capsys.readouterr().err == f"paper_tables: {imagenet / said}\n"
    assert not results.exists()


def test_other_mistakes_are_one_sentence_and_exit_code_2(cifar, imagenet, tmp_path, capsys):
    """A missing folder, the architecture with the other GELU, an empty list, a list for arrays."""
    options = ["--set", "cifar10-c", "--kinds", *FEW, "--pretrained", "openai"]
    assert paper_tables.main([*options, "--data", str(tmp_path / "none")]) == 2
    assert f"{tmp_path / 'none'}: no such folder" in capsys.readouterr().err
    assert paper_tables.main([*options, "--data", str(cifar), "--model", "ViT-B-16"]) == 2
    assert "openai has the other GELU; add or drop -quickgelu" in capsys.readouterr().err
    (tmp_path / "list").write_text("")
    with pytest.raises(DataError, match=r"list: empty; expected <synset>/<name>\.JPEG, one a line"):
        open_pictures("imagenet-c", imagenet, FEW, 5, tmp_path / "list")
    with pytest.raises(DataError, match="gone: cannot be read as a list of pictures"):
        open_pictures("imagenet-c", imagenet, FEW, 5, tmp_path / "gone")
    for more in (["--list", "x"], ["--limit", "0"]):
        with pytest.raises(SystemExit) as ended:
            paper_tables.main([*options, "--data", str(cifar), *more])
        assert ended.value.code == 2
