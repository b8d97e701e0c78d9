"""What the command line takes: the commands of `mekiki --help` and their arguments.

Imports nothing heavy, so that `mekiki --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from agent import __version__
from agent.base.errors import EXIT_USAGE
from agent.base.text import on_one_line
from agent.cli import adapter as adapter_cli
from agent.cli import audit as audit_cli
from agent.cli import store as store_cli
from agent.cli.arguments import number_from
from agent.cli.baselines import parser as baseline_cli
from agent.cli.challenge import parser as challenge_cli
from agent.cli.evaluate import parser as evaluate_cli
from agent.cli.golden import parser as golden_cli
from agent.cli.production import parser as production_cli

DEFAULT_CONFIG = "config.yaml"

LEAST_PARTS = 1000
"""As `adapters.monitoring.drift_baseline` asks for: 20 blocks of 50."""

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """argparse with the exit code that the documentation promises."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {on_one_line(message)}\n")


def build_parser(commands_by_name: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser; its namespaces hold the command to call.

    Args:
        commands_by_name: what to call for each command; verbs are named as ``model build``.
    """
    parser = _Parser(prog="mekiki", description="Inspection agent for production lines.")
    parser.add_argument("--version", action="version", version=f"mekiki {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser("run", help="inspect, as config.yaml says")
    _with_config(run)
    run.add_argument("--frames", type=_positive, metavar="N", help="end after N frames")
    run.add_argument(
        "--strict",
        action="store_true",
        help="do not start with the config that was good last where the file is broken",
    )
    run.set_defaults(command=commands_by_name["run"])

    record = commands.add_parser("record", help="keep what the camera of a station sees, to play it again")
    record.add_argument("station", metavar="STATION")
    _with_config(record)
    record.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    record.add_argument("--frames", type=_positive, metavar="N", help="end after N pictures")
    record.add_argument("--seconds", type=_duration, metavar="S", help="end after S seconds")
    record.add_argument(
        "--max-mb",
        type=_positive,
        default=2000,
        metavar="M",
        help="end before it is larger; default: %(default)s",
    )
    record.set_defaults(command=commands_by_name["record"])

    replay = commands.add_parser("replay", help="judge and learn again what was recorded, always the same")
    replay.add_argument("recording", type=Path, metavar="RECORDING", help="a folder that record has written")
    _with_config(replay)
    replay.add_argument(
        "-s", "--station", metavar="NAME", help="default: the one that was recorded, or the only one"
    )
    replay.add_argument(
        "--from",
        dest="start",
        choices=("source", "active"),
        default="source",
        help="what answers first: the model as it was trained, or what answers now; default: %(default)s",
    )
    replay.add_argument("--limit", type=_positive, metavar="N", help="end after N frames")
    replay.add_argument("--json", action="store_true", help="one verdict a line, the summary last")
    replay.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw how it went (needs the plot extra)"
    )
    replay.set_defaults(command=commands_by_name["replay"])

    commission = commands.add_parser(
        "commission", help="fix what a station is like while it is well; it learns from there on"
    )
    commission.add_argument("-s", "--station", required=True, metavar="NAME")
    _with_config(commission)
    commission.add_argument(
        "--recipe", metavar="NAME", help="the product; without it the recipe that is in force at the station"
    )
    commission.add_argument(
        "--golden",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="pictures that a person named: DIR/<class>/*.png; may be given several times",
    )
    commission.add_argument(
        "--all-good",
        action="store_true",
        help="you vouch for the parts that are watched: all were good; then false rejects can be claimed",
    )
    commission.add_argument(
        "--trust-golden", action="store_true", help="also where the golden pictures look swapped or wrong"
    )
    commission.add_argument(
        "--parts", type=_enough, default=3000, metavar="N", help="parts to watch; default: %(default)s"
    )
    commission.add_argument(
        "--false-rejects",
        type=_share,
        default=0.01,
        metavar="SHARE",
        help="at most this share of good parts is to be rejected; default: %(default)s",
    )
    commission.add_argument("--replace", action="store_true", help="also if it was commissioned before")
    commission.add_argument("--json", action="store_true", help="the result as one JSON object")
    commission.set_defaults(command=commands_by_name["commission"])

    demo = commands.add_parser("demo", help="broker, simulated line and agent, to look at")
    demo.add_argument("--frames", type=_positive, metavar="N", help="end after N parts")
    demo.add_argument(
        "--fps", type=_rate, default=20.0, metavar="F", help="parts a second; 0: as fast as it goes"
    )
    demo.add_argument("--json", action="store_true", help="one JSON object a line, the summary last")
    demo.set_defaults(command=commands_by_name["demo"])

    check = commands.add_parser("check", help="is config.yaml good?")
    _with_config(check)
    check.add_argument(
        "--print", action="store_true", help="print what is in force, defaults included, no secrets"
    )
    check.add_argument(
        "--diff",
        action="store_true",
        help="print what differs from the config that was in force last, and what that takes",
    )
    check.add_argument(
        "--installed",
        action="store_true",
        help="for the installer: what is not there now, such as a secret of the service, is no mistake",
    )
    check.add_argument("--schema", action="store_true", help="print the JSON Schema for editors instead")
    check.set_defaults(command=commands_by_name["check"])

    inspect = commands.add_parser("inspect", help="judge pictures, folders or clips")
    inspect.add_argument("paths", nargs="+", metavar="PATH")
    judge = inspect.add_mutually_exclusive_group(required=True)
    judge.add_argument("--recipe", metavar="NAME", help="of the config, or line, steel-neu, steel-xsdd")
    judge.add_argument(
        "-s", "--station", metavar="NAME", help="as this station's line judges: region, limits, version"
    )
    inspect.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help=f"take recipes, stations and model from here; default: {DEFAULT_CONFIG} where there is one",
    )
    inspect.add_argument("--json", action="store_true", help="one JSON object a line")
    inspect.add_argument(
        "--map",
        type=Path,
        metavar="FILE|DIR",
        help="draw where a picture differs from the reference: a .png for one picture, or a folder",
    )
    inspect.set_defaults(command=commands_by_name["inspect"])

    status = commands.add_parser(
        "status", help="how is the agent that runs here? exit code 1 unless all is ok"
    )
    _with_config(status)
    status.add_argument("--json", action="store_true", help="all of it as one JSON object")
    status.set_defaults(command=commands_by_name["status"])

    doctor = commands.add_parser("doctor", help="is everything there that run needs?")
    _with_config(doctor)
    doctor.set_defaults(command=commands_by_name["doctor"])

    golden_cli.add_parser(commands, DEFAULT_CONFIG)
    evaluate_cli.add_parser(commands, DEFAULT_CONFIG)
    challenge_cli.add_parser(commands, DEFAULT_CONFIG)
    baseline_cli.add_parser(commands, DEFAULT_CONFIG)
    adapter_cli.add_parser(commands, DEFAULT_CONFIG)
    store_cli.add_parser(commands, DEFAULT_CONFIG)
    audit_cli.add_parser(commands, DEFAULT_CONFIG)
    production_cli.add_parser(commands, DEFAULT_CONFIG)

    bench = commands.add_parser("bench", help="measure what this machine can do")
    benches = bench.add_subparsers(required=True, metavar="WHAT", parser_class=_Parser)
    engines = benches.add_parser("engines", help="which engine runs the model fastest; engine: auto takes it")
    _with_config(engines)
    engines.add_argument("--json", action="store_true", help="the result as one JSON object")
    engines.set_defaults(command=commands_by_name["bench engines"])

    model = commands.add_parser("model", help="make model bundles")
    verbs = model.add_subparsers(required=True, metavar="VERB", parser_class=_Parser)
    build = verbs.add_parser("build", help="make a bundle from an open_clip model (needs the torch extra)")
    build.add_argument(
        "model", metavar="NAME|FILE", help="a model name of open_clip, or a checkpoint with --name"
    )
    build.add_argument("--out", required=True, metavar="DIR")
    build.add_argument("--name", help="the architecture of a checkpoint FILE")
    build.add_argument("--checkpoint", type=Path, help="weights for NAME")
    build.add_argument("--pretrained", help="pretrained tag for NAME, from the local hub cache")
    build.add_argument("--sha256", help="what the weights file must have")
    build.add_argument("--int8", action="store_true", help="add the image tower in int8, for processors")
    build.add_argument(
        "--patches", action="store_true", help="add its patches, for recipe.reference with features: clip"
    )
    build.set_defaults(command=commands_by_name["model build"])

    convert = commands.add_parser("convert", help="make published checkpoints safe to read")
    kinds = convert.add_subparsers(required=True, metavar="KIND", parser_class=_Parser)
    diffclip = kinds.add_parser("diffclip", help="a training checkpoint of DiffCLIP (needs the torch extra)")
    diffclip.add_argument("checkpoint", metavar="CHECKPOINT", help="such as checkpoint_best.pt")
    diffclip.add_argument("out", metavar="OUT.safetensors")
    diffclip.add_argument(
        "--lambda-init",
        default="0.8",
        metavar="L",
        help="what it was trained with: a number, or 0.8-0.6*exp(-0.3*l); default: %(default)s",
    )
    diffclip.add_argument(
        "--model", default="DiffCLIP-ViT-B-16", metavar="NAME", help="its architecture; default: %(default)s"
    )
    diffclip.add_argument("--force", action="store_true", help="replace OUT.safetensors")
    diffclip.set_defaults(command=commands_by_name["convert diffclip"])
    return parser


def _with_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")


def _positive(text: str) -> int:
    return number_from(int, text, lambda number: number > 0, "is not a positive number")


def _duration(text: str) -> float:
    return number_from(
        float, text, lambda duration: 0 < duration <= threading.TIMEOUT_MAX, "is not a duration in seconds"
    )


def _rate(text: str) -> float:
    return number_from(float, text, lambda rate: 0 <= rate < float("inf"), "is not a rate")


def _enough(text: str) -> int:
    what = f"is not a number of parts that is enough: drift needs {LEAST_PARTS}, better 3000"
    return number_from(int, text, lambda number: number >= LEAST_PARTS, what)


def _share(text: str) -> float:
    what = "is not a share: give one from 0 to below 1"
    return number_from(float, text, lambda share: 0 <= share < 1, what)
