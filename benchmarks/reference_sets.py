"""Reference inspection on real pictures: ``python -m benchmarks.reference_sets`` writes ``results/reference_sets.*``.

For each set and each number of good samples, five draws: the samples are drawn by the seed, a reference is built of
them, and up to 40 other good pictures and 60 defects (drawn too) are judged. AUROC, false rejects and misses at the
reference's own threshold; ranges over the draws. At ten samples also the plain form (nearest distance of the two
deeper layers to 1500 patches drawn at random, mean of the farthest 1 %) and, where it is installed, anomalib's PatchCore with
the same weights on the same pixels, in the same run.

Which sets the method was chosen by, and which it was not: `benchmarks.reference_pictures`.
"""

from __future__ import annotations

import argparse
import json
import site
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.backbone.factory import open_backbone
from adapters.core.patches import PatchExtractor, PatchInfo
from adapters.reference.anomaly import top_mean
from adapters.reference.memory import nearest
from adapters.reference.reference import Reference
from benchmarks.machine import describe, in_turn, in_words, table, write
from benchmarks.reference_peer import PeerPatchCore
from benchmarks.reference_pictures import CHECKED_ON, CHOSEN_ON, SEEN, features, picture_set, pixels

SAMPLES = (1, 5, 10, 20)
BESIDE = 10
"""Samples at which the plain form and the peer are measured."""
GOOD, BAD = 40, 60
"""Pictures judged in a draw, at most."""


