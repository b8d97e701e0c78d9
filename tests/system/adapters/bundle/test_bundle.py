"""A bundle runs without torch, answers like torch, and is opened only if it is exactly what was built."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime import InferenceSession

from adapters.build import bundle as bundle_build
from adapters.build.bundle import build, build_bundle
from adapters.bundle import reader as bundle_module
from adapters.bundle.reader import MANIFEST, bundle_path, graph, weights
from adapters.core.adapter import Adapter, AdapterMismatch, load_adapter, save_adapter
from adapters.core.protocol import ModelError
from adapters.encoders import installed_runtimes
from adapters.encoders.protocol import Encoded
from adapters.engines.factory import ModelSettings, open_engine
from adapters.engines.known_answers import GRADIENT_TOLERANCE, TOLERANCE, gradient_error, vectors_error
from adapters.engines.onnx_engine import OnnxEngine
from adapters.engines.open_bundle import open_bundle, open_encoders
from adapters.engines.torch_engine import TorchEngine
from adapters.torch_model.loader import load_clip
from tests.support.insides import graphs_of, merge_norms

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

TEXTS = ["a scratch", "a photo of a metal part with a deep scratch", ""]


def pictures(count: int = 4, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def moved(source: Adapter, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {name: tensor + random.normal(0, 0.1, tensor.shape) for name, tensor in source.tensors.items()}
    return Adapter(tensors, number=seed, parent=source.digest)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> OnnxEngine:
    return open_bundle(tiny_bundle, device="cpu", threads=1)


def test_both_engines_answer_alike_with_any_adapter(engine: OnnxEngine, tiny_clip: Clip) -> None:
    """Within the tolerance: the source, two others, swapped between calls, and the source again as before."""
    torch_engine, images = TorchEngine(tiny_clip), pictures()
    assert engine.source.digest == torch_engine.source.digest
    adapters = [engine.source, moved(engine.source, 1), moved(engine.source, 2), engine.source]
    tokens = engine.tokenize(TEXTS)
    assert np.array_equal(tokens, torch_engine.tokenize(TEXTS))
    answers = []
    for adapter in adapters:
        found = engine.encode_image(images, [adapter] * 4), engine.encode_text(tokens, adapter)
        assert difference(found[0], torch_engine.encode_image(images, [adapter] * 4)) < TOLERANCE
        assert difference(found[1], torch_engine.encode_text(tokens, adapter)) < TOLERANCE
        answers.append(found)
    for one, two in zip(answers[0], answers[-1], strict=True):
        assert np.array_equal(one, two)
    assert difference(answers[0][0], answers[1][0]) > 0.01
    assert difference(answers[0][1], answers[1][1]) > 0.01


def test_a_batch_may_mix_adapters(engine: OnnxEngine, tiny_clip: Clip) -> None:
    """Each picture is seen with its own adapter, in the order of the batch, as torch sees it."""
    one, two = moved(engine.source, 1), moved(engine.source, 2)
    adapters = [two, engine.source, one, two]
    expected = TorchEngine(tiny_clip).encode_image(pictures(), adapters)
    assert difference(engine.encode_image(pictures(), adapters), expected) < TOLERANCE


@settings(deadline=None, max_examples=5)
@given(st.permutations(range(16)), st.lists(st.integers(0, 15), min_size=16, max_size=16))
def test_a_mixed_batch_answers_as_one_by_one(engine: OnnxEngine, order: list[int], owners: list[int]) -> None:
    """Sixteen pictures in any order, each with an adapter of its own or some sharing one: as if alone.

    A product of another shape sums in another order, so the last bits may differ.
    """
    images = pictures(16)
    adapters = [engine.source, *(moved(engine.source, seed) for seed in range(1, 16))]
    for chosen in (range(16), owners):
        mine = [adapters[owner] for owner in chosen]
        alone = np.concatenate([engine.encode_image(images[n : n + 1], [mine[n]]) for n in range(16)])
        together = engine.encode_image(images[order], [mine[n] for n in order])
        for found, number in zip(together, order, strict=True):
            assert difference(found, alone[number]) < 1e-6


def test_a_mixed_batch_goes_through_the_tower_once(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen adapters cost one call, not sixteen."""
    engine = open_bundle(tiny_bundle, device="cpu", threads=1)
    run, sizes = InferenceSession.run, []

    def counting(self: InferenceSession, outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(feeds["images"]))
        return run(self, outputs, feeds)

    monkeypatch.setattr(InferenceSession, "run", counting)
    engine.encode_image(pictures(16), [moved(engine.source, seed) for seed in range(16)])
    assert sizes == [16]


