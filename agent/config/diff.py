"""What differs between two configs, key by key, and what each difference takes to come into force. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SecretStr

from agent.config.loader import Loaded
from agent.config.models import Config
from agent.config.yaml_tree import Data, Path, with_value

Effect = Literal["live", "learning", "station", "restart"]
"""``live`` at once; ``learning`` too, and the learners start again from what they have stored; ``station``:
its camera is opened anew, or closed; ``restart``: not before the agent is started again."""

_RESTART: tuple[Path, ...] = (
    ("version",),
    ("agent",),
    ("model",),
    ("metrics",),
    ("sparkplug",),
    ("mqtt", "enabled"),
    ("mqtt", "topic_prefix"),
    ("mqtt", "embedded_broker"),
    ("mqtt", "commands", "enabled"),
    ("homeassistant",),
)
"""What is fixed from the start to the end of a run, with everything below it."""
_TOKEN: Path = ("metrics", "token")


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting that is another one now.

    Attributes:
        before, after: as they are written, secrets masked; None where there is nothing.
    """

    path: Path
    before: Data
    after: Data
    effect: Effect

    @property
    def key(self) -> str:
        """Return the setting's name as messages have it."""
        return ".".join(map(str, self.path))

    @property
    def consequence(self) -> str:
        """Return the effect in words."""
        match self.effect:
            case "station":
                word = "starts" if self.before is None else "stops" if self.after is None else "restarts"
                return f"{word} station {self.path[1]}"
            case "learning":
                return "live, restarts the learners"
            case "restart":
                return "needs a restart of the agent"
            case _:
                return "live"

    def __str__(self) -> str:
        return f"{self.key}: {_short(self.before)} -> {_short(self.after)} ({self.consequence})"


def changes(old: Loaded, new: Loaded) -> tuple[SettingChange, ...]:
    """Return every difference, in the order of the settings."""
    found, token_came = [], _token_came(old, new)
    for path in _differing(_values(old.config), _values(new.config), ()):
        before, after = _at(old.effective, path), _at(new.effective, path)
        live = token_came and path == _TOKEN
        found.append(SettingChange(path, before, after, "live" if live else effect_of(path)))
    return tuple(found)


def effect_of(path: Path) -> Effect:
    """Return what a change of the setting at `path` takes."""
    if _fixed(path):
        return "restart"
    if path[0] != "stations":
        return "live"
    if len(path) == 2 or path[2] in ("enabled", "camera"):
        return "station"
    if path[2] == "adaptation" and path[3:] != ("shadow_share",):
        return "learning"
    return "live"


def in_force(old: Loaded, new: Loaded) -> Loaded:
    """Return `new` without what needs a restart: that stays as it is in `old`, also what is missing of it."""
    config: Any = new.config
    effective = new.effective
    for path in _RESTART:
        config = _put(config, path, _get(old.config, path))
        effective = with_value(effective, path, _at(old.effective, path))
    missing = [one for one in old.absent if _fixed(one.path)]
    if _token_came(old, new):
        config = _put(config, _TOKEN, new.config.metrics.token)
        missing = [one for one in missing if one.path != _TOKEN]
    return new.but(config, effective, (*missing, *(one for one in new.absent if not _fixed(one.path))))


def _fixed(path: Path) -> bool:
    return any(path[: len(fixed)] == fixed for fixed in _RESTART)


def _token_came(old: Loaded, new: Loaded) -> bool:
    """Whether the token that `old` names was missing then and is there now; nothing was served without it."""
    same = _at(old.effective, _TOKEN) == _at(new.effective, _TOKEN)
    missing = [loaded.lacking("metrics", "token") is not None for loaded in (old, new)]
    return same and missing == [True, False]


def _values(config: Config) -> dict[str, Any]:
    """Return the settings as they are, secrets too: for comparing, not for showing."""
    return config.model_dump(mode="python")


def _differing(old: Any, new: Any, path: Path) -> Iterator[Path]:
    if isinstance(old, dict) and isinstance(new, dict):
        # A camera of another kind shares no keys with the one before it.
        other = old.get("kind") != new.get("kind") or old.get("mode") != new.get("mode")
        if other and path[-1:] in (("camera",), ("trigger",)):
            yield path
            return
        for key in dict.fromkeys([*old, *new]):
            if key not in old or key not in new:
                yield (*path, key)
            else:
                yield from _differing(old[key], new[key], (*path, key))
    elif _plain(old) != _plain(new):
        yield path


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _at(tree: Data, path: Path) -> Data:
    for key in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(str(key))
    return tree


def _get(config: Any, path: Path) -> Any:
    for key in path:
        config = getattr(config, str(key))
    return config


def _put(config: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    name = str(path[0])
    return config.model_copy(update={name: _put(getattr(config, name), path[1:], value)})


def _short(value: Data) -> str:
    """Return a value for one line of the journal."""
    if value is None:
        return "nothing"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
