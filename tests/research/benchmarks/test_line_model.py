"""The embedded model: built by open_clip from its config, loaded strictly, as good as it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from safetensors import safe_open  # noqa: E402

from adapters.torch_model import line_encoder  # noqa: E402
from agent.config.recipes import shipped  # noqa: E402
from benchmarks.line_data import (  # noqa: E402
    SHARED_DATA,
    STEEL,
    line_pictures,
    read_recipe,
    read_split,
    split_files,
    steel_pictures,
)
from benchmarks.line_zero_shot import RECIPES, Words, balanced_accuracy, guess  # noqa: E402
from benchmarks.ship_line import WEIGHTS  # noqa: E402
from benchmarks.small_clip import half_precision  # noqa: E402

needs_data = pytest.mark.skipif(not SHARED_DATA.exists(), reason=f"{SHARED_DATA} is absent: no steel photos")


@pytest.fixture(scope="module")
def model():
    line_encoder.register()
    built = open_clip.create_model(line_encoder.MODEL_NAME, force_preprocess_cfg=line_encoder.PREPROCESS)
    open_clip.load_checkpoint(built, str(WEIGHTS), strict=True)
    return built.eval()


@pytest.fixture(scope="module")
def words():
    line_encoder.register()
    return Words.of({name: read_recipe(file) for name, file in RECIPES.items()}, torch.device("cpu"))


def test_registering_again_changes_nothing():
    """`register` may be called by everyone who needs the model."""
    line_encoder.register()
    line_encoder.register()
    assert line_encoder.MODEL_NAME in open_clip.list_models()


def test_other_models_keep_their_preprocessing():
    """Only `mekiki-line` asks open_clip for another way to resize."""
    assert line_encoder.preprocess_overrides("ViT-B-32") == {}
    assert line_encoder.preprocess_overrides("mekiki-line") == {"resize_mode": "squash"}


def test_preprocessing_is_that_of_the_training(model):
    """The whole picture at 128 pixels, bicubic, with OpenAI's mean: no border is cropped away."""
    config = open_clip.get_model_preprocess_cfg(model)
    assert config["size"] == (128, 128)
    assert (config["interpolation"], config["resize_mode"]) == ("bicubic", "squash")
    assert config["mean"] == open_clip.OPENAI_DATASET_MEAN


def test_all_that_adapts_are_layer_norms_of_its_own(model):
    """No BatchNorm; every norm is an affine LayerNorm, and none is shared."""
    modules = list(model.modules())
    kinds = {kind.__name__ for m in modules for kind in type(m).__mro__}
    assert not [name for name in kinds if "BatchNorm" in name]
    norms = [m for m in modules if isinstance(m, torch.nn.LayerNorm)]
    assert all(norm.weight is not None and norm.bias is not None for norm in norms)
    assert len({id(norm.weight) for norm in norms}) == len(norms) == 18


def test_weights_are_small_and_lose_nothing_when_loaded(model):
    """The file holds halves, LayerNorms in full; what the model computes with is what the file says."""
    assert WEIGHTS.stat().st_size < 17e6
    again = half_precision(model)
    with safe_open(WEIGHTS, "pt") as file:
        assert set(file.keys()) == set(again)
        for name in file.keys():  # noqa: SIM118 - not a dict
            stored = file.get_tensor(name)
            assert stored.dtype == again[name].dtype, name
            assert torch.equal(stored, again[name]), name


def test_a_picture_does_not_depend_on_its_batch(model):
    """Alone or among others a picture has the same features, up to the order of sums."""
    images = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = model.encode_image(images)
        alone = torch.cat([model.encode_image(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_unseen_simulated_parts_are_named(model, words):
    """The prompts of the shipped recipe name 95 of 100 fresh parts; on many it is 98."""
    parts = line_pictures(240, seed=77, mild=False)
    guesses = guess(model, words, "line", parts.images[:, 0])
    assert balanced_accuracy(guesses, parts.labels) >= 0.95


@needs_data
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("neu", 0.95), ("xsdd", 0.88)])
def test_unseen_steel_photos_are_named(model, words, name, least):
    """Zero-shot balanced accuracy on the test files, encoded again so that no file format tells."""
    photos = steel_pictures(name, "test", 1)
    guesses = guess(model, words, name, photos.images[:, 0])
    assert balanced_accuracy(guesses, photos.labels) >= least


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("name", STEEL)
def test_the_split_is_the_one_written_down(name):
    """Each file is in one set, a fifth of every class is tested, and the hash gives the committed split."""
    rows = read_split(name)
    assert rows == split_files(SHARED_DATA / STEEL[name])
    assert len({row[0] for row in rows}) == len(rows)
    for label in shipped(f"steel-{name}").classes:
        splits = [row[2] for row in rows if row[1] == label]
        assert splits.count("test") / len(splits) == pytest.approx(0.2, abs=0.01)


def test_rendered_parts_are_the_same_every_time():
    """A seed and a number give the same pictures, masks and labels."""
    first, second = (line_pictures(3, seed=5, mild=True) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.masks, second.masks)
    assert np.array_equal(first.labels, second.labels)
