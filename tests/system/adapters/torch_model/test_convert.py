"""`mekiki convert diffclip`: a pickled checkpoint in, safetensors out, and nothing of the pickle runs."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from adapters.core.protocol import ModelError
from adapters.torch_model.diffclip import METADATA_KEY, LambdaInit
from adapters.torch_model.diffclip_convert import SOURCE_KEY, convert, read_state
from adapters.torch_model.loader import load_clip
from agent.cli.main import main
from benchmarks.parity_diffclip import RECORD, TINY, checkpoint, register
from tests.support.places import ROOT

State = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("logging_restored")


@pytest.fixture
def state() -> State:
    """The authors' tensors by their own names; the model is known to open_clip from now on."""
    register(TINY)
    with np.load(RECORD) as arrays:
        weights = {name: arrays[name] for name in arrays.files if name.startswith("weights/")}
    return {name.removeprefix("weights/"): torch.from_numpy(array) for name, array in weights.items()}


@pytest.fixture
def trained(state: State, tmp_path: Path) -> Path:
    """What a training run leaves: optimiser, options, a numpy scalar, ``module.`` before every name."""
    return checkpoint(tmp_path / "checkpoint_best.pt", state)


def run(*arguments: object) -> int:
    return main(["convert", "diffclip", *map(str, arguments), "--model", TINY.name])


def read(file: Path) -> tuple[State, dict[str, str]]:
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


