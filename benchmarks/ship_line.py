"""Make the weights that ship out of what `train_line` left: averaged, calibrated, half precision.

Calibration is one temperature: the logit scale at which the negative log-likelihood of the validation
pictures is lowest, the mean over the three data sets. Nothing of the test split is looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from adapters.torch_model import line_encoder
from benchmarks import machine
from benchmarks.line_data import line_pictures, read_recipe, steel_pictures
from benchmarks.line_zero_shot import RECIPES, Words, class_texts, zero_shot_logits
from benchmarks.small_clip import half_precision

WEIGHTS = Path(__file__).parent / "weights" / f"{line_encoder.MODEL_NAME}.safetensors"
VALIDATION_PARTS = 600
VALIDATION_SEED = 2_000_000
SCALES = np.geomspace(3.0, 100.0, 200)


def main() -> None:
    """Write `weights/mekiki-line.safetensors` and, beside it, how it came about."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder that train_line wrote")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--note", default="", help="what a reader of the facts should know about the run")
    args = parser.parse_args()
    line_encoder.register()
    model = open_clip.create_model(line_encoder.MODEL_NAME, force_preprocess_cfg=line_encoder.PREPROCESS)
    state = torch.load(args.run / "state.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["average"])
    # What is calibrated is what ships: first half precision, then the scale.
    model.load_state_dict(half_precision(model))
    learned = model.logit_scale.exp().item()
    calibrated = calibrate(model.eval())
    with torch.no_grad():
        model.logit_scale.fill_(math.log(calibrated))
    args.weights.parent.mkdir(exist_ok=True)
    save_file(half_precision(model), args.weights)
    args.weights.chmod(0o644)  # safetensors writes for the owner alone
    facts = {
        "sha256": hashlib.sha256(args.weights.read_bytes()).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "logit_scale": {"learned": round(learned, 2), "calibrated": round(calibrated, 2)},
        "note": args.note,
        "steps": state["step"],
        "minutes": round(state["spent_s"] / 60, 1),
        "held_out_on_the_way": state["history"],
        "machine": machine.describe("torch", "open_clip_torch", "timm"),
    }
    args.weights.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts["logit_scale"]), facts["sha256"])


@torch.no_grad()
def calibrate(model: open_clip.CLIP) -> float:
    """Return the logit scale that makes the model's probabilities on validation pictures most likely."""
    words = Words.of({name: read_recipe(file) for name, file in RECIPES.items()}, torch.device("cpu"))
    validation = {
        "line": line_pictures(VALIDATION_PARTS, VALIDATION_SEED, mild=True),
        "neu": steel_pictures("neu", "validation", 2),
        "xsdd": steel_pictures("xsdd", "validation", 2),
    }
    loss = np.zeros(len(SCALES))
    for name, pictures in validation.items():
        variants = pictures.images.shape[1]
        images = pictures.images.reshape(-1, *pictures.images.shape[2:])
        labels = torch.from_numpy(pictures.labels).repeat_interleave(variants)
        cosines = zero_shot_logits(model, class_texts(model, words, name), images) / model.logit_scale.exp()
        loss += [F.cross_entropy(float(scale) * cosines, labels).item() for scale in SCALES]
    return float(SCALES[loss.argmin()])


if __name__ == "__main__":
    main()
