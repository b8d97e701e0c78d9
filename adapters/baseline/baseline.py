"""What a station was like when it was known to be well: everything that later pictures are held against.

Fixed once, on the clean line, by `mekiki commission`; a value with a digest and a file. It holds known parts
(golden pictures that a person labelled, or pictures that the frozen model named surely while the line was
known to be clean) with who named each, good parts of the stream, the statistics of the pictures, what drift
is measured against, the operating point, and what may be claimed of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from adapters.baseline.guard_sight import GuardSight
from adapters.baseline.reference_samples import NamedBy, named_by_of_old
from adapters.baseline.reference_samples import ReferenceSamples as ReferenceSamples
from adapters.baseline.testimony import Testimony
from adapters.core.adapter import AdapterError
from adapters.core.measured_with import MeasuredWith
from adapters.core.observation import Bytes
from adapters.files.atomic_file import write_durably
from adapters.files.formats import mismatch
from adapters.files.strict_json import loads
from adapters.files.tensors import read_tensors
from adapters.monitoring.degradation_fit import PictureStatistics
from adapters.monitoring.drift_baseline import DriftReference

FORMAT = "mekiki.commissioning.v1"


class CommissioningError(AdapterError):
    """A station cannot be commissioned, or what was stored cannot be used; says what is missing."""


@dataclass(frozen=True, eq=False)
class Commissioning:
    """The clean line.

    Attributes:
        station: its name.
        weights, recipe: digests of what looked at it.
        labels: names of the classes, in the recipe's order.
        fails: ``(C,)`` which of them are defects.
        made_at: ISO 8601, UTC.
        labelled_by: ``golden``: a person named some of the samples; ``model``: the frozen model named all.
        known: samples of every class, as far as there are any, guesses included.
        good: ``(G, S, S, 3)`` good parts of the stream; a person vouches for them where they vouch for all.
        statistics: of the stream's pictures.
        drift: what drift is measured against.
        offset: the operating point on the frozen model.
        numbers: how well it separates, for the person who commissions.
        release: of the agent that made it; "" where that is not known.
        measured: with what; None in files of releases that did not say it.
        testimony: what persons vouch for; of older files nobody knows it.
        more: what a newer release has written besides, JSON, by name. This, `measured`, `testimony` and who
            named the samples stay out of the digest: for releases that do not know them it would be another.
    """

    station: str
    weights: str
    recipe: str
    labels: tuple[str, ...]
    fails: NDArray[np.bool_]
    made_at: str
    labelled_by: Literal["golden", "model"]
    known: ReferenceSamples
    good: Bytes
    statistics: PictureStatistics
    drift: DriftReference
    offset: float
    numbers: Mapping[str, float]
    release: str = ""
    measured: MeasuredWith | None = None
    testimony: Testimony = field(default_factory=Testimony)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        statistics = self.statistics
        numbers = {"offset": self.offset, **self.numbers}
        bad = [name for name, number in numbers.items() if not math.isfinite(number)]
        bad += [
            f"statistics.{name}"
            for name in ("mean", "variance", "power")
            if not np.isfinite(getattr(statistics, name)).all()
        ]
        if bad:
            raise CommissioningError(f"station {self.station}: {bad[0]} is not a finite number")

    @cached_property
    def sight(self) -> GuardSight:
        """Say what the guard of this station can see."""
        known, bad = self.known, self.fails[self.known.classes]
        good = int((~self.fails[known.some(known.vouched).half(1).classes]).sum())
        return GuardSight(
            defects=int((bad & known.vouched).sum()),
            good=good + (len(self.good) if self.testimony.all_good else 0),
            guesses=int((bad & (known.named_by == NamedBy.MODEL)).sum()),
            unknown=int((bad & (known.named_by == NamedBy.UNKNOWN)).sum()),
        )

    @cached_property
    def usable(self) -> ReferenceSamples:
        """The samples that a learner may take for known.

        Defects only where a person confirmed them, and enough of them to judge by. Good parts also by the
        model's sure name: on a line that was known to be well these are hardly ever defects.
        """
        bad = self.fails[self.known.classes]
        return self.known.some(~bad | (self.known.vouched & self.sight.misses))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many samples of each class there are, by who named them: ``person``, ``model``, ``unknown``."""
        count, labels = self.known.count, self.labels
        found = {by: zip(labels, count(by, len(labels)), strict=True) for by in NamedBy}
        return {by.name.lower(): {name: int(n) for name, n in each if n} for by, each in found.items()}

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of everything in it."""
        sha = hashlib.sha256(json.dumps(self._facts(), sort_keys=True, allow_nan=False).encode())
        for name, array in sorted(self._arrays().items()):
            sha.update(f"{name}{array.dtype}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return f"sha256:{sha.hexdigest()}"

    def save(self, path: Path) -> None:
        """Write it to one file, complete or not at all.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        measured = {} if self.measured is None else {"measured": self.measured.facts()}
        said = {"named_by": self.known.named_by.tolist(), "testimony": self.testimony.facts()}
        more = json.dumps({**self.more, **measured, **said}, sort_keys=True, allow_nan=False)
        facts = {
            "format": FORMAT,
            "release": self.release,
            "facts": json.dumps(self._facts(), sort_keys=True, allow_nan=False),
            "digest": self.digest,
            "more": more,
            "more_digest": _sealed(more, self.digest, self.release),
        }
        arrays = {name: np.asarray(array, order="C") for name, array in self._arrays().items()}
        write_durably(path, safetensors.numpy.save(arrays, facts))

    @classmethod
    def load(cls, path: Path) -> Commissioning:
        """Read and verify what `save` wrote.

        Raises:
            CommissioningError: the file is missing, damaged or of another version.
        """
        again = "commission the station again"
        try:
            head, arrays = read_tensors(path)
        except (OSError, ValueError) as error:
            raise CommissioningError(f"{path}: not readable: {error}; {again}") from error
        if (found := head.get("format")) != FORMAT:
            raise CommissioningError(f"{path}: {mismatch(found, FORMAT, head.get('release'), again)}")
        try:
            made = cls._from(loads(head["facts"]), arrays)
            measured, more = _more(head)
            made = made._vouched(more)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, AdapterError) as error:
            raise CommissioningError(f"{path}: damaged ({error}); {again}") from error
        if made.digest != head.get("digest"):
            raise CommissioningError(f"{path}: altered since it was written; {again}")
        return replace(made, release=head.get("release", ""), measured=measured, more=more)

    def _vouched(self, more: dict[str, Any]) -> Commissioning:
        """Return it with who named the samples and what persons vouch for, taken out of `more`."""
        testimony = Testimony.read(more.pop("testimony")) if "testimony" in more else Testimony()
        if "named_by" not in more:
            named_by = named_by_of_old(self.labelled_by, self.known.classes)
        else:
            named_by = np.array([NamedBy(one) for one in more.pop("named_by")], np.uint8)
        if len(named_by) != len(self.known.classes):
            raise CommissioningError(f"{len(self.known.classes)} samples, named by {len(named_by)}")
        return replace(self, known=replace(self.known, named_by=named_by), testimony=testimony)

    def require(self, weights: str, recipe: str, now: MeasuredWith | None = None) -> None:
        """Make sure that it was made with this model and these words.

        Args:
            weights: digest of the model's.
            recipe: digest of the words.
            now: what inspects; None where that is not asked.

        Raises:
            CommissioningError: with what differs.
        """
        again = f"run mekiki commission --station {self.station} again"
        for what, ours, theirs in (("model", self.weights, weights), ("recipe", self.recipe, recipe)):
            if ours != theirs:
                raise CommissioningError(
                    f"station {self.station} was commissioned with another {what} ({ours[:19]}...,"
                    f" now {theirs[:19]}...): {again}"
                )
        if now is not None and self.measured is not None and (how := self.measured.differs_from(now)):
            raise CommissioningError(
                f"station {self.station} was commissioned {how}: {again},"
                " or set model.engine and model.precision back"
            )

    def _facts(self) -> dict[str, Any]:
        return {
            "station": self.station,
            "weights": self.weights,
            "recipe": self.recipe,
            "labels": list(self.labels),
            "made_at": self.made_at,
            "labelled_by": self.labelled_by,
            "offset": self.offset,
            "count": self.statistics.count,
            "numbers": dict(self.numbers),
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        statistics = self.statistics
        return {
            "fails": self.fails,
            "known.pictures": self.known.pictures,
            "known.classes": self.known.classes,
            "good": self.good,
            "statistics.mean": statistics.mean,
            "statistics.variance": statistics.variance,
            "statistics.power": statistics.power,
            **{f"drift.{name}": array for name, array in self.drift.arrays().items()},
        }

    @classmethod
    def _from(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Commissioning:
        drift = {name[len("drift.") :]: a for name, a in arrays.items() if name.startswith("drift.")}
        return cls(
            station=facts["station"],
            weights=facts["weights"],
            recipe=facts["recipe"],
            labels=tuple(facts["labels"]),
            fails=arrays["fails"],
            made_at=facts["made_at"],
            labelled_by=facts["labelled_by"],
            known=ReferenceSamples(arrays["known.pictures"], arrays["known.classes"]),
            good=arrays["good"],
            statistics=PictureStatistics(
                facts["count"],
                arrays["statistics.mean"],
                arrays["statistics.variance"],
                arrays["statistics.power"],
            ),
            drift=DriftReference.from_arrays(drift),
            offset=facts["offset"],
            numbers=facts["numbers"],
        )


def measured_with(path: Path) -> MeasuredWith | None:
    """Return what a commissioning was measured with; None where its file does not say, or cannot be read.

    Only the file's head is read.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return _more(dict(file.metadata() or {}))[0]
    except (OSError, safetensors.SafetensorError, CommissioningError, ValueError, KeyError, TypeError):
        return None  # whoever opens the station reads all of it, and says what is wrong


def _more(head: Mapping[str, str]) -> tuple[MeasuredWith | None, dict[str, Any]]:
    """Return what a file's head says besides: with what it was measured, and what is not known here."""
    if not head.keys() & {"release", "more", "more_digest"}:
        return None, {}  # release 0.1.0
    if head.get("more_digest") != _sealed(head["more"], head.get("digest", ""), head["release"]):
        raise CommissioningError("altered since it was written: what is said of it besides")
    facts = dict(loads(head["more"]))
    measured = facts.pop("measured", None)
    return None if measured is None else MeasuredWith.read(measured), facts


def _sealed(more: str, digest: str, release: str) -> str:
    """Hash what the digest leaves out, with the digest: it belongs to this commissioning alone."""
    return f"sha256:{hashlib.sha256(f'{digest}{release}{more}'.encode()).hexdigest()}"
