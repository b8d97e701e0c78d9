"""Which runtimes are installed. Those of ONNX overwrite each other silently, so they are counted."""

from __future__ import annotations

import re
from importlib import metadata


def installed_runtimes() -> list[tuple[str, str]]:
    """Return name and version of every installed distribution that brings the `onnxruntime` package."""
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        # onnxruntime-extensions and -tools have packages of their own and disturb nobody.
        if re.fullmatch(r"onnxruntime(-(gpu|directml|openvino|qnn|migraphx|training))?", name):
            found[name] = distribution.version
    return sorted(found.items())


def openvino_version() -> str | None:
    """Return the version of OpenVINO; None where it is not installed."""
    try:
        return metadata.version("openvino")
    except metadata.PackageNotFoundError:
        return None


def runtime_problem() -> str | None:
    """Return one sentence with the remedy when not exactly one ONNX Runtime is installed, else None."""
    runtimes = installed_runtimes()
    if len(runtimes) == 1:
        return None
    if not runtimes:
        return "no ONNX Runtime is installed: pip install 'mekiki[cpu]', or 'mekiki[gpu]' for an NVIDIA card"
    names = " and ".join(f"{name} {version}" for name, version in runtimes)
    removal = " ".join(name for name, _ in runtimes)
    # Removing one of them leaves the other broken, as their files are the same: remove all, install one.
    return f"{names} overwrite each other: pip uninstall {removal}, then install exactly one of them"
