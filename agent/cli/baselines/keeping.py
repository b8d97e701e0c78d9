"""A new baseline kept: with the model as it was trained answering, and the audit trail's lines about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from adapters.baseline.baseline import Commissioning
from adapters.core.adapter import AdapterError
from adapters.core.protocol import Engine
from adapters.core.version import SOURCE, Version
from adapters.core.version_store import AdapterStore
from agent.audit.hash_chain import Audit
from agent.baseline import report
from agent.cli.output import say
from agent.versions.learner_memory import UNCOMMISSIONED, Memory, Record, Staged
from agent.versions.learner_memory import record as trail_line
from agent.versions.operator_requests import requester
from agent.versions.version_manager import VersionManager


def keep(clean: Commissioning, file: Path, engine: Engine) -> None:
    """Write it, and let the model as it was trained answer: what was learned knew another clean line.

    What the new commissioning means is on the disk before it is there, and holds from the moment that its
    file has its name. Killed before, the station is as it was; behind it, the agent's start does the rest.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    store = AdapterStore(file.parent / "adapters", engine.source, engine.info.weights)
    audit = Audit(clean.station, file.parent / "audit.jsonl")
    before = _digest_of(file)
    memory = Memory.read(store.active().learner)
    staged = Staged(
        clean.digest, tuple(_records(clean, before, store.active().version, engine.source.digest))
    )
    known = memory.commissioning or before or UNCOMMISSIONED
    store.remember(replace(memory, commissioning=known, staged=staged).blob())
    clean.save(file)
    manager = VersionManager(clean, engine.source, store, audit, lambda: clean.made_at, lambda record: None)
    manager.begin()
    if manager.kept.trouble is not None:
        say(f"{file.parent}: {manager.kept.trouble}; the agent writes the rest at its next start")


def _records(
    clean: Commissioning, before: str | None, version: Version | None, source: str
) -> Iterator[Record]:
    """Yield what the audit trail is to say of it."""
    at, actor, claim = clean.made_at, requester(), clean.testimony.claim
    claimed = {} if claim is None else {f"claim_{name}": value for name, value in claim.facts().items()}
    if version is not None:
        yield trail_line(
            at,
            "reset",
            actor,
            "commissioned again",
            before={"number": version.number, "offset": version.offset},
            after={"number": SOURCE, "digest": source, "offset": clean.offset},
        )
    yield trail_line(
        at,
        "commissioned",
        actor,
        f"{clean.numbers['parts']:.0f} parts, {report.short(clean)}",
        before=None if before is None else {"commissioning": before},
        after={"commissioning": clean.digest, "offset": clean.offset},
        numbers={**clean.numbers, **claimed},
    )


def _digest_of(file: Path) -> str | None:
    """Return the digest of what is replaced; one that cannot be read is replaced too."""
    try:
        return Commissioning.load(file).digest if file.exists() else None
    except AdapterError as error:
        return str(error)
