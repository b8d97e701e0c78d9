"""`mekiki check`: whether a config is good, what it comes to, what would change, what the model sees."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from agent.base.errors import EXIT_OK
from agent.base.text import on_one_line
from agent.cli import output
from agent.cli.checks import references
from agent.cli.checks.station_sight import lines
from agent.config.absent import nothing, whatever_it_is
from agent.config.diff import changes
from agent.config.loader import load, print_config, schema
from agent.reload.last_known_good import last_of
from agent.versions.baseline_changes import baseline_changes


def check(arguments: argparse.Namespace) -> int:
    """Say whether a config is good, and on demand what it means; return the exit code.

    Raises:
        ConfigError: it is not.
    """
    if arguments.schema:
        output.put_text(json.dumps(schema(), indent=2, allow_nan=False) + "\n")
        return EXIT_OK
    loaded = load(Path(arguments.config), whatever_it_is if arguments.installed else nothing)
    for one in loaded.absent:
        output.say(f"{one.what}; not there now, which is left to the start")
    if arguments.print:
        output.put_text(print_config(loaded))
    if arguments.diff:
        last = last_of(loaded)
        for line in (*changes(last, loaded), *baseline_changes(last, loaded)):
            output.put(str(line))
    for line in (*lines(loaded), *references.lines(loaded)):
        output.say(on_one_line(line))
    if loaded.config.mqtt.enabled and not loaded.says("mqtt", "result_version"):
        output.say(
            f"{arguments.config}: mqtt.result_version is left out: results are mekiki.result.v2;"
            " set 1 where a subscriber takes mekiki.result.v1 alone (docs/mqtt.md)"
        )
    output.say(f"{arguments.config}: good: {', '.join(loaded.config.stations)}")
    return EXIT_OK
