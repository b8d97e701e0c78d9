"""Whether this machine has the memory to build a bundle: known before a weight is read."""

from __future__ import annotations

from pathlib import Path

from adapters.core.protocol import ModelError

BYTES_PER_PARAMETER = 21
"""At the peak of a build. 18 to 24 measured with most towers, 32 with ViTamin's small one and 48 with CoCa
(benchmarks/results/open_clip_families.md): for those this refuses too late rather than too early."""

BASE_BYTES = 1.2e9
"""What torch, the exporter and ONNX Runtime take of themselves."""

_CGROUP = Path("/sys/fs/cgroup")


def require_memory(name: str, parameters: int, available: float | None = None) -> None:
    """Refuse a build that the kernel would end.

    Args:
        name: of the model.
        parameters: how many numbers it has.
        available: bytes; None asks this machine.

    Raises:
        ModelError: with what is needed, what is there, and the remedy.
    """
    available = available_bytes() if available is None else available
    needed = needed_bytes(parameters)
    if available is not None and needed > available:
        raise ModelError(
            f"{name}: has {parameters / 1e6:,.0f} million parameters: building it takes about"
            f" {needed / 1e9:.0f} GB of memory, {available / 1e9:.0f} GB are free here; end other programs,"
            " or build it on a larger machine and copy the bundle"
        )


def needed_bytes(parameters: int) -> float:
    """Return what a build of so many numbers takes at its peak."""
    return BASE_BYTES + BYTES_PER_PARAMETER * parameters


def available_bytes() -> float | None:
    """Return how much memory this process may still get, or None if the kernel does not say."""
    found = [amount for amount in (_of_the_machine(), _of_the_group()) if amount is not None]
    return min(found, default=None)


def _of_the_machine() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines)}
    return (
        1024.0 * (int(sizes["MemAvailable"]) + int(sizes.get("SwapFree", "0")))
        if "MemAvailable" in sizes
        else None
    )


def _of_the_group() -> float | None:
    """Return what is left of a limit such as a container's; its cache of files can be had back."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    if not limit.isdecimal():
        return None
    cached = sum(
        int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file "))
    )
    return float(limit) - used + cached
