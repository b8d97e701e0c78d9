"""What a baseline says of itself, for people and for programs: every number with what it was measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from adapters.baseline.baseline import Commissioning
from adapters.baseline.claims import SHARES, bound, needed

_BY = {
    "person": "samples confirmed by a person",
    "model": "samples guessed by the model, confirmed by nobody",
    "unknown": "samples of which an older release did not say who named them",
}
_BASES = {
    "all_good": "parts that were watched and that a person calls good, all of them",
    "golden": "golden good samples, held out",
}


def facts(clean: Commissioning) -> dict[str, Any]:
    """Return it for JSON."""
    sight, testimony, measured = clean.sight, clean.testimony, clean.measured
    return {
        "station": clean.station,
        "digest": clean.digest,
        "made_at": clean.made_at,
        "made_by": testimony.made_by or None,
        "release": clean.release or None,
        "weights": clean.weights,
        "recipe": clean.recipe,
        "measured": None if measured is None else measured.facts(),
        "offset": clean.offset,
        "labelled_by": clean.labelled_by,
        "samples": clean.counts,
        "without": without(clean),
        "all_good": testimony.all_good,
        "claim": None if testimony.claim is None else testimony.claim.facts(),
        "rejects_of_stream": clean.numbers.get("rejects"),
        "block_parts": clean.drift.block_frames,
        "learns": sight.learns,
        "unwatched": list(sight.unwatched),
        "numbers": dict(clean.numbers),
    }


def without(clean: Commissioning) -> list[str]:
    """Return the classes of which a person has confirmed no sample."""
    return [label for label in clean.labels if not clean.counts["person"].get(label)]


def lines(clean: Commissioning) -> Iterator[str]:
    """Yield it in sentences."""
    numbers = clean.numbers
    parts = f" on {numbers['parts']:.0f} parts" if "parts" in numbers else ""
    by = f" by {clean.testimony.made_by}" if clean.testimony.made_by else ""
    yield f"{clean.station}: commissioned{parts}, {clean.made_at}{by}"
    yield f"measured {_measured(clean)}"
    yield f"operating point {clean.offset:.2f}{_scores(numbers)}"
    yield f"false rejects: {_claim(clean)}"
    if "rejects" in numbers:
        yield f"of the parts that were watched, good or not, {numbers['rejects']:.1%} are rejected"
    if strange := numbers.get("surely_bad"):
        yield f"of the parts that a person calls good {strange:.0f} look surely defective to the model"
    yield f"missed defects: {_missed(clean)}"
    for who, counts in clean.counts.items():
        if counts or who == "person":
            yield f"{_BY[who]}: {', '.join(f'{n} {label}' for label, n in counts.items()) or 'none'}"
    yield f"drift is judged in blocks of {clean.drift.block_frames} parts"
    if unseen := without(clean):
        yield f"no confirmed sample of {', '.join(unseen)}: whether these are still found nobody can say"
    yield (
        "it learns: LayerNorms and operating point"
        if clean.sight.learns
        else "it follows the pictures with its operating point and watches drift; it learns nothing else"
    )
    yield from (f"it cannot watch {one}" for one in clean.sight.unwatched)


def short(clean: Commissioning) -> str:
    """Return in a few words who named its samples, and what is not watched."""
    counts = clean.counts
    named = ", ".join(
        f"{sum(counts[who].values())} samples {said}"
        for who, said in (("person", "confirmed"), ("model", "guessed"), ("unknown", "of unknown origin"))
        if counts[who] or who == "person"
    )
    return named + "".join(f"; not watched: {one.partition(':')[0]}" for one in clean.sight.unwatched)


def _measured(clean: Commissioning) -> str:
    """Return in words with which model and on what of the picture; what is not known is said to be so."""
    measured = clean.measured
    if measured is None:
        return "with a model and on pictures that its release did not write down"
    model = f"with {measured.name} in {measured.precision}"
    picture = measured.picture
    if picture is None:
        return f"{model}, on pictures that its release did not write down"
    region = "not known" if picture.region is None else ", ".join(f"{side:g}" for side in picture.region)
    masks = "masks not known" if picture.masks is None else f"{len(picture.masks)} masks"
    camera = ", ".join(f"{name} {fact}" for name, fact in (picture.camera or {}).items() if fact is not None)
    seen = f"region {region}, {masks}, view {picture.view}, tiles {picture.tiles}"
    return f"{model}, on {seen}{f', camera: {camera}' if camera else ''}"


def _scores(numbers: Mapping[str, float]) -> str:
    if "good_score" not in numbers:
        return ""
    said = f"good parts score about {numbers['good_score']:.1f}"
    if numbers.get("confirmed_defects"):
        said += f", confirmed defects {numbers['defect_score']:.1f}"
    return f" ({said})"


def _claim(clean: Commissioning) -> str:
    claim = clean.testimony.claim
    if claim is None:
        return (
            "not known, because nobody vouches for good parts: commission with --all-good where all parts"
            " that are watched are good, or with good pictures in --golden"
        )
    most = ceil(claim.false_rejects_at_most * 1e4) / 1e4  # a bound is rounded up
    said = (
        f"at most {most:.2%} of the good parts, with {claim.confidence:.0%}"
        f" confidence: {claim.rejected} of {claim.good_parts} {_BASES[claim.basis]} are rejected"
    )
    best = [share for share in SHARES if bound(0, claim.good_parts) <= share]
    better = next((share for share in SHARES if not best or share < best[-1]), None)
    if better is None:
        return said
    shown = f"at most {best[-1]:.1%}" if best else f"no better than {bound(0, claim.good_parts):.1%}"
    return f"{said}; so many can show {shown}, for {better:.1%} it takes {needed(better)}"


def _missed(clean: Commissioning) -> str:
    count = clean.counts["person"]
    defects = sum(count.get(label, 0) for label, bad in zip(clean.labels, clean.fails, strict=True) if bad)
    if "confirmed_defects" not in clean.numbers:
        return "not known: an older release counted guesses with confirmed defects" if defects else _NO_DEFECT
    return f"{clean.numbers['missed']:.1%} of {defects} confirmed ones" if defects else _NO_DEFECT


_NO_DEFECT = "not known, because no defect is confirmed by a person"
