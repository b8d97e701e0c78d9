"""`mekiki status`: how the agent that runs on this machine is doing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.base.codec import JSON
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, ConfigError
from agent.cli.output import as_json as in_json
from agent.cli.output import put
from agent.config.absent import whatever_it_is
from agent.config.loader import load
from agent.domain.verdict import Outcome
from agent.reload import last_known_good
from agent.telemetry.status_socket import ask

_COLUMNS = (
    "station", "camera", "pictures/s", *(outcome.value for outcome in Outcome), "fail%", "ms",
    "mode", "version", "phase",
)  # fmt: skip
_TEXTS = {"station", "camera", "mode", "phase"}


def status(config: Path, *, as_json: bool = False) -> int:
    """Print what the agent says; exit code 0 where it is well, 1 where it is not.

    Args:
        config: its config file, which names the data folder; where it is broken, as the agent took it last.
        as_json: one JSON object, schema ``mekiki.status.v1``.

    Raises:
        ConfigError: the file is broken, and no agent has run with it.
        NoAnswer: no agent runs there, or it does not answer.
    """
    found = ask(_data(config))
    for line in [in_json(found)] if as_json else lines(found):
        put(line)
    return EXIT_OK if found["health"]["health"] == "ok" else EXIT_CHECK_FAILED


def lines(found: JSON) -> Iterator[str]:
    """Yield what people read of a ``mekiki.status.v1``."""
    stats, config, health = found["stats"], found["config"], found["health"]
    who = f"{found['agent']}, mekiki {found['version']}, process {found['pid']}"
    yield f"agent    {who}, running for {_duration(found)}"
    yield f"model    {found['model']['name']} on {found['model']['provider']}"
    source = "" if config["source"] == "file" else ", as it was in force last"
    yield f"config   {config['file']}{source}, since {config['since']}"
    yield from (f"         refused: {problem}" for problem in config["refused"])
    if config["pending"]:
        yield f"         takes a restart: {', '.join(config['pending'])}"
    yield f"health   {health['health']}, since {health['since']}"
    yield from (f"         {one['code']}: {one['subject']}: {one['message']}" for one in health["conditions"])
    results = stats["results"]
    counted = ", ".join(f"{results[name]} {name}" for name in ("stored", "published", "waiting", "lost"))
    yield f"results  {counted}"
    yield ""
    rows = [_row(name, one, found["adapters"].get(name)) for name, one in stats["stations"].items()]
    yield from _table(rows)
    for name, one in stats["stations"].items():
        # An agent that was not restarted since an upgrade does not say it.
        parts, without = one.get("parts", 0), one.get("no_part", 0)
        if parts or without:
            counted = f"{parts} parts, {without} pictures without one, {one['disturbances']} disturbances"
            yield f"{name} has found {counted}"
    for name, adapter in found["adapters"].items():
        # An agent that was not restarted since an upgrade does not say it.
        yield from (f"{name} cannot watch {one.partition(':')[0]}" for one in adapter.get("unwatched", ()))


def _row(name: str, station: JSON, adapter: JSON | None) -> tuple[str, ...]:
    counts = {
        outcome: sum(verdicts.get(outcome.value, 0) for verdicts in station["verdicts"].values())
        for outcome in Outcome
    }
    judged = sum(counts.values()) - counts[Outcome.NOT_INSPECTED]
    infer = station["latency"]["infer"]
    learns = ("", "", "") if adapter is None else (adapter["mode"], str(adapter["number"]), _phase(adapter))
    return (
        name,
        (station["fault"] or "ok") if station["connected"] else "offline",
        f"{station['fps']:.1f}",
        *(str(counts[outcome]) for outcome in Outcome),
        f"{100 * counts[Outcome.FAIL] / judged:.2f}" if judged else "",
        f"{infer['sum_ms'] / infer['count']:.1f}" if infer["count"] else "",
        *learns,
    )


def _phase(adapter: JSON) -> str:
    return f"off: {adapter['why_off']}" if adapter["why_off"] is not None else str(adapter["phase"])


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (_COLUMNS, *rows):
        cells = [
            cell.ljust(width) if name in _TEXTS else cell.rjust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _duration(found: JSON) -> str:
    minutes = int(found["running_s"]) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(found['running_s']) % 60} s"


def _data(path: Path) -> Path:
    try:
        return Path(load(path, whatever_it_is).config.agent.data_dir)
    except ConfigError:
        try:
            kept = last_known_good.find(path)
        except (ConfigError, OSError):
            kept = None
        if kept is None:
            raise
        return Path(kept[0].config.agent.data_dir)
