"""The methods of the photo benchmark as functions of their learning rate, and the rate that each one gets.

The papers' rates are for towers of 12 layers with 65 536 LayerNorm numbers; the benchmark's have 3 layers and
2 560, and the same rate moves their features far less. So each method gets the rate that does best on corrupted
*training* photos, the mean over both models (``python -m benchmarks.choose_rates``, results in
``results/bench_rates.md``). No photo of `test-dev` is looked at; three of the 15 kinds are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapters.learner.optimizer import Optimizer
from adapters.methods.batclip import Batclip
from adapters.methods.method import Method
from benchmarks.rivals.rdumb import RDumb
from benchmarks.rivals.sar import Sar
from benchmarks.rivals.tent import Tent

RATES = {"BATCLIP exact": 2e-2, "BATCLIP line": 5e-2, "TENT": 5e-3, "RDumb": 1e-1, "SAR": 1e-1}
"""Method -> learning rate. The papers': AdamW and Adam 1e-3, SGD 2.5e-4 for RDumb and 1e-3 for SAR."""

RDUMB_STEPS = 20
"""Between its resets. The paper's 1000 are for a stream of 117 000 steps; one without resets here has 45."""

MAKERS: dict[str, Callable[[float], Method[Any]]] = {
    "BATCLIP exact": lambda rate: Batclip(optimizer=Optimizer("AdamW", rate, weight_decay=0.01)),
    "BATCLIP line": lambda rate: Batclip("line", optimizer=Optimizer("AdamW", rate, weight_decay=0.01)),
    "TENT": lambda rate: Tent(optimizer=Optimizer("Adam", rate)),
    "RDumb": lambda rate: RDumb(reset_every=RDUMB_STEPS, optimizer=Optimizer("SGD", rate)),
    "SAR": lambda rate: Sar(optimizer=Optimizer("SGD", rate)),
}
