"""Every engine and precision answers like torch in fp32, or it is refused at start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from adapters.build.forward_graph import export_image
from adapters.build.weights import Weights
from adapters.bundle.reader import VECTORS
from adapters.core.adapter import Adapter, AdapterMismatch
from adapters.core.norm_vector import NormVector
from adapters.core.protocol import Engine, ModelError, Precision
from adapters.engines import self_check
from adapters.engines.bundle_model import KINDS, Kind, open_kind
from adapters.engines.factory import ModelSettings, open_engine, open_plain
from adapters.engines.known_answers import KnownAnswer, vector_answers
from adapters.engines.onnx_engine import OnnxEngine
from adapters.engines.open_bundle import open_bundle
from adapters.engines.openvino_engine import OpenVinoEngine, open_openvino
from adapters.engines.openvino_tower import OpenVinoTower
from adapters.engines.self_check import Agreement
from adapters.engines.torch_engine import TorchEngine
from adapters.learner.factory import LearnerModel
from adapters.learner.losses import Words
from tests.support.available_engines import model, runs_here

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

INT8 = Kind("onnx", "int8")
LOWERED: tuple[Precision, ...] = ("bf16", "fp16")
TEXTS = ["a scratch", "a photo of a metal part with a deep scratch", ""]


@pytest.fixture(scope="session")
def opened(tiny_int8_bundle: Path) -> dict[Kind, Engine]:
    """Every engine that a bundle can run on, each checked as at any start."""
    return {kind: open_kind(kind, model(tiny_int8_bundle))[0] for kind in KINDS if runs_here(kind)}


def engine_of(kind: Kind, opened: dict[Kind, Engine]) -> Engine:
    if kind not in opened:
        pytest.skip("this processor has no bf16")
    return opened[kind]


def pictures(count: int = 4, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def moved(source: Adapter, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {name: tensor + random.normal(0, 0.1, tensor.shape) for name, tensor in source.tensors.items()}
    return Adapter(tensors, number=seed, parent=source.digest)


def assert_like_torch(engine: Engine, clip: Clip, precision: Precision) -> None:
    """The source, another adapter, and four of them mixed; texts in fp32, whatever the pictures are in."""
    reference, images = TorchEngine(clip), pictures()
    source, one, two = engine.source, moved(clip.source, 1), moved(clip.source, 2)
    mixed = [two, source, one, two]
    for adapters, others in (([source] * 4, [one] * 4), ([one] * 4, [two] * 4), (mixed, [*mixed[1:], one])):
        found, expected = (of.encode_image(images, adapters) for of in (engine, reference))
        otherwise = reference.encode_image(images, others)
        good, words = Agreement.of([KnownAnswer(found, expected, otherwise)]).says(precision)
        assert good, words
        assert found.dtype == np.float32
    tokens = engine.tokenize(TEXTS)
    for adapter, another in ((source, one), (one, source)):
        found, expected = (of.encode_text(tokens, adapter) for of in (engine, reference))
        otherwise = reference.encode_text(tokens, another)
        assert Agreement.of([KnownAnswer(found, expected, otherwise)]).says("fp32")[0]
    assert engine.encode_image(images[:0], []).shape == (0, 16)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_engine_answers_like_torch(kind: Kind, opened: dict[Kind, Engine], tiny_clip: Clip) -> None:
    """Within the bound of its precision, whatever adapters a batch has."""
    assert_like_torch(engine_of(kind, opened), tiny_clip, kind.precision)


@pytest.mark.parametrize("precision", LOWERED)
def test_torch_answers_alike_in_16_bits(precision: Precision, tiny_clip: Clip) -> None:
    """Within the bound, and the model that it was made from stays what it was to the last bit."""
    before = TorchEngine(tiny_clip).encode_image(pictures(), [tiny_clip.source] * 4)
    engine = TorchEngine(tiny_clip, precision=precision)
    assert engine.info.provider == f"torch:cpu:{precision}"
    assert_like_torch(engine, tiny_clip, precision)
    lowered = engine.encode_image(pictures(), [tiny_clip.source] * 4)
    after = TorchEngine(tiny_clip).encode_image(pictures(), [tiny_clip.source] * 4)
    assert np.array_equal(before, after)
    assert not np.array_equal(before, lowered)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino_runs_differential_attention(
    precision: Any, tiny_diffclip: Clip, tiny_diffclip_bundle: Path
) -> None:
    """Its LayerNorms stand elsewhere in the graph; they are found there too."""
    if not runs_here(Kind("openvino", precision)):
        pytest.skip("this processor has no bf16")
    engine = open_openvino(tiny_diffclip_bundle, precision=precision, threads=1)
    assert_like_torch(engine, tiny_diffclip, precision)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nothing_is_left_of_an_adapter(kind: Kind, opened: dict[Kind, Engine]) -> None:
    """After another adapter, and after a mixed batch, the source answers as before, to the last bit."""
    engine, images = engine_of(kind, opened), pictures()
    source, other = engine.source, moved(engine.source, 1)
    tokens = engine.tokenize(TEXTS)
    before = engine.encode_image(images, [source] * 4), engine.encode_text(tokens, source)
    engine.encode_image(images, [other] * 4)
    engine.encode_image(images, [source, other, source, other])
    engine.encode_text(tokens, other)
    after = engine.encode_image(images, [source] * 4), engine.encode_text(tokens, source)
    for one, two in zip(before, after, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_threads_never_see_each_others_adapter(kind: Kind, opened: dict[Kind, Engine]) -> None:
    """Four threads, each with its adapter and its number of pictures: as if each were alone."""
    engine = engine_of(kind, opened)
    adapters = [engine.source, *(moved(engine.source, seed) for seed in (1, 2, 3))]
    expected = [engine.encode_image(pictures(n + 1), [adapters[n]] * (n + 1)) for n in range(4)]
    wrong = []

    def ask(which: int) -> None:
        for _ in range(50):
            found = engine.encode_image(pictures(which + 1), [adapters[which]] * (which + 1))
            if not np.array_equal(found, expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_in_int8_a_picture_does_not_change_its_neighbours(opened: dict[Kind, Engine]) -> None:
    """Numbers are scaled to 8 bits by the largest of a call, so each picture is a call of its own."""
    engine, images = opened[INT8], pictures()
    images[3] *= 50
    adapters = [engine.source, moved(engine.source, 1), engine.source, engine.source]
    together = engine.encode_image(images, adapters)
    for row, adapter in enumerate(adapters):
        assert np.array_equal(engine.encode_image(images[row : row + 1], [adapter])[0], together[row])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_adapters_of_another_model_are_refused(kind: Kind, opened: dict[Kind, Engine]) -> None:
    """Never a silent half of one, and the engine answers as before."""
    engine = engine_of(kind, opened)
    stranger = Adapter({"visual.ln_pre.weight": np.ones(32, np.float32)})
    with pytest.raises(AdapterMismatch):
        engine.encode_image(pictures(2), [engine.source, stranger])
    with pytest.raises(AdapterMismatch):
        engine.encode_text(engine.tokenize(["a"]), stranger)


def test_an_engine_says_where_and_how_it_computes(opened: dict[Kind, Engine], tiny_clip: Clip) -> None:
    """A precision other than fp32 stands in the provider, which goes out over MQTT."""
    providers = {kind: engine.info.provider for kind, engine in opened.items()}
    assert providers[Kind("onnx", "fp32")] == "onnx:CPUExecutionProvider"
    assert providers[INT8] == "onnx:CPUExecutionProvider:int8"
    assert providers[Kind("openvino", "fp32")] == "openvino:CPU"
    assert {engine.info.weights for engine in opened.values()} == {tiny_clip.info.weights}


def test_openvino_calls_nobody(tiny_bundle: Path, tmp_path: Path) -> None:
    """Importing it would report to its makers and leave a mark in the home; here it does neither."""
    code = f"""
