"""What `mekiki evaluate` takes on the command line. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agent.cli.arguments import number_from


def add_parser(commands: Any, default_config: str) -> None:
    """Add `evaluate` to the subparsers of `mekiki`."""
    parser = commands.add_parser(
        "evaluate",
        help="how well pictures are told apart: a folder with one sub-folder per class; no config is needed",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--recipe", metavar="NAME", help="judge by this recipe; without it by good samples alone"
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help=f"take recipe and model from here; default: {default_config} where a recipe is named",
    )
    parser.add_argument("--good", metavar="CLASS", help="folder of the good parts; default: good")
    parser.add_argument(
        "--samples", type=_positive, default=10, metavar="N", help="golden samples; default: %(default)s"
    )
    parser.add_argument(
        "--draws", type=_positive, default=5, metavar="N", help="times they are drawn; default: %(default)s"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--degrade",
        metavar="KIND:SEVERITY",
        help="judge under a worse lamp, lens or sensor, such as dim:3; golden samples stay as they are",
    )
    parser.add_argument("--json", action="store_true", help="nothing but the JSON of the last line")
    parser.set_defaults(command=_evaluate, default_config=default_config)


def _evaluate(arguments: argparse.Namespace) -> int:
    from agent.cli.evaluate.command import run

    return run(arguments)


def _positive(text: str) -> int:
    return number_from(int, text, lambda number: 0 < number <= 1_000_000, "is not a number from 1 to 1000000")


def _seed(text: str) -> int:
    return number_from(int, text, lambda number: 0 <= number < 2**32, "is not a whole number from 0 on")
