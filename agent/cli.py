"""The command line: what `mekiki --help` lists, from run to convert.

Nothing heavy is imported before a command needs it, so that `mekiki --help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from agent import __version__, adapter_cli
from agent.errors import (
    EXIT_CHECK_FAILED,
    EXIT_CONFIG,
    EXIT_OK,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    AgentError,
    UsageError,
)

log = logging.getLogger(__name__)

DEFAULT_CONFIG = "config.yaml"

_TORCH_EXTRA = frozenset({"torch", "open_clip", "timm", "onnx", "onnx_ir", "onnxscript"})


class _Parser(argparse.ArgumentParser):
    """argparse with the exit code that the documentation promises."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, return its exit code: 0, 1 (doctor, record), 64 usage, 78 config, 70 unexpected."""
    arguments = _parser().parse_args(argv)
    # Threads that compute hold the GIL for up to this long before another gets it; the default of 5 ms is
    # half of a small model's frame.
    sys.setswitchinterval(0.0005)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(arguments.command(arguments))
    except AgentError as error:
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone, as in `mekiki inspect ... | head`. What is still buffered
        # must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        from adapters.adapter import AdapterError

        if isinstance(error, AdapterError):  # a model or bundle that the config names is no good
            _say(f"model: {error}")
            return EXIT_CONFIG
        if isinstance(error, ModuleNotFoundError) and error.name in _TORCH_EXTRA:
            _say(f"{error.name} is not installed here: pip install 'mekiki[torch]'")
            return EXIT_CONFIG
        log.exception("unexpected")
        return EXIT_UNEXPECTED


def _run(arguments: argparse.Namespace) -> int:
    from agent import logs
    from agent.configfile import load
    from agent.daemon import Daemon

    loaded = load(Path(arguments.config))
    logs.set_up(loaded.config.log.level, loaded.config.log.format)
    daemon = Daemon(loaded, frames=arguments.frames)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    summary = daemon.run()
    log.info(
        "%d frames inspected, %d verdicts stored, %d published, %d wait for the broker, %d lost",
        summary.inspected,
        summary.stored,
        summary.published,
        summary.waiting,
        summary.lost,
    )
    return EXIT_OK


def _record(arguments: argparse.Namespace) -> int:
    from agent.record_cli import record

    return record(
        arguments.config,
        arguments.station,
        arguments.out,
        frames=arguments.frames,
        seconds=arguments.seconds,
        max_mb=arguments.max_mb,
    )


def _demo(arguments: argparse.Namespace) -> int:
    from agent.demo import demo

    return demo(arguments.frames, fps=arguments.fps or None, as_json=arguments.json)


def _check(arguments: argparse.Namespace) -> int:
    from agent.configfile import load, print_config, schema

    if arguments.schema:
        print(json.dumps(schema(), indent=2))  # noqa: T201 - stdout is the product here
        return EXIT_OK
    loaded = load(Path(arguments.config))
    if arguments.print:
        print(print_config(loaded), end="")  # noqa: T201 - stdout is the product here
    _say(f"{arguments.config}: good: {', '.join(loaded.config.stations)}")
    return EXIT_OK


def _inspect(arguments: argparse.Namespace) -> int:
    from adapters.open import ModelSettings, open_engine
    from agent.configfile import load
    from agent.files import inspect
    from agent.recipes import find_recipe

    config = load(Path(arguments.config)).config if arguments.config else None
    recipe = find_recipe(arguments.recipe, {} if config is None else config.recipes)
    engine = open_engine(ModelSettings() if config is None else config.model)
    return inspect(arguments.paths, recipe, engine, as_json=arguments.json)


def _doctor(arguments: argparse.Namespace) -> int:
    from agent.configfile import load
    from agent.doctor import examine

    well = True
    for finding in examine(load(Path(arguments.config))):
        print(finding, flush=True)  # noqa: T201 - stdout is the product here
        well = well and finding.ok
    return EXIT_OK if well else EXIT_CHECK_FAILED


def _model_build(arguments: argparse.Namespace) -> int:
    from adapters.bundle_build import build

    built = build(
        arguments.model,
        Path(arguments.out),
        name=arguments.name,
        checkpoint=arguments.checkpoint,
        pretrained=arguments.pretrained,
        sha256=arguments.sha256,
    )
    _say(
        f"{built.folder}: {built.size / 1e6:.1f} MB, {built.digest}, "
        f"differs from torch by at most {built.error:.1e} of the largest feature"
    )
    return EXIT_OK


def _convert_diffclip(arguments: argparse.Namespace) -> int:
    from adapters.diffclip import LambdaInit
    from adapters.diffclip_convert import convert
    from adapters.engine import ModelError

    try:
        lambda_init = LambdaInit.parse(arguments.lambda_init)
    except ModelError as error:
        raise UsageError(str(error)) from error
    done = convert(
        Path(arguments.checkpoint),
        Path(arguments.out),
        lambda_init=lambda_init,
        model=arguments.model,
        overwrite=arguments.force,
    )
    _say(
        f"{done.file}: {done.tensors} tensors, {done.numbers} numbers of {arguments.model}"
        f" with lambda_init {done.lambda_init}, from {arguments.checkpoint}, {done.source}"
    )
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mekiki", description="Inspection agent for production lines.")
    parser.add_argument("--version", action="version", version=f"mekiki {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser("run", help="inspect, as config.yaml says")
    _with_config(run)
    run.add_argument("--frames", type=_positive, metavar="N", help="end after N frames")
    run.set_defaults(command=_run)

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
    record.set_defaults(command=_record)

    demo = commands.add_parser("demo", help="broker, simulated line and agent, to look at")
    demo.add_argument("--frames", type=_positive, metavar="N", help="end after N parts")
    demo.add_argument(
        "--fps", type=_rate, default=20.0, metavar="F", help="parts a second; 0: as fast as it goes"
    )
    demo.add_argument("--json", action="store_true", help="one JSON object a line, the summary last")
    demo.set_defaults(command=_demo)

    check = commands.add_parser("check", help="is config.yaml good?")
    _with_config(check)
    check.add_argument(
        "--print", action="store_true", help="print what is in force, defaults included, no secrets"
    )
    check.add_argument("--schema", action="store_true", help="print the JSON Schema for editors instead")
    check.set_defaults(command=_check)

    inspect = commands.add_parser("inspect", help="judge pictures, folders or clips")
    inspect.add_argument("paths", nargs="+", metavar="PATH")
    inspect.add_argument(
        "--recipe", required=True, metavar="NAME", help="of the config, or line, steel-neu, steel-xsdd"
    )
    inspect.add_argument("-c", "--config", metavar="FILE", help="take recipes and model from here")
    inspect.add_argument("--json", action="store_true", help="one JSON object a line")
    inspect.set_defaults(command=_inspect)

    doctor = commands.add_parser("doctor", help="is everything there that run needs?")
    _with_config(doctor)
    doctor.set_defaults(command=_doctor)

    adapter_cli.add_parser(commands, DEFAULT_CONFIG)

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
    build.set_defaults(command=_model_build)

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
    diffclip.set_defaults(command=_convert_diffclip)
    return parser


def _with_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _duration(text: str) -> float:
    duration = float(text)
    if not 0 < duration <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a duration")
    return duration


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 <= rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a rate")
    return rate


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - what is not the product goes to stderr