import socket, sys
def refuse(*_, **__):
    raise SystemExit("somebody calls out")
socket.getaddrinfo = socket.socket.connect = refuse
from pathlib import Path
from adapters.engines.openvino_engine import open_openvino
open_openvino(Path({str(tiny_bundle)!r}), threads=1)
assert sys.modules["openvino_telemetry"] is None
assert "multiprocessing.process" not in sys.modules or not __import__("multiprocessing").active_children()
"""
    asked = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment = {**asked, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
    assert not list(tmp_path.iterdir())


def test_openvino_runs_without_torch(tiny_bundle: Path) -> None:
    """It is an engine for the line PC, which has none of torch, open_clip and onnx."""
    code = f"""
import sys
for name in ("torch", "open_clip", "timm", "onnx", "onnx_ir", "onnxscript", "torchvision"):
    sys.modules[name] = None
from adapters.engines.factory import ModelSettings, open_engine
open_engine(ModelSettings(engine="openvino", bundle={str(tiny_bundle)!r}, device="cpu"))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_where_nothing_new_may_be_executed_another_engine_is_taken(tiny_bundle: Path) -> None:
    """A hardened service, systemd's MemoryDenyWriteExecute: OpenVINO says so, and auto does without it."""
    code = f"""
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE
    sys.exit(77)
from adapters.engines import timing as engine_trial
from adapters.core.protocol import ModelError
from adapters.engines.factory import ModelSettings, open_engine
engine_trial.MOST_ROUNDS = 1
bundle = {str(tiny_bundle)!r}
try:
    open_engine(ModelSettings(engine="openvino", bundle=bundle))
except ModelError as error:
    assert "MemoryDenyWriteExecute" in str(error), error
else:
    raise SystemExit("it ran")
engine = open_engine(ModelSettings(engine="auto", bundle=bundle, device="cpu"))
assert engine.info.provider.startswith("onnx:")
"""
    ran = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    if ran.returncode == 77:
        pytest.skip("this kernel cannot deny it")
    assert ran.returncode == 0, ran.stderr