@pytest.mark.parametrize("length", [4, 12, 40, 77])
def test_texts_may_have_any_length(engine: OnnxEngine, tiny_clip: Clip, length: int) -> None:
    """The exported text tower answers alike for any number of columns and rows."""
    tokens = np.zeros((5, length), np.int64)
    tokens[:, :3] = [49406, 320, 49407]
    expected = TorchEngine(tiny_clip).encode_text(tokens, engine.source)
    assert difference(engine.encode_text(tokens, engine.source), expected) < TOLERANCE
    assert difference(engine.encode_text(tokens[:1, :3], engine.source), expected[:1]) < TOLERANCE


def test_a_bundle_says_what_it_is(engine: OnnxEngine, tiny_clip: Clip, tiny_bundle: Path) -> None:
    """The same facts as the model it was built from, and its own digest."""
    info, theirs = engine.info, tiny_clip.info
    assert (info.name, info.weights, info.embed_dim) == (theirs.name, theirs.weights, theirs.embed_dim)
    assert (info.logit_scale, info.context_length) == (theirs.logit_scale, theirs.context_length)
    assert info.preprocess == theirs.preprocess
    assert info.provider == "onnx:CPUExecutionProvider"
    assert info.bundle == f"sha256:{hashlib.sha256((tiny_bundle / MANIFEST).read_bytes()).hexdigest()}"


def test_an_adapter_file_serves_both_engines(engine: OnnxEngine, tiny_clip: Clip, tmp_path: Path) -> None:
    """It names the checkpoint, not the form that the checkpoint was brought into."""
    save_adapter(moved(engine.source, 1), tmp_path / "1.safetensors", tiny_clip.info.weights)
    assert load_adapter(tmp_path / "1.safetensors", engine.source, engine.info.weights).number == 1


def test_adapters_of_another_model_are_refused(engine: OnnxEngine) -> None:
    """Never a silent half of one."""
    stranger = Adapter({"visual.ln_pre.weight": np.ones(32, np.float32)})
    with pytest.raises(AdapterMismatch):
        engine.encode_image(pictures(1), [stranger])
    with pytest.raises(AdapterMismatch):
        engine.encode_text(engine.tokenize(["a"]), stranger)


def test_every_layer_norm_can_be_replaced(tiny_bundle: Path, tiny_clip: Clip) -> None:
    """None was merged or folded: each is an input of its own, named as in the model."""
    found = []
    for tower in ("image", "text"):
        graph = onnx.load(tiny_bundle / f"{tower}.onnx").graph
        names = {value.name for value in graph.input} & {tensor.name for tensor in graph.initializer}
        assert names == set(tiny_clip.norm_names(tower))
        found += names
    assert sorted(found) == list(tiny_clip.source.tensors)


def test_weights_are_stored_small_without_loss(tiny_bundle: Path, tiny_clip: Clip, tmp_path: Path) -> None:
    """What float16 holds exactly takes half the space; what it does not stays float32."""
    state = tiny_clip.model.state_dict()
    embedding = next(
        tensor
        for tensor in onnx.load(tiny_bundle / "text.onnx").graph.initializer
        if tuple(tensor.dims) == (49408, 32)
    )
    assert embedding.data_type == onnx.TensorProto.FLOAT16
    assert np.array_equal(onnx.numpy_helper.to_array(embedding), state["token_embedding.weight"].numpy())
    graph = onnx.load(tiny_bundle / "text.onnx").graph
    # The causal mask is minus infinity and zero: float16 holds both.
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 1024]
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.FLOAT16}


