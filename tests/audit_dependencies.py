"""Are there known weaknesses in what is pinned? ``python -m tests.audit_dependencies``; exit code 1 if so.

Asks the advisory database of PyPI, which needs a network: where it cannot be reached that is said aloud, and
is no failure, because a line without a network has to be able to build and test too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.places import ROOT

CONSTRAINTS = ROOT / "constraints.txt"
_PATIENCE_S = 120.0


def main() -> int:
    """Audit, report, and return the exit code."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip",
        "--timeout", "10", "--progress-spinner", "off", "--format", "json",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        print(f"dependencies: NOT AUDITED: the advisory database cannot be reached: {error}")
        return 0
    verdict, lines = judge(found)
    print("\n".join(lines))
    return verdict


def judge(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Return exit code and report of what pip-audit found."""
    weak = [one for one in dependencies if one.get("vulns")]
    skipped = [one for one in dependencies if "skip_reason" in one]
    if len(skipped) == len(dependencies):
        return 0, ["dependencies: NOT AUDITED: the advisory database knows none of them, so it is not there"]
    lines = [
        f"dependencies: {one['name']} {one['version']}: {flaw['id']}: mended in {fixed_in(flaw)}"
        for one in weak
        for flaw in one["vulns"]
    ]
    lines.append(
        f"dependencies: {len(dependencies) - len(skipped)} audited, {len(weak)} with known weaknesses"
    )
    if skipped:
        lines.append(f"dependencies: not audited: {', '.join(one['name'] for one in skipped)}")
    return (1 if weak else 0), lines


def fixed_in(flaw: dict[str, Any]) -> str:
    """Return the versions without a weakness."""
    return ", ".join(flaw.get("fix_versions") or ()) or "no version yet"


if __name__ == "__main__":
    sys.exit(main())