def test_without_openvino_the_remedy_is_said(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"pip install 'mekiki\[openvino\]', or set engine: onnx"):
        open_engine(ModelSettings(engine="openvino", bundle=str(tiny_bundle)))


def test_bf16_needs_a_processor_that_has_it(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO would run in fp32 without a word, or emulate it slowly."""
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(ModelError, match="neither AVX-512-BF16 nor AMX: leave precision out"):
        open_engine(ModelSettings(engine="openvino", precision="bf16", bundle=str(tiny_bundle)))


def test_a_layer_norm_that_openvino_folds_is_noticed(tiny_bundle: Path, tmp_path: Path) -> None:
    """An engine that would not see an adapter is not opened."""
    norms = ["visual.ln_pre.weight", "visual.gone.weight"]
    with pytest.raises(ModelError, match=r"finds no visual\.gone\.weight"):
        OpenVinoTower(tiny_bundle / "image.onnx", norms, each=True, precision="fp32", threads=1)
    (tmp_path / "image.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"image\.onnx: openvino \S+ cannot run it"):
        OpenVinoTower(tmp_path / "image.onnx", [], each=True, precision="fp32", threads=1)


def test_int8_must_be_in_the_bundle(tiny_bundle: Path) -> None:
    """Who asks for it is told how to get it."""
    with pytest.raises(ModelError, match=r"has no image\.int8\.onnx: build it with --int8"):
        open_engine(ModelSettings(precision="int8", bundle=str(tiny_bundle), device="cpu"))


def test_in_int8_every_layer_norm_stays_float_and_can_be_replaced(
    tiny_int8_bundle: Path, tiny_clip: Clip
) -> None:
    """The graph multiplies whole numbers, and its LayerNorms are those of the other graph."""
    graph = onnx.load(tiny_int8_bundle / "image.int8.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert "MatMulInteger" in kinds
    assert "ConvInteger" not in kinds
    initializers = {tensor.name: tensor.data_type for tensor in graph.initializer}
    norms = {value.name for value in graph.input} & initializers.keys()
    assert norms == set(tiny_clip.norm_names("image"))
    assert {initializers[name] for name in norms} == {onnx.TensorProto.FLOAT}


def test_int8_is_built_the_same_again(tiny_int8_bundle: Path, tiny_clip: Clip, tmp_path: Path) -> None:
    """Byte for byte, and with nothing of the builder's machine."""
    with Weights(tmp_path / "image.weights") as numbers:
        export_image(tiny_clip, tmp_path / "image.onnx", numbers, int8=tmp_path / "image.int8.onnx")
    for name in ("image.onnx", "image.int8.onnx"):
        content = (tmp_path / name).read_bytes()
        assert (tiny_int8_bundle / name).read_bytes() == content
        for trace in (b"site-packages", b".py", str(tmp_path.parents[1]).encode()):
            assert trace not in content


def rolled(run: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda self, *arguments: np.roll(run(self, *arguments), 1, axis=1)


def deaf(run: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Answers with the first adapter of a batch for all."""
    return lambda self, images, adapters: run(self, images, [adapters[0]] * len(adapters))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("break_it", [rolled, deaf])
def test_a_broken_engine_is_refused_at_start(
    kind: Kind,
    break_it: Callable[[Any], Any],
    tiny_int8_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wrong features, or an adapter that does not arrive: the message names engine, precision and remedy."""
    if not runs_here(kind):
        pytest.skip("this processor has no bf16")
    engine = OpenVinoEngine if kind.engine == "openvino" else OnnxEngine
    monkeypatch.setattr(engine, "encode_image", break_it(engine.encode_image))
    settings = ModelSettings(
        engine=kind.engine, precision=kind.precision, bundle=str(tiny_int8_bundle), device="cpu", threads=1
    )
    with pytest.raises(
        ModelError, match=f"engine {kind.engine}, precision {kind.precision}: answers wrongly"
    ):
        open_engine(settings)


def test_a_feature_that_is_no_number_is_refused(opened: dict[Kind, Engine], tiny_int8_bundle: Path) -> None:
    """Whatever the bound."""
    answers = list(vector_answers(opened[KINDS[0]], tiny_int8_bundle / VECTORS))
    assert Agreement.of(answers).says("fp32")[0]
    answers[0].found[0, 0] = np.nan
    for precision in ("fp32", "bf16", "int8"):
        assert not Agreement.of(answers).says(precision)[0]


def test_torch_is_checked_against_itself(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint has no answers beside it, so 16 bits are held against 32."""
    settings = ModelSettings(
        engine="torch", precision="bf16", name="tiny", checkpoint=str(checkpoints["tiny"]), device="cpu"
    )
    assert open_engine(settings).info.provider == "torch:cpu:bf16"
    monkeypatch.setitem(self_check.LOWEST_COSINE, "bf16", 1.1)
    with pytest.raises(ModelError, match="engine torch, precision bf16: not what fp32 gives"):
        open_engine(settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"precision": "bf16"}, "engine: onnx computes in fp32 or int8, not in bf16; openvino and torch can"),
        ({"engine": "openvino", "precision": "int8"}, "not in int8; onnx can"),
        ({"engine": "openvino", "precision": "fp16"}, "not in fp16; torch can"),
        ({"engine": "auto", "precision": "fp32"}, "engine: auto chooses the precision too: leave it out"),
        ({"engine": "auto", "name": "ViT-B-32"}, "engine: auto takes its model from bundle"),
        ({"engine": "openvino", "checkpoint": "a"}, "engine: openvino takes its model from bundle"),
        ({"engine": "openvino", "device": "cuda"}, "precision: fp32 runs on the CPU"),
        ({"precision": "int8", "device": "cuda"}, "precision: int8 runs on the CPU"),
        (
            {"engine": "torch", "name": "a", "checkpoint": "b", "precision": "int8"},
            "engine: torch computes in fp32 or bf16 or fp16, not in int8; onnx can",
        ),
        (
            {"engine": "torch", "name": "a", "checkpoint": "b", "precision": "fp16", "device": "cpu"},
            "fp16 needs a CUDA card",
        ),
    ],
)
def test_impossible_pairs_are_refused(settings: dict[str, Any], problem: str) -> None:
    """Before anything is opened, with what would be possible."""
    with pytest.raises(ValueError, match=problem):
        ModelSettings(**settings)


def test_what_learns_stays_fp32(tiny_bundle: Path) -> None:
    """Whatever inspects, a learner looks with ONNX Runtime in fp32, which its proposals are made with."""
    for engine in ("auto", "openvino"):
        settings = ModelSettings(engine=engine, bundle=str(tiny_bundle), device="cpu")
        assert open_plain(settings).info.provider == "onnx:CPUExecutionProvider"
        looks, _ = LearnerModel(settings).open(words(), full=True, halt=lambda: False)
        assert looks.info.provider == "onnx:CPUExecutionProvider"


def test_torch_learns_in_bf16_where_bf16_was_asked_for(checkpoints: dict[str, Path]) -> None:
    """The learner looks in fp32; the way back has its products in bf16."""
    texts = words()
    grown = []
    for precision in ("fp32", "bf16"):
        settings = ModelSettings(
            engine="torch",
            precision=precision,
            name="tiny",
            checkpoint=str(checkpoints["tiny"]),
            device="cpu",
        )
        looks, encoders = LearnerModel(settings).load(full=True)
        assert looks.info.provider == "torch:cpu"
        assert encoders is not None
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        vector = NormVector(encoders.source).read(encoders.source)
        encoded = encoders.encode(vector, images, Words.of(looks, texts).tokens)
        grown.append(encoded.backward(encoded.images, encoded.texts))
    assert not np.array_equal(*grown)
    assert np.dot(*grown) > 0.999 * np.linalg.norm(grown[0]) * np.linalg.norm(grown[1])


def words() -> Any:
    from adapters.core.prompts import Prompts

    return Prompts((("ok", ("a good part",)), ("bad", ("a bad part",))), ("a photo of {}",))


def test_a_check_costs_four_pictures(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It delays every start, so it is short; the builder looks at all."""
    engine, seen = open_bundle(tiny_bundle, device="cpu", threads=1), []
    encode = OnnxEngine.encode_image

    def counted(self: OnnxEngine, images: np.ndarray, adapters: list[Adapter]) -> np.ndarray:
        seen.append(len(images))
        return encode(self, images, adapters)

    monkeypatch.setattr(OnnxEngine, "encode_image", counted)
    list(vector_answers(engine, tiny_bundle / VECTORS, few=True))
    assert seen == [1, 1, 2]


def test_ctrl_c_ends_a_process_in_order_after_openvino_was_used(tiny_bundle: Path) -> None:
    """OpenVINO's plug-in takes SIGINT over; unloaded with its last model, it left the next Ctrl-C a crash."""
    code = f"""
import gc, os, signal
from pathlib import Path
from adapters.engines.openvino_engine import open_openvino
pressed = []
signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
engine = open_openvino(Path({str(tiny_bundle)!r}), threads=1)
del engine
gc.collect()
os.kill(os.getpid(), signal.SIGINT)
assert pressed
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
