"""The command line: what `mekiki --help` lists, from run to convert.

Nothing heavy is imported before a command needs it, so that `mekiki --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from agent.base.errors import (
    EXIT_CHECK_FAILED,
    EXIT_CONFIG,
    EXIT_OK,
    EXIT_TRY_AGAIN,
    EXIT_UNEXPECTED,
    AgentError,
    UsageError,
)
from agent.base.text import on_one_line
from agent.cli import output
from agent.cli.parser import DEFAULT_CONFIG, Command, build_parser

log = logging.getLogger(__name__)

_OF_THE_DISK = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE,
        errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN,
    }
)  # fmt: skip
"""What a disk or its rights are at fault for, wherever it shows. A file that is missing is ours to expect."""
_TORCH_EXTRA = frozenset({"torch", "open_clip", "timm", "onnx", "onnx_ir", "onnxscript"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, return its exit code; `agent.base.errors` says which there are."""
    with output.standard_streams():
        try:
            code = _main(argv)
            output.finish()
        except SystemExit:  # of argparse
            if (code := _flushed()) != EXIT_OK:
                return code
            raise
        except (output.OutputError, BrokenPipeError) as error:
            return _unwritten(error)
        return code


def _flushed() -> int:
    try:
        output.finish()
    except (output.OutputError, BrokenPipeError) as error:
        return _unwritten(error)
    return EXIT_OK


def _unwritten(error: output.OutputError | BrokenPipeError) -> int:
    """Return the exit code where output is lost: 0 where its reader has gone, as in ``| head``."""
    output.give_up()
    if isinstance(error, BrokenPipeError):
        return EXIT_OK
    output.say(str(error))
    return error.exit_code


def _main(argv: Sequence[str] | None) -> int:
    arguments = build_parser(_COMMANDS).parse_args(argv)
    # Threads that compute hold the GIL for up to this long before another gets it; the default of 5 ms is
    # half of a small model's frame.
    sys.setswitchinterval(0.0005)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(arguments.command(arguments))
    except (output.OutputError, BrokenPipeError):
        raise
    except AgentError as error:
        for line in error.problems:
            output.say(on_one_line(line))
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        from adapters.core.adapter import AdapterError

        if isinstance(error, AdapterError):  # a model or bundle that the config names is no good
            output.say(f"model: {error}")
            return EXIT_CONFIG
        if isinstance(error, ModuleNotFoundError) and error.name in _TORCH_EXTRA:
            output.say(f"{error.name} is not installed here: pip install 'mekiki[torch]'")
            return EXIT_CONFIG
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK and error.filename is not None:
            output.say(
                f"{error.filename}: {error.strerror}: look whether the disk is there and has room,"
                " and whether this user may read and write there"
            )
            return EXIT_TRY_AGAIN
        log.exception("unexpected")
        return EXIT_UNEXPECTED


def _run(arguments: argparse.Namespace) -> int:
    from agent.cli.run import run

    summary = run(Path(arguments.config), frames=arguments.frames, strict=arguments.strict)
    log.info(
        "%d frames inspected, %d verdicts stored, %d published, %d wait for the broker, %d lost",
        summary.inspected,
        summary.stored,
        summary.published,
        summary.waiting,
        summary.lost,
    )
    return EXIT_OK if summary.unsaved is None else EXIT_UNEXPECTED


def _record(arguments: argparse.Namespace) -> int:
    from agent.cli.record import record

    return record(
        arguments.config,
        arguments.station,
        arguments.out,
        frames=arguments.frames,
        seconds=arguments.seconds,
        max_mb=arguments.max_mb,
    )


def _replay(arguments: argparse.Namespace) -> int:
    from agent.cli.replay import ReplayOptions, replay

    options = ReplayOptions(
        arguments.recording, arguments.station, arguments.start, arguments.limit, arguments.plot
    )
    return replay(arguments.config, options, as_json=arguments.json)


def _commission(arguments: argparse.Namespace) -> int:
    from agent.cli.commission import CommissionOptions, run

    options = CommissionOptions(
        arguments.station,
        tuple(arguments.golden),
        arguments.parts,
        arguments.false_rejects,
        arguments.replace,
        arguments.recipe,
        arguments.all_good,
        arguments.trust_golden,
    )
    return run(arguments.config, options, as_json=arguments.json)