class Bomb:
    """A pickle that writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_a_training_checkpoint_becomes_safetensors(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With lambda_init and the digest of what it came from; the command says what it did; the model loads."""
    out = tmp_path / "made" / "out.safetensors"
    assert run(trained, out, "--lambda-init", "0.8 - 0.6*exp(-0.3*l)") == 0
    digest = hashlib.sha256(trained.read_bytes()).hexdigest()
    tensors, metadata = read(out)
    assert metadata == {METADATA_KEY: "0.8-0.6*exp(-0.3*l)", SOURCE_KEY: f"sha256:{digest}"}
    said = capfd.readouterr()
    assert said.out == ""
    assert (
        f"{out}: {len(tensors)} tensors, 40945 numbers of tiny-diffclip with lambda_init 0.8-0.6" in said.err
    )
    assert digest in said.err
    assert load_clip(TINY.name, checkpoint=out).info.name == TINY.name
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_every_number_arrives_under_its_name(state: State, trained: Path, tmp_path: Path) -> None:
    """Queries, keys and values in one matrix, in this order; the projection turned; nothing changed."""
    out = tmp_path / "out.safetensors"
    assert run(trained, out) == 0
    found, metadata = read(out)
    assert metadata[METADATA_KEY] == "0.8"
    block = "visual.blocks.1.attn"
    parts = [state[f"{block}.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(found["visual.trunk.blocks.1.attn.qkv.weight"], torch.cat(parts))
    assert torch.equal(
        found["visual.trunk.blocks.1.attn.sub_norm.weight"], state[f"{block}.diff_norm.weight"]
    )
    assert torch.equal(found["visual.trunk.patch_embed.proj.weight"], state["visual.patch_embed.proj.weight"])
    assert torch.equal(found["visual.head.proj.weight"], state["image_projection"].T)
    text = "transformer.resblocks.0.attn"
    assert torch.equal(found[f"{text}.proj.bias"], state[f"{text}.out_proj.bias"])
    assert torch.equal(found[f"{text}.lambda_q1"], state[f"{text}.lambda_q1"])
    total = sum(tensor.double().sum() for tensor in state.values())
    assert torch.isclose(sum(tensor.double().sum() for tensor in found.values()), total)


def test_every_form_of_a_checkpoint_gives_the_same_weights(
    state: State, trained: Path, tmp_path: Path
) -> None:
    """A training checkpoint, a bare state_dict, parameters, half precision, torch's old format."""
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in state.items()}
    torch.save(state, tmp_path / "bare.pt")
    torch.save({"state_dict": parameters}, tmp_path / "parameters.pt")
    torch.save({"state_dict": state}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert run(trained, tmp_path / "out.safetensors") == 0
    expected, _ = read(tmp_path / "out.safetensors")
    for name in ("bare", "parameters", "old"):
        assert run(tmp_path / f"{name}.pt", tmp_path / f"{name}.safetensors") == 0
        found, _ = read(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(found[key], expected[key]) for key in expected | found)
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.pt")
    assert run(tmp_path / "half.pt", tmp_path / "half.safetensors") == 0
    assert {tensor.dtype for tensor in read(tmp_path / "half.safetensors")[0].values()} == {torch.float32}


def test_a_pickle_that_would_run_code_is_refused(
    state: State, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In torch's archive, its old format or a bare pickle, however deep: exit 78, one line, nothing ran."""
    proof, out = tmp_path / "ran", tmp_path / "out.safetensors"
    bomb = Bomb(proof)
    torch.save({"state_dict": state, "optimizer": bomb}, tmp_path / "zip.pt")
    torch.save({"state_dict": state, "args": argparse.Namespace(model=bomb)}, tmp_path / "options.pt")
    torch.save(
        {"state_dict": state, "best": [bomb]}, tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / f"bare{protocol}.pt").write_bytes(pickle.dumps({"state_dict": bomb}, protocol))
    for file in sorted(tmp_path.glob("*.pt")):
        assert run(file, out) == 78
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert f"model: {file}: " in said
        if not file.name.startswith("bare"):
            assert "refused, and nothing in it was run: it holds posix.system; where you trust it" in said
        elif file.name != "bare0.pt":  # as text, in which torch's reader finds no magic number
            assert "refused, and nothing in it was run" in said
    assert not proof.exists()
    assert not out.exists()


class Garbled:
    """A pickle that gives a numpy type a state it is not made for; numpy does not survive all of them."""

    def __reduce__(self) -> tuple[object, ...]:
        return np.dtype, ("f8", False, True), (3, "<", "no", "good")


def test_what_is_not_needed_is_never_made(state: State, tmp_path: Path) -> None:
    """Options, paths and numpy's numbers may be in the file; whatever their state says, nobody reads it."""
    options = argparse.Namespace(path=Path("runs"), best=np.float32(3), since=np.datetime64(0, "s"))
    torch.save({"state_dict": state, "args": options, "best_acc1": Garbled()}, tmp_path / "a.pt")
    assert read_state(tmp_path / "a.pt").keys() == state.keys()


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (PurePosixPath("runs"), "pathlib.PurePosixPath"),
        (np.zeros(2), "numpy._core.multiarray._reconstruct"),
        (pytest.approx, "_pytest.python_api.approx"),
    ],
)
def test_what_is_not_on_the_list_is_refused_by_name(
    thing: object, name: str, state: State, tmp_path: Path
) -> None:
    """Harmless or not: the list says what may be made, not what may not."""
    torch.save({"state_dict": state, "args": argparse.Namespace(thing=thing)}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=rf"a\.pt: refused, .*{name.rpartition('.')[2]}"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("visual.blocks.1.attn.k_proj.bias", None, "has no visual.blocks.1.attn.k_proj.bias"),
        ("image_projection", None, "has no image_projection"),
        ("visual.head.weight", torch.ones(3), "does not know visual.head.weight"),
        (
            "image_projection",
            torch.ones(16, 32),
            "image_projection is (16, 32) of torch.float32, not (32, 16)",
        ),
        ("visual.norm.bias", torch.ones(32).long(), "visual.norm.bias is (32,) of torch.int64, not (32,)"),
        ("ln_final.bias", torch.full((16,), torch.nan), "ln_final.bias holds a number that is not finite"),
        ("ln_final.bias", torch.ones(16).to_sparse(), "'module.ln_final.bias' in its state_dict is not"),
    ],
)
def test_another_models_checkpoint_is_named_by_its_first_tensor(
    name: str, tensor: Tensor | None, message: str, state: State, tmp_path: Path
) -> None:
    """Missing, too many, turned, not floats, not finite, not dense: one message, and nothing is written."""
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    file, out = checkpoint(tmp_path / "other.pt", state), tmp_path / "out.safetensors"
    with pytest.raises(ModelError, match=rf"other\.pt: .*{re.escape(message)}") as caught:
        convert(file, out, lambda_init=LambdaInit(), model=TINY.name)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_damaged_files_are_refused(trained: Path, state: State, tmp_path: Path) -> None:
    """Cut or with a byte changed anywhere, in both of torch's formats: refused or read, never a crash."""
    torch.save({"state_dict": state}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    random = np.random.default_rng(0)
    damaged = tmp_path / "damaged.pt"
    refusals = []
    for file in (trained, tmp_path / "old.pt"):
        content = file.read_bytes()
        pickled = content.find(b"state_dict") - 200 if file == trained else 0
        for trial in range(60):
            changed = bytearray(content)
            if trial < 20:
                del changed[random.integers(0, len(content)) if trial else 0 :]
            else:
                changed[max(0, pickled) + random.integers(0, 6000)] = random.integers(0, 256)
            damaged.write_bytes(changed)
            try:
                read_state(damaged)
            except ModelError as error:
                refusals.append(str(error))
    assert len(refusals) > 40
    assert all(refusal.startswith(f"{damaged}: ") and "\n" not in refusal for refusal in refusals)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": []}, {"state_dict": {"a": 1}}, torch.ones(2)])
def test_files_without_a_state_dict_are_refused(content: object, tmp_path: Path) -> None:
    """A torch file is not yet a checkpoint."""
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"a\.pt: .*state_dict"):
        read_state(tmp_path / "a.pt")


