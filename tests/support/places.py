"""Where things lie in this checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "data"
"""Numbers that algorithms are held to."""
SHARED = ROOT.parent / "shared" / "data"
"""Photos and clips; absent where only the product is checked out."""