def _demo(arguments: argparse.Namespace) -> int:
    from agent.demo.main import demo

    return demo(arguments.frames, fps=arguments.fps or None, as_json=arguments.json)


def _check(arguments: argparse.Namespace) -> int:
    from agent.cli.checks.check import check

    return check(arguments)


def _inspect(arguments: argparse.Namespace) -> int:
    from adapters.engines.factory import ModelSettings, open_engine
    from agent.app.factories import extractor_of, open_for_station, open_model
    from agent.cli.inspect import inspect
    from agent.config.absent import whatever_it_is
    from agent.config.loader import load
    from agent.config.recipes import find_recipe
    from agent.inspection.backbones import Backbones
    from agent.versions.file_plan import in_force, of_recipe, of_station, require_station

    path = Path(arguments.config or DEFAULT_CONFIG)
    needed = arguments.config is not None or arguments.station is not None
    # No camera is opened: what the config names for others may be missing here.
    loaded = load(path, whatever_it_is) if needed or path.exists() else None
    if loaded is not None and arguments.station is not None:
        require_station(loaded, arguments.station)
        loaded = in_force(loaded)
        backbones = Backbones(loaded.config)
        engine = open_for_station(loaded.config, arguments.station, backbones)
        extractor = partial(extractor_of, engine=engine, backbones=backbones)
        plan = of_station(loaded, arguments.station, engine, extractor)
    else:
        recipe = find_recipe(arguments.recipe, {} if loaded is None else loaded.config.recipes)
        engine = open_engine(ModelSettings()) if loaded is None else open_model(loaded.config)
        plan = of_recipe(recipe, engine)
    return inspect(arguments.paths, plan, engine, as_json=arguments.json, maps=arguments.map)


def _status(arguments: argparse.Namespace) -> int:
    from agent.cli.status import status

    return status(Path(arguments.config), as_json=arguments.json)


def _doctor(arguments: argparse.Namespace) -> int:
    from agent.cli.checks.doctor import examine
    from agent.cli.run import excused
    from agent.config.loader import load

    well, path = True, Path(arguments.config)
    for finding in examine(load(path, excused(path))):
        output.put(str(finding))
        well = well and finding.ok
    return EXIT_OK if well else EXIT_CHECK_FAILED


def _bench_engines(arguments: argparse.Namespace) -> int:
    from agent.cli.bench import bench_engines

    return bench_engines(arguments.config, as_json=arguments.json)


def _model_build(arguments: argparse.Namespace) -> int:
    from adapters.build.bundle import build

    built = build(
        arguments.model,
        Path(arguments.out),
        name=arguments.name,
        checkpoint=arguments.checkpoint,
        pretrained=arguments.pretrained,
        sha256=arguments.sha256,
        int8=arguments.int8,
        patches=arguments.patches,
    )
    output.say(
        f"{built.folder}: {built.size / 1e6:.1f} MB, {built.digest}, "
        f"differs from torch by at most {built.error:.1e} of the largest feature,"
        f" its gradient by {built.gradient_error:.1e}"
    )
    return EXIT_OK


def _convert_diffclip(arguments: argparse.Namespace) -> int:
    from adapters.core.protocol import ModelError
    from adapters.torch_model.diffclip import LambdaInit
    from adapters.torch_model.diffclip_convert import convert

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
    output.say(
        f"{done.file}: {done.tensors} tensors, {done.numbers} numbers of {arguments.model}"
        f" with lambda_init {done.lambda_init}, from {arguments.checkpoint}, {done.source}"
    )
    return EXIT_OK


_COMMANDS: dict[str, Command] = {
    "run": _run,
    "record": _record,
    "replay": _replay,
    "commission": _commission,
    "demo": _demo,
    "check": _check,
    "inspect": _inspect,
    "status": _status,
    "doctor": _doctor,
    "bench engines": _bench_engines,
    "model build": _model_build,
    "convert diffclip": _convert_diffclip,
}