def test_nothing_is_replaced_unless_it_is_asked_for(trained: Path, state: State, tmp_path: Path) -> None:
    """And a conversion that fails leaves the old file as it was."""
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")
    assert run(trained, out) == 78
    bad = checkpoint(tmp_path / "bad.pt", {**state, "logit_scale": torch.tensor(torch.inf)})
    assert run(bad, out, "--force") == 78
    assert out.read_bytes() == b"old"
    assert run(trained, out, "--force") == 0
    assert read(out)[1][METADATA_KEY] == "0.8"


def test_mistakes_have_their_exit_code(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """64 for the command line, 78 for what it names; one message, no traceback."""
    (tmp_path / "file").touch()
    for arguments, code, words in (
        ((trained, tmp_path / "a.safetensors", "--lambda-init", "8"), 64, "lambda_init '8'"),
        ((tmp_path / "none.pt", tmp_path / "a.safetensors"), 78, "none.pt: cannot be read"),
        ((trained, tmp_path / "a.pt"), 78, "must end in .safetensors"),
        ((trained, tmp_path / "file" / "a.safetensors"), 78, "cannot be written"),
    ):
        assert run(*arguments) == code
        said = capfd.readouterr()
        assert words in said.err
        assert said.err.count("\n") == 1
    assert main(["convert", "diffclip", str(trained), "a.safetensors", "--model", "DifCLIP-ViT-B-16"]) == 78
    assert "did you mean DiffCLIP-ViT-B-16?" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["convert diffclip a.pt b.safetensors", "model build ViT-B-32 --out b"])
def test_without_torch_the_remedy_is_said(command: str, tmp_path: Path) -> None:
    """The light install has no torch: one sentence instead of a traceback."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    done = subprocess.run(
        [sys.executable, "-m", "agent", *command.split()],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=tmp_path,
    )
    assert done.returncode == 78
    assert done.stderr == "torch is not installed here: pip install 'mekiki[torch]'\n"
