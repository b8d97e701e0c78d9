"""What a person asks of a station's adapters, carried out: needs no model, so that it never waits for one."""

from __future__ import annotations

from adapters.core.adapter import AdapterError
from adapters.core.version import SOURCE
from adapters.gate.state_machine import Phase, State
from agent.versions.operator_requests import Request
from agent.versions.version_manager import VersionManager


def execute(manager: VersionManager, request: Request) -> bool:
    """Do what an operator asks; return whether that chose what answers.

    The request's id is kept in the same durable write as its effect: it is carried out once.

    Raises:
        AdapterError: there is no such version, or it is damaged; nothing has changed.
        OSError: the disk does not take it; nothing has changed. Never to freeze, resume or reset.
    """
    why = request.why or f"operator: {request.kind}"
    number = SOURCE if request.kind == "reset" else request.number or SOURCE
    match request.kind:
        case "freeze" | "resume":
            by = request.actor if request.kind == "freeze" else None
            manager.freeze(by, request.actor, why, request.id)
        case "imported":
            manager.imported(number, request.actor, why, request.id)
        case "pin" | "unpin":
            manager.pin(number, request.actor, why, request.id, pinned=request.kind == "pin")
        case _:
            frame = manager.frame
            held = State(Phase.HOLD, frame, born=frame)
            state = State(since=frame) if number == SOURCE else held
            manager.go_to(number, request.actor, why, request.id, state=state)
            return True
    return False


def needs_disk(request: Request) -> bool:
    """Whether it cannot be done while the disk takes nothing."""
    return request.kind in ("rollback", "activate", "pin", "unpin") and request.number != SOURCE


def overtakes(later: Request, earlier: Request) -> bool:
    """Whether a request that needs no disk makes an earlier one void that waits for it."""
    to_source = later.kind == "reset" or (later.kind in ("rollback", "activate") and later.number == SOURCE)
    return to_source and earlier.kind in ("rollback", "activate")


def require_allowed(request: Request, mode: str, recipe: str, recipe_of: str | None) -> None:
    """Raise AdapterError where a request is not to be carried out, with why.

    Args:
        request: what is asked.
        mode: of the station's adaptation.
        recipe: of the station's commissioning.
        recipe_of: of the version that it names; None where it names none.
    """
    if request.kind == "imported":  # it has happened
        return
    if mode == "locked":
        raise AdapterError("mode locked: nothing changes what answers")
    if recipe_of not in (None, recipe):
        raise AdapterError(f"version {request.number} was made for another recipe")
