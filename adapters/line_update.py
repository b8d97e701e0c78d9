"""One proposal of the learner on a line: BATCLIP's terms where a line has evidence for them, and an anchor.

On a line almost every picture is of a good part, and after a change of light most of what looks like a defect
is none. BATCLIP's own prototypes, class means by predicted label, are then means of false alarms. So here:

- *anchor*: cross-entropy on known parts shown under the condition that the pictures have now (rehearsal; the
  strongest term by far, see DECISIONS.md);
- *matching* and *separation* of BATCLIP (https://arxiv.org/abs/2412.02837, eq. 4 and 5) between the texts and
  prototypes that are right: of good parts from the stream, of defects from the known parts; a cosine and a
  mean over pairs, as in the ``line`` mode of `adapters.batclip`;
- *entropy* of the stream's good parts.

What each term is worth: benchmarks/results/line_terms.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from adapters.clip import Clip
from adapters.learning import Learned, Optimizer, Outputs, Precision, Texts, entropy, forward
from adapters.norm_vector import NormVector
from adapters.seen import Labelled

ADAMW = Optimizer("AdamW", 1e-2)


@dataclass(frozen=True, slots=True)
class LineUpdate:
    """What a proposal is made with; weights of 0 leave a term out.

    Attributes:
        steps: per proposal.
        anchors: known parts per step, evenly of every class.
        pictures: of the stream per step.
        texts: of each class per step, drawn anew; a recipe may have dozens, which agree about their class.
        smoothing: of the anchor's targets.
        matching, separation, entropy: weights beside the anchor's 1.
        optimizer: how LayerNorms move.
        precision: of the encoders.
    """

    steps: int = 16
    anchors: int = 12
    pictures: int = 4
    texts: int = 4
    smoothing: float = 0.02
    matching: float = 1.0
    separation: float = 1.0
    entropy: float = 0.3
    optimizer: Optimizer = ADAMW
    precision: Precision = "fp32"

    def propose(
        self,
        clip: Clip,
        texts: Texts,
        state: Learned,
        known: Labelled,
        stream: Labelled,
        seed: int,
    ) -> tuple[Learned, dict[str, float]]:
        """Return the state after `steps` steps and the last step's numbers; no argument changes.

        Args:
            clip: the learner's own.
            texts: of the recipe.
            state: where to go on from.
            known: preprocessed pictures ``(A, 3, S, S)`` under the condition of now, ``(A,)`` their classes.
            stream: preprocessed recent good parts ``(P, 3, S, S)``, ``(P,)`` their passing classes.
            seed: of what is drawn.
        """
        norms = NormVector(clip.source, tuple(clip.source.tensors))
        rng = np.random.default_rng(seed)
        (pixels, labels), (pictures, owners) = known, stream
        numbers: dict[str, float] = {}
        for number in range(self.steps):
            # Large steps first, small ones to settle: the next proposal begins anew.
            rate = self.optimizer.rate * (1 - 0.9 * number / self.steps)
            chosen = _evenly(labels, self.anchors, rng)
            recent = rng.permutation(len(pictures))[: self.pictures if self._uses_stream else 0]
            vector = norms.read(state.adapter, clip.device).requires_grad_()
            batch = torch.from_numpy(np.concatenate([pixels[chosen], pictures[recent]])).to(clip.device)
            outputs = forward(clip, norms.named(vector), batch, _some(texts, self.texts, rng), self.precision)
            owner = torch.from_numpy(np.concatenate([labels[chosen], owners[recent]])).to(clip.device)
            loss, terms = self._loss(outputs, owner, len(chosen))
            state, numbers = state.descend(norms, vector, loss, replace(self.optimizer, rate=rate))
            numbers |= terms
        return state, numbers

    @property
    def _uses_stream(self) -> bool:
        return bool(self.matching or self.separation or self.entropy)

    def _loss(self, outputs: Outputs, owner: Tensor, count: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its terms; the first `count` pictures are the known ones."""
        classes = outputs.logits.shape[1]
        anchor = F.cross_entropy(outputs.logits[:count], owner[:count], label_smoothing=self.smoothing)
        terms = {"anchor": anchor}
        loss = anchor
        if self._uses_stream:
            weight = F.one_hot(owner, classes).T.to(outputs.features.dtype)  # (C, B)
            unit = F.normalize(outputs.features, dim=1)
            prototypes = F.normalize(weight @ unit, dim=1)  # (C, D)
            pairs = 1 - torch.eye(classes, device=unit.device)
            terms["matching"] = (prototypes * outputs.texts).sum(1).mean()
            terms["separation"] = ((1 - prototypes @ prototypes.T) * pairs).sum() / pairs.sum()
            loss = loss - self.matching * terms["matching"] - self.separation * terms["separation"]
            if len(outputs.logits) > count:
                terms["entropy"] = entropy(outputs.logits[count:]).mean()
                loss = loss + self.entropy * terms["entropy"]
        return loss, {name: float(term.detach()) for name, term in terms.items()}


def _evenly(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return about `count` indices, as many of each class that there is."""
    classes = np.unique(labels)
    each = max(1, count // len(classes))
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:each] for c in classes]
    return np.concatenate(drawn)


def _some(texts: Texts, count: int, rng: np.random.Generator) -> Texts:
    """Return at most `count` texts of each class."""
    classes = texts.classes.cpu().numpy()
    drawn = [rng.permutation(np.flatnonzero(classes == c))[:count] for c in range(len(texts.frozen))]
    rows = torch.from_numpy(np.sort(np.concatenate(drawn))).to(texts.tokens.device)
    return Texts(texts.tokens[rows], texts.classes[rows], texts.frozen)