def test_nothing_of_the_builders_machine_is_in_a_bundle(tiny_bundle: Path) -> None:
    """No source paths, no traces, no private files: what the service's own user can read is complete."""
    for file in tiny_bundle.iterdir():
        assert file.stat().st_mode & 0o444 == 0o444
        content = file.read_bytes()
        assert b".py" not in content
        assert b"site-packages" not in content
        assert str(Path.home()).encode() + b"/" not in content


@pytest.mark.slow
def test_building_again_gives_the_same_files(tiny_clip: Clip, tiny_bundle: Path, tmp_path: Path) -> None:
    """Byte for byte: a bundle can be audited by building it."""
    build_bundle(tiny_clip, tmp_path / "again")
    for file in tiny_bundle.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_building_leaves_the_model_as_it_was(tiny_clip: Clip, tiny_bundle: Path) -> None:
    """The exporter needs distinct LayerNorms; the true ones are put back."""
    state = tiny_clip.model.state_dict()
    for name, tensor in tiny_clip.source.tensors.items():
        assert np.array_equal(state[name].numpy(), tensor)


@pytest.mark.slow
def test_a_model_read_both_ways_keeps_its_context(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Such a text tower has a fixed length, and its bundle says so."""
    built = build("tiny-both-ways", tmp_path / "out" / "bundle", checkpoint=checkpoints["tiny-both-ways"])
    assert built.error < TOLERANCE
    assert open_bundle(built.folder, device="cpu").tokenize(["a"]).shape == (1, 77)


def kept_outside(file: Path) -> set[tuple[int, int]]:
    """Where in the file of weights a graph's numbers stand: offsets and lengths."""
    inits = onnx.load(file, load_external_data=False).graph.initializer
    entries = [{entry.key: entry.value for entry in tensor.external_data} for tensor in inits]
    assert {entry["location"] for entry in entries if entry} == {weights(file.name.partition(".")[0])}
    return {(int(entry["offset"]), int(entry["length"])) for entry in entries if entry}


@pytest.mark.parametrize("tower", ["image", "text"])
def test_the_three_graphs_of_a_tower_share_their_numbers(tiny_bundle: Path, tower: str) -> None:
    """Whatever is large stands in the file of weights, there once, and begins on a page.

    The way back needs matrices the other way round, and the exporter turns small ones itself: of a model as
    small as this, it shares none.
    """
    uses: tuple[Any, ...] = ("", "forward", "backward")
    needs = [kept_outside(tiny_bundle / graph(tower, use)) for use in uses]
    assert needs[0] & needs[1]
    content = (tiny_bundle / weights(tower)).read_bytes()
    spans = sorted(set().union(*needs))
    stored = [content[offset : offset + length] for offset, length in spans]
    assert len(set(stored)) == len(stored)
    assert all(offset % 4096 == 0 for offset, _ in spans)
    assert len(content) < sum(length + 4096 for _, length in spans)
    for use in uses:
        inside = onnx.load(tiny_bundle / graph(tower, use), load_external_data=False).graph.initializer
        assert all(tensor.external_data or np.prod(tensor.dims) < 1024 for tensor in inside)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_the_shipped_graphs_share_nearly_all(tower: str) -> None:
    """A tower that learns, too, is hardly larger than one that only infers."""
    folder = bundle_path("mekiki-line")
    uses: tuple[Any, ...] = ("", "forward", "backward")
    needs = [sum(length for _, length in kept_outside(folder / graph(tower, use))) for use in uses]
    size = (folder / weights(tower)).stat().st_size
    assert size < 1.03 * max(needs)
    assert size < 0.5 * sum(needs)


@pytest.mark.parametrize(
    ("tolerance", "problem"),
    [
        ("TOLERANCE", "tiny: differs from torch by"),
        ("GRADIENT_TOLERANCE", "tiny: its gradient differs from torch's by"),
    ],
)
def test_a_bundle_that_differs_from_torch_is_not_written(
    tiny_clip: Clip,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tolerance: str,
    problem: str,
) -> None:
    """The build fails and leaves nothing behind, not even half a folder."""

    def as_before(clip: Clip, folder: Path, **options: object) -> None:
        for file in (*tiny_bundle.glob("*.onnx"), *tiny_bundle.glob("*.weights")):
            shutil.copy(file, folder)

    graphs_of(monkeypatch, as_before)
    monkeypatch.setattr(bundle_build, tolerance, 1e-12)
    with pytest.raises(ModelError, match=problem):
        build_bundle(tiny_clip, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_merged_layer_norm_is_noticed(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter merges equal LayerNorms; without our remedy the build says which one is gone."""
    clip = load_clip("tiny", checkpoint=checkpoints["tiny"], device="cpu")
    for parameter, tensor in clip.model.named_parameters():
        if parameter in clip.source.tensors:
            tensor.data.fill_(1.0)
    merge_norms(monkeypatch)
    with pytest.raises(ModelError, match="did not arrive in the graph"):
        build_bundle(clip, tmp_path / "out")


def test_an_existing_folder_is_not_overwritten(tiny_clip: Clip, tmp_path: Path) -> None:
    """Whatever it holds."""
    with pytest.raises(ModelError, match="exists"):
        build_bundle(tiny_clip, tmp_path)


@pytest.mark.slow
def test_build_takes_a_name_or_a_file(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """As `mekiki model build` hands them over; what cannot be meant is refused before anything is loaded."""
    out, file = tmp_path / "out", str(checkpoints["tiny"])
    with pytest.raises(ModelError, match="needs a name"):
        build(file, out)
    with pytest.raises(ModelError, match="no such file"):
        build("absent.pt", out, name="tiny")
    with pytest.raises(ModelError, match="exactly one of checkpoint and pretrained"):
        build("tiny", out)
    built = build(file, out, name="tiny")
    assert built.size == sum(path.stat().st_size for path in out.iterdir())
    assert open_bundle(out, sha256=built.digest, device="cpu").info.name == "tiny"


def test_every_altered_file_is_refused(copy: Path) -> None:
    """One flipped bit anywhere: ONNX Runtime would load it silently, and answer otherwise."""
    for file in sorted(copy.iterdir()):
        intact = file.read_bytes()
        for position in (0, len(intact) // 2, len(intact) - 1):
            altered = bytearray(intact)
            altered[position] ^= 4
            file.write_bytes(altered)
            if file.name == MANIFEST and json_or_none(altered) == json_or_none(intact):
                continue
            with pytest.raises(ModelError, match=file.name):
                open_bundle(copy)
        file.write_bytes(intact[:-1])
        if file.name != MANIFEST:
            with pytest.raises(ModelError, match=rf"{file.name}: has \d+ bytes"):
                open_bundle(copy)
        file.unlink()
        with pytest.raises(ModelError, match=f"{file.name}: (missing|cannot be read)"):
            open_bundle(copy)
        file.write_bytes(intact)
    open_bundle(copy, device="cpu")


def test_what_learns_is_verified_too(copy: Path) -> None:
    """Towers are opened only from the very files that were built."""
    open_encoders(copy, device="cpu", threads=1)
    content = bytearray((copy / "image.backward.onnx").read_bytes())
    content[-1] ^= 1
    (copy / "image.backward.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"image\.backward\.onnx: altered"):
        open_encoders(copy)
    with pytest.raises(ModelError, match=r"manifest\.json: has sha256"):
        open_encoders(copy, sha256="0" * 64)


def json_or_none(content: bytes | bytearray) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_links_and_extra_files_are_refused(copy: Path, tmp_path: Path) -> None:
    """A bundle is what its manifest lists, no more, and every file lies in it."""
    (copy / "run.py").write_text("print()")
    with pytest.raises(ModelError, match=r"run\.py: not part of the bundle"):
        open_bundle(copy)
    (copy / "run.py").unlink()
    shutil.move(copy / "image.onnx", tmp_path / "elsewhere.onnx")
    (copy / "image.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match=r"image\.onnx: missing, or not an ordinary file"):
        open_bundle(copy)


def change(field: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.__setitem__(field, value)


def add_path(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["files"].__setitem__(name, manifest["files"]["image.onnx"])


@pytest.mark.parametrize(
    ("alter", "problem"),
    [
        (change("format", "mekiki.bundle.v1"), r"format 'mekiki\.bundle\.v1', this version reads"),
        (change("format", "mekiki.bundle.v3"), r"format 'mekiki\.bundle\.v3', this version reads"),
        (change("embed_dim", -1), "embed_dim"),
        (change("weights", "sha256:abc"), "weights"),
        (change("surprise", 1), "surprise"),
        (change("image_norms", {}), r"norms\.safetensors: not what"),
        (add_path("../image.onnx"), "not the plain name of a file"),
        (add_path("/etc/passwd"), "not the plain name of a file"),
        (add_path(".."), "not the plain name of a file"),
        (lambda manifest: manifest["files"].pop("vectors.npz"), r"lists no vectors\.npz"),
        (lambda manifest: manifest["files"].pop("text.backward.onnx"), r"lists no text\.backward\.onnx"),
        (lambda manifest: manifest["files"].pop("text.weights"), r"text\.weights: not part of the bundle"),
    ],
)
def test_a_wrong_manifest_is_refused(
    copy: Path, alter: Callable[[dict[str, Any]], None], problem: str
) -> None:
    """Unknown formats, impossible facts and path tricks, each with the file's name."""
    manifest = json.loads((copy / MANIFEST).read_text())
    alter(manifest)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=problem):
        open_bundle(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"1e9999"])
def test_a_manifest_that_is_no_manifest_is_refused(copy: Path, content: bytes) -> None:
    """With one clear error."""
    (copy / MANIFEST).write_bytes(content)
    with pytest.raises(ModelError, match=MANIFEST):
        open_bundle(copy)


def test_the_configured_hash_names_one_bundle(tiny_bundle: Path) -> None:
    """`sha256` in the config is the manifest's, and the manifest's hashes are the files'."""
    digest = hashlib.sha256((tiny_bundle / MANIFEST).read_bytes()).hexdigest()
    engine = open_engine(ModelSettings(bundle=str(tiny_bundle), sha256=digest, device="cpu"))
    assert engine.info.bundle == f"sha256:{digest}"
    with pytest.raises(ModelError, match=r"manifest\.json: has sha256"):
        open_engine(ModelSettings(bundle=str(tiny_bundle), sha256="0" * 64))


def test_vectors_notice_another_answer(engine: OnnxEngine, tiny_bundle: Path) -> None:
    """What `mekiki doctor` can repeat on the line: close to torch, or a number that says how far."""

    class Wrong(OnnxEngine):
        def __init__(self) -> None:
            self.__dict__.update(engine.__dict__)

        def encode_text(self, tokens: np.ndarray, adapter: Adapter) -> np.ndarray:
            return super().encode_text(tokens, self.source)

    assert vectors_error(engine, tiny_bundle / "vectors.npz") < TOLERANCE
    assert vectors_error(Wrong(), tiny_bundle / "vectors.npz") > 0.01


@pytest.mark.parametrize("fault", ["source", "image", "text", "nan"])
def test_vectors_notice_another_gradient(tiny_bundle: Path, fault: str) -> None:
    """Of other LayerNorms, of one tower alone, or of no number: the vectors say how far from torch's."""
    encoders, file = open_encoders(tiny_bundle, device="cpu", threads=1), tiny_bundle / "vectors.npz"

    class Wrong:
        info, source = encoders.info, encoders.source

        def encode(self, vector: np.ndarray, images: np.ndarray, tokens: np.ndarray) -> Encoded:
            if fault == "source":
                vector = np.concatenate([tensor.ravel() for tensor in self.source.tensors.values()])
            encoded = encoders.encode(vector, images, tokens)

            def backward(by_images: np.ndarray, by_texts: np.ndarray) -> np.ndarray:
                gradient = encoded.backward(by_images * (fault != "image"), by_texts * (fault != "text"))
                gradient[-1] = np.nan if fault == "nan" else gradient[-1]
                return gradient

            return Encoded(encoded.images, encoded.texts, backward)

    assert gradient_error(encoders, file) < GRADIENT_TOLERANCE
    assert gradient_error(Wrong(), file) > 0.01


def test_a_bundle_opens_without_torch(tiny_bundle: Path) -> None:
    """The line PC has none of torch, open_clip, timm and onnx: importing them fails; it learns as well."""
    code = f"""
import sys
for name in ("torch", "open_clip", "timm", "onnx", "onnx_ir", "onnxscript", "torchvision"):
    sys.modules[name] = None
from pathlib import Path
from adapters.engines.known_answers import GRADIENT_TOLERANCE, TOLERANCE
from adapters.engines.known_answers import gradient_error, vectors_error
from adapters.engines.open_bundle import open_bundle, open_encoders
folder = Path({str(tiny_bundle)!r})
vectors = folder / "vectors.npz"
assert vectors_error(open_bundle(folder, device="cpu"), vectors) < TOLERANCE
assert gradient_error(open_encoders(folder, device="cpu"), vectors) < GRADIENT_TOLERANCE
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_bundle_is_found_by_name_or_folder(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped bundles by name, others by path; an unknown one is answered with what there is."""
    assert bundle_path(str(tiny_bundle)) == tiny_bundle
    monkeypatch.setattr(bundle_module, "SHIPPED", tiny_bundle.parent)
    assert bundle_path("tiny") == tiny_bundle
    with pytest.raises(ModelError, match=r"nothing: no such model bundle; shipped: .*tiny"):
        bundle_path("nothing")


def test_the_shipped_bundle_is_whole() -> None:
    """`mekiki-line` opens by its name, answers and learns like torch and stays under 20 MB."""
    folder = bundle_path("mekiki-line")
    assert folder.parent == bundle_module.SHIPPED
    engine = open_engine(ModelSettings(device="cpu", threads=1))
    assert engine.info.name == "mekiki-line"
    assert (engine.info.preprocess.size, engine.info.preprocess.resize_mode) == (128, "squash")
    assert vectors_error(engine, folder / "vectors.npz") < TOLERANCE
    assert gradient_error(open_encoders(folder, device="cpu"), folder / "vectors.npz") < GRADIENT_TOLERANCE
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20_000_000


def test_cuda_is_refused_where_there_is_none(tiny_bundle: Path) -> None:
    """A config that asks for a card never runs quietly on the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has CUDA here")
    with pytest.raises(ModelError, match=r"device cuda: ONNX Runtime runs on CPUExecutionProvider"):
        open_bundle(tiny_bundle, device="cuda")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["onnxruntime"], None),
        (["ONNXRuntime_GPU", "onnxruntime-extensions"], None),
        ([], "no ONNX Runtime is installed"),
        (
            ["onnxruntime", "onnxruntime-gpu"],
            "onnxruntime 1.0 and onnxruntime-gpu 1.0 overwrite each other: pip uninstall onnxruntime onnxr",
        ),
    ],
)
def test_runtimes_are_counted(
    names: list[str], problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two distributions of the same package overwrite each other silently; pip sees nothing."""
    for name in names:
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    found = list(metadata.distributions(path=[str(tmp_path)]))
    monkeypatch.setattr(metadata, "distributions", lambda: iter(found))
    sentence = installed_runtimes.runtime_problem()
    assert sentence == problem or (
        problem is not None and sentence is not None and sentence.startswith(problem)
    )


def test_this_machine_has_one_runtime() -> None:
    """What the tests themselves run on."""
    assert len(installed_runtimes.installed_runtimes()) == 1
    assert installed_runtimes.runtime_problem() is None
