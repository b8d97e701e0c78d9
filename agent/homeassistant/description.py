"""What Home Assistant is told about the agent: one message that describes it as a device. Pure functions.

Device discovery as in https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. Every topic
and every field in a template is one of docs/mqtt.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from agent import __version__
from agent.base.codec import JSON
from agent.config.models import Config, Station
from agent.config.models_adaptation import MODES
from agent.config.voting import possible_recipes
from agent.domain.verdict import Outcome

_LEVELS = ("ok", "degraded", "down")


def device_id(config: Config) -> str:
    """Return the id of the device: letters and digits, whatever the agent is called."""
    name = f"{config.mqtt.topic_prefix}/{config.agent.id}"
    return f"mekiki_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def discovery_topic(config: Config) -> str:
    """Return where the device is described."""
    return f"{config.homeassistant.discovery_prefix}/device/{device_id(config)}/config"


def components(payload: JSON) -> dict[str, str]:
    """Return the components of a description, each with its platform."""
    return {name: one["platform"] for name, one in payload["components"].items()}


def discovery(config: Config, model: str, gone: Mapping[str, str]) -> JSON:
    """Return the description.

    Args:
        config: in force.
        model: name of the model.
        gone: components, with their platforms, that were described once and are no more.
    """
    own = f"{config.mqtt.topic_prefix}/{config.agent.id}"
    device = device_id(config)
    found: dict[str, JSON] = {"health": _health(own)}
    for name, station in config.stations.items():
        for kind, component in _of_station(f"{own}/{name}", name, station, config).items():
            found[f"{name}_{kind}"] = component
    for key, component in found.items():
        component["unique_id"] = f"{device}_{key}"
    # A platform alone says that there is such a component no longer.
    tombs = {key: {"platform": platform} for key, platform in gone.items() if key not in found}
    return {
        "device": {
            "identifiers": [device],
            "name": f"Mekiki {config.agent.id}",
            "manufacturer": "Mekiki",
            "model": model,
            "sw_version": __version__,
        },
        "origin": {"name": "Mekiki", "sw_version": __version__},
        "availability_topic": f"{own}/availability",
        "availability_template": "{{ 'online' if value == 'online' else 'offline' }}",
        "qos": 1,
        "components": found | tombs,
    }


def _health(own: str) -> JSON:
    return {
        **_sensor("Health", f"{own}/health", "{{ value_json.health }}", options=_LEVELS),
        "entity_category": "diagnostic",
        "json_attributes_topic": f"{own}/health",
    }


def _of_station(own: str, name: str, station: Station, config: Config) -> dict[str, JSON]:
    verdicts = [outcome.value for outcome in Outcome]
    found = {
        "verdict": {
            **_sensor(f"{name} verdict", f"{own}/state", "{{ value_json.verdict }}", options=verdicts),
            "json_attributes_topic": f"{own}/state",
        },
        "failed": _binary(f"{name} failed", f"{own}/state", "value_json.verdict == 'fail'", "problem"),
        "label": _sensor(f"{name} label", f"{own}/state", "{{ value_json.label }}"),
        "score": _number(f"{name} score", f"{own}/state", "score"),
        "camera": _binary(f"{name} camera", f"{own}/camera", "value_json.connected", "connectivity"),
        "fps": {**_number(f"{name} pictures", f"{own}/camera", "fps"), "unit_of_measurement": "1/s"},
        "drift": _number(f"{name} drift", f"{own}/drift", "distance"),
        "adapter": _number(f"{name} adapter", f"{own}/adapter", "number"),
        "order": {
            **_sensor(f"{name} order", f"{own}/production", "{{ value_json.order }}"),
            "json_attributes_topic": f"{own}/production",
        },
    }
    for kind in ("camera", "fps", "drift", "adapter", "order"):
        found[kind]["entity_category"] = "diagnostic"
    if station.images.last_fail:
        found["last_fail"] = {
            "platform": "image",
            "name": f"{name} last failed part",
            "image_topic": f"{own}/image/last_fail",
            "content_type": "image/jpeg",
        }
    recipes = possible_recipes(station, config.recipes)
    # Locked is what the config file alone can say.
    modes = () if station.adaptation.mode == "locked" else MODES
    found["enabled"] = _switch(f"{name} inspects", f"{own}/enabled", _may(config, "enabled"))
    found["recipe"] = _select(f"{name} recipe", f"{own}/recipe", recipes, _may(config, "recipe"))
    found["adaptation"] = _select(
        f"{name} adaptation", f"{own}/adaptation", modes, _may(config, "adaptation")
    )
    return found


def _may(config: Config, name: str) -> bool:
    """Whether what Home Assistant sets would be obeyed; where not, it only shows."""
    commands = config.mqtt.commands
    return commands.enabled and any(fnmatchcase(f"set/{name}", pattern) for pattern in commands.allow)


def _sensor(name: str, topic: str, template: str, options: Iterable[str] | None = None) -> JSON:
    enum = {} if options is None else {"device_class": "enum", "options": list(options)}
    return {"platform": "sensor", "name": name, "state_topic": topic, "value_template": template, **enum}


def _number(name: str, topic: str, field: str) -> JSON:
    return {**_sensor(name, topic, f"{{{{ value_json.{field} }}}}"), "state_class": "measurement"}


def _binary(name: str, topic: str, condition: str, device_class: str | None) -> JSON:
    template = f"{{{{ 'ON' if {condition} else 'OFF' }}}}"
    kind = {} if device_class is None else {"device_class": device_class}
    return {
        "platform": "binary_sensor",
        "name": name,
        "state_topic": topic,
        "value_template": template,
        **kind,
    }


def _switch(name: str, topic: str, may: bool) -> JSON:
    shown = _binary(name, f"{topic}/state", "value_json.value", None)
    if not may:
        return shown
    return {**shown, "platform": "switch", "command_topic": f"{topic}/set", "entity_category": "config"}


def _select(name: str, topic: str, options: Sequence[str], may: bool) -> JSON:
    shown = _sensor(name, f"{topic}/state", "{{ value_json.value }}")
    if not may or not options:
        return {**shown, "entity_category": "diagnostic"}
    return {
        **shown,
        "platform": "select",
        "command_topic": f"{topic}/set",
        "options": list(options),
        "entity_category": "config",
    }