def main() -> None:
    """Measure sets, and what a picture costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peers", type=Path, default=Path("out/peers"), help="where packages are installed")
    parser.add_argument("--sets", nargs="+", default=[*CHOSEN_ON, *SEEN, *CHECKED_ON])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--peer-draws", type=int, default=5, help="draws that anomalib is measured in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peer", action="store_true", help="leave anomalib out")
    parser.add_argument("--json", action="store_true", help="print figures as JSON, write no file")
    arguments = parser.parse_args()
    site.addsitedir(str(arguments.peers.absolute()))
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    peer = None if arguments.no_peer else PeerPatchCore()
    with tempfile.TemporaryDirectory() as cache:
        backbone = open_backbone("backbone", Path(cache), device="cpu", threads=1)
        cost = _cost(arguments, Path(cache), peer)
        machine = describe("numpy", "onnxruntime", "torch", *([] if peer is None else ["anomalib"]))
        sets: dict[str, Any] = {}
        figures = {
            "machine": machine,
            "draws": arguments.draws,
            "peer_draws": 0 if peer is None else arguments.peer_draws,
            "seed": arguments.seed,
            "cost": cost,
            "sets": sets,
        }
        for name in arguments.sets:
            sets[name] = _measure(name, backbone, peer, arguments)
            if not arguments.json:
                write("reference_sets", figures, _markdown(figures))  # whole after each set: it takes long
    if arguments.json:
        print(json.dumps(figures))


def _measure(
    name: str, backbone: PatchExtractor, peer: PeerPatchCore | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    files = picture_set(name, arguments.data, arguments.peers)
    good, bad = features(files.good, backbone), features(files.bad, backbone)
    found: dict[str, Any] = {"good": len(good), "bad": len(bad)}
    for draw in range(arguments.draws):
        random = np.random.default_rng([arguments.seed, draw])
        order, defects = random.permutation(len(good)), random.permutation(len(bad))[:BAD]
        for count in SAMPLES:
            if count >= len(good):
                continue
            chosen, rest = np.sort(order[:count]), order[count:][:GOOD]
            judged = [_ours(good[chosen], good[rest], bad[defects], backbone.info, draw)]
            if count == BESIDE:
                judged.append(_plain(good[chosen], good[rest], bad[defects], backbone.info, draw))
            if count == BESIDE and peer is not None and draw < arguments.peer_draws:
                of = [[files.good[i] for i in chosen], [files.good[i] for i in rest]]
                of.append([files.bad[i] for i in defects])
                judged.append(_peer(peer, of, backbone.info, draw))
            for one in judged:
                for what, number in one.items():
                    found.setdefault(str(count), {}).setdefault(what, []).append(round(float(number), 4))
    return found


def _ours(
    samples: NDArray[Any], good: NDArray[Any], bad: NDArray[Any], info: PatchInfo, seed: int
) -> dict[str, float]:
    reference = Reference.build(samples.astype(np.float32), info, seed=seed)
    on_good, on_bad = (
        np.array([reference.judge(part.astype(np.float32)).score for part in parts]) for parts in (good, bad)
    )
    return {
        "auroc": auroc(on_good, on_bad),
        "false_rejects": float((on_good > reference.threshold).mean()),
        "missed": float((on_bad <= reference.threshold).mean()),
    }


def _peer(peer: PeerPatchCore, files: list[list[Path]], info: PatchInfo, seed: int) -> dict[str, float]:
    """PatchCore of anomalib on the same pixels: files of samples, of other good pictures, of defects."""
    samples, good, bad = (
        [peer.embedding(pixels(file, info.preprocess)[None]) for file in of] for of in files
    )
    peer.build(samples, seed)
    on_good, on_bad = (np.array([peer.score(one) for one in of]) for of in (good, bad))
    return {"anomalib": auroc(on_good, on_bad)}


def _plain(
    samples: NDArray[Any], good: NDArray[Any], bad: NDArray[Any], info: PatchInfo, seed: int
) -> dict[str, float]:
    """As first tried: the two deeper layers, raw, a memory drawn at random, nearest distance, the farthest 1 %."""
    first, grid = info.layers[0], info.grid
    flat = samples[..., first:].reshape(-1, info.channels - first).astype(np.float32)
    memory = flat[np.random.default_rng(seed).permutation(len(flat))[:1500]]

    def score(part: NDArray[Any]) -> float:
        far = nearest(part[..., first:].reshape(-1, flat.shape[1]).astype(np.float32), memory)
        return float(top_mean(far.reshape(1, *grid), 0.01)[0])

    return {"plain": auroc(np.array([score(p) for p in good]), np.array([score(p) for p in bad]))}


def auroc(good: NDArray[Any], bad: NDArray[Any]) -> float:
    """Return the chance that a defect scores higher than a good one; half of it where they are equal."""
    higher = (bad[:, None] > good[None]).mean() + 0.5 * (bad[:, None] == good[None]).mean()
    return float(higher)


def _cost(arguments: argparse.Namespace, cache: Path, peer: PeerPatchCore | None) -> dict[str, Any]:
    """Return ms of CPU per picture on one thread, from its pixels to the judgement, at ten samples; and bytes."""
    files = picture_set("hazelnut", arguments.data, arguments.peers).good[: BESIDE + 1]
    found: dict[str, Any] = {}
    for size in (256, 288):
        backbone = open_backbone("backbone", cache, device="cpu", threads=1, size=size)
        good = features(files, backbone).astype(np.float32)
        reference = Reference.build(good[:BESIDE], backbone.info)
        path = cache / "reference.safetensors"
        reference.save(path)
        picture = pixels(files[-1], backbone.info.preprocess)[None]
        ways = {
            "backbone": lambda b=backbone, p=picture: b.patches(p),
            "judge": lambda r=reference, g=good: r.judge(g[-1]),
            "ours": lambda b=backbone, r=reference, p=picture: r.judge(b.patches(p)),
        }
        if peer is not None:
            peer.build([peer.embedding(pixels(f, backbone.info.preprocess)[None]) for f in files[:BESIDE]], 0)
            ways["anomalib"] = lambda e=peer, p=picture: e.forward(p)
        began = time.process_time()
        Reference.build(good[:BESIDE], backbone.info)
        times = {"build": [time.process_time() - began], **in_turn(ways, 15)}
        found[str(size)] = {
            **{f"{way}_ms": round(1e3 * float(np.median(seconds)), 2) for way, seconds in times.items()},
            "reference_bytes": path.stat().st_size,
            "anomalib_bytes": None if peer is None else peer.memory_bytes,
        }
    return found


def _spread(numbers: list[float]) -> str:
    return f"{np.mean(numbers):.3f} ({min(numbers):.3f}-{max(numbers):.3f})"


def _markdown(figures: dict[str, Any]) -> str:
    sets, cost = figures["sets"], figures["cost"]
    kind = {
        **dict.fromkeys(CHOSEN_ON, "chosen by"),
        **dict.fromkeys(SEEN, "seen"),
        **dict.fromkeys(CHECKED_ON, "check"),
    }
    rows = [
        [name, kind[name], f"{one['good']} / {one['bad']}"]
        + [_spread(one[str(count)]["auroc"]) if str(count) in one else "" for count in SAMPLES]
        for name, one in sets.items()
    ]
    beside = [
        [name, *(_spread(one[str(BESIDE)][what]) if what in one[str(BESIDE)] else "" for what in _BESIDE)]
        for name, one in sets.items()
    ]
    at = [
        [name]
        + [
            f"{100 * np.mean(one[str(k)][what]):.1f}"
            for k in (5, 10, 20)
            for what in ("false_rejects", "missed")
        ]
        for name, one in sets.items()
    ]
    costs = [[size, *(str(number) for number in one.values())] for size, one in cost.items()]
    return (
        "# Reference inspection on real pictures\n\nWritten by `python -m benchmarks.reference_sets"
        f" --draws {figures['draws']} --peer-draws {figures['peer_draws']} --seed {figures['seed']}`. EfficientNet-Lite0 at 288 px, fp32, one thread."
        f" Machine: {in_words(figures['machine'])}.\nMean and range over the draws; in each up to {GOOD} other good"
        f' pictures and {BAD} defects are judged. "chosen by": the method was chosen by these sets; "check": no'
        " choice was made by this set, though its figures were seen beside others.\n\n## AUROC by good samples\n\n"
        + table(["set", "role", "good / bad", *(str(count) for count in SAMPLES)], rows)
        + f"\n## Beside others, at {BESIDE} samples (AUROC)\n\n"
        + table(["set", "ours", "plain form", "anomalib PatchCore, same weights"], beside)
        + "\n## False rejects and misses in % at the reference's own threshold (leave-one-out)\n\n"
        + table(["set", *(f"{k}: {what}" for k in (5, 10, 20) for what in ("rejected", "missed"))], at)
        + f"\n## Cost of a picture at {BESIDE} samples, one thread, CPU ms (median of 15 in turn), bytes of what is kept\n\n"
        + table(["px", *next(iter(cost.values()))], costs)
    )


_BESIDE = ("auroc", "plain", "anomalib")

if __name__ == "__main__":
    main()
