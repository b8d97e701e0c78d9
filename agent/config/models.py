"""What config.yaml can say, as frozen values. How its text becomes one of them: `agent.config.loader`.

Descriptions and defaults here are the reference: the JSON Schema for editors is made from them, and the
shipped config.yaml is tested against them.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from adapters.engines.factory import ModelSettings
from agent.config.diagnostics import shown
from agent.config.models_adaptation import Adaptation
from agent.config.models_mqtt import HomeAssistantSettings, MqttSettings, SparkplugSettings
from agent.config.recipes import Recipe
from agent.config.types import Host, Name, PartPattern, ProductionText, StationName, is_loopback
from camera.core.presence_settings import PresenceTrigger
from camera.core.settings import MOST, CameraSettings, QualityLimits, RegionOfInterest, Settings, Unit

MAX_DEADLINE_MS = 60_000
MOST_PRODUCTS = 32
MOST_DAYS = 36_500
MOST_MB = 10**9
_OF_ONE_PRODUCT = ("recipe", "commissioning", "adapter", "offset")
"""Pins that hold for the product in force; the model is that of all."""


class AgentSettings(Settings):
    """Who this agent is, and where it keeps what it must not lose."""

    id: Name = Field(default="line-1", description="its name in topics and results; unique at the broker")
    data_dir: str = Field(
        default="data", min_length=1, description="folder of the store; relative to this file"
    )


class Continuous(Settings):
    """Every picture is inspected."""

    mode: Literal["continuous"] = "continuous"


class Interval(Settings):
    """One picture is inspected per interval."""

    mode: Literal["interval"] = "interval"
    every_s: float = Field(gt=0, le=604_800)


class Triggered(Settings):
    """One picture is inspected per trigger that comes over MQTT, ``S/trigger``."""

    mode: Literal["mqtt"] = "mqtt"
    deadline_ms: int = Field(
        default=500,
        ge=1,
        le=MAX_DEADLINE_MS,
        description="a trigger that has no result after this gets one without a picture",
    )


class ImageSettings(Settings):
    """Pictures over MQTT."""

    last_fail: bool = Field(
        default=False, description="publish the picture of the last failed part, as a JPEG"
    )
    max_width_px: int = Field(default=640, ge=16, le=8192)
    jpeg_quality: int = Field(default=80, ge=1, le=100)


class ProductionSettings(Settings):
    """What is being made; results, exports and hosts are told, nothing is decided by it."""

    order: ProductionText | None = Field(default=None, description="number or name of the order")
    lot: ProductionText | None = Field(default=None, description="number or name of the lot")
    shift: ProductionText | None = Field(default=None, description="which shift is at work")


class PatternedProduct(Settings):
    """A product that a station knows by the ids of its parts."""

    recipe: Name = Field(description="what its parts are judged by, with the baseline of that product")
    part_id: PartPattern = Field(
        description="pattern of its part ids, as a shell has them: * any text, ? one letter, [0-9] one of"
        " these; capitals count, and the whole id is meant"
    )


class Station(Settings):
    """A camera at its place, with what it looks for."""

    enabled: bool = True
    camera: CameraSettings
    recipe: Name = Field(
        description="one of recipes, or shipped with the agent: line, steel-neu, steel-xsdd; each has a"
        " baseline and versions of its own"
    )
    products: tuple[PatternedProduct, ...] = Field(
        default=(),
        max_length=MOST_PRODUCTS,
        description="products whose parts are known by their ids; the first pattern that fits counts, and"
        " where none does, or a part has no id, recipe; only the product of recipe learns",
    )
    trigger: Annotated[Continuous | Interval | Triggered | PresenceTrigger, Field(discriminator="mode")] = (
        Continuous()
    )
    roi: RegionOfInterest = RegionOfInterest()
    view: Literal["auto", "fit", "fill", "crop"] = Field(
        default="auto",
        description="how the region becomes the model's square: padded, squashed, or its middle cut out;"
        " auto: as the model was trained, but padded where a cut would lose the sides;"
        " a station with a baseline goes on as that was measured",
    )
    tiles: str = Field(
        default="1x1",
        pattern=r"^[1-8]x[1-8]$",
        description="columns x rows of overlapping tiles that are judged one by one; the worst decides",
    )
    quality: QualityLimits = QualityLimits()
    images: ImageSettings = ImageSettings()
    adaptation: Adaptation = Adaptation()
    production: ProductionSettings = Field(
        default=ProductionSettings(), description="of this station alone; what is null here is as for all"
    )

    @field_validator("products", mode="after")
    @classmethod
    def _told_apart(cls, products: tuple[PatternedProduct, ...]) -> tuple[PatternedProduct, ...]:
        twice = [text for text, times in Counter(one.part_id for one in products).items() if times > 1]
        if twice:
            raise ValueError(f"two products have the pattern {shown(twice[0])}: the second would never count")
        return products

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        pins = self.adaptation.pins
        pinned = [name for name in _OF_ONE_PRODUCT if getattr(pins, name) is not None]
        if self.products and pinned:
            raise ValueError(
                f"products: adaptation.pins.{pinned[0]} is of one product alone, and parts of others would be"
                " judged by what nobody has pinned: remove products, or the pins"
            )
        return self


class EvidenceSettings(Settings):
    """Pictures of parts, kept beside their results: the region of interest, masks burnt in."""

    enabled: bool = False
    verdicts: tuple[Literal["fail", "unsure"], ...] = Field(
        default=("fail", "unsure"), description="whose pictures are kept"
    )
    sampled_passes: Unit = Field(
        default=0.0, description="share of the passes whose pictures are kept too, drawn by event id"
    )
    max_width_px: int = Field(default=1280, ge=16, le=8192)
    jpeg_quality: int = Field(default=85, ge=1, le=100)
    keep_days: float | None = Field(
        default=90.0, gt=0, le=MOST_DAYS, description="older pictures go; null: with their results"
    )
    max_mb: int | None = Field(
        default=5_000,
        ge=1,
        le=MOST_MB,
        description="pictures together; sampled passes go first, then labelled, unsure, fail; null: no limit",
    )


class StorageSettings(Settings):
    """How much of the past is kept."""

    keep_results: int = Field(
        default=1_000_000, ge=0, le=MOST, description="delivered verdicts of a station; the oldest go first"
    )
    keep_days: float | None = Field(
        default=None,
        gt=0,
        le=MOST_DAYS,
        description="older results go, with pictures and labels; null: none for its age",
    )
    max_mb: int | None = Field(
        default=10_000,
        ge=1,
        le=MOST_MB,
        description="database and pictures together: pictures go first, then results; null: no limit",
    )
    max_waiting: int = Field(
        default=1_000_000,
        ge=1,
        le=MOST,
        description="verdicts kept for an absent broker; the oldest go first",
    )
    min_free_mb: int = Field(
        default=200,
        ge=0,
        le=MOST_MB,
        description="with less space on the disk pictures go and nothing is written",
    )
    ballast_mb: int = Field(
        default=16,
        ge=0,
        le=MOST_MB,
        description="a file given up when the disk is full, so that deleting is possible",
    )
    images: EvidenceSettings = EvidenceSettings()


class InspectorSettings(Settings):
    """The loop from picture to verdict."""

    batch: int = Field(
        default=8, ge=1, le=256, description="parts that the model may look at together, with all their tiles"
    )


class MetricsSettings(Settings):
    """The stats over HTTP, for Prometheus."""

    enabled: bool = False
    host: Host = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to serve on; any but the loopback needs a token",
    )
    port: int = Field(default=9464, ge=0, le=65535, description="0: any free one")
    token: SecretStr | None = Field(
        default=None, min_length=16, description="who asks shows it: Authorization: Bearer <token>"
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not is_loopback(self.host) and self.token is None:
            raise ValueError("any host but the loopback needs a token: set token: ${file:...}")
        return self


class LogSettings(Settings):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(Settings):
    """All of config.yaml: references resolved, station_defaults merged, paths absolute."""

    version: Literal[1] = Field(description="of this file's shape")
    agent: AgentSettings = AgentSettings()
    model: ModelSettings = ModelSettings()
    mqtt: MqttSettings = MqttSettings()
    recipes: dict[Name, Recipe] = Field(default_factory=dict, description="name: recipe")
    stations: dict[StationName, Station] = Field(min_length=1, description="name: station")
    production: ProductionSettings = Field(
        default=ProductionSettings(), description="what is being made at all stations"
    )
    sparkplug: SparkplugSettings = SparkplugSettings()
    inspector: InspectorSettings = InspectorSettings()
    storage: StorageSettings = StorageSettings()
    metrics: MetricsSettings = MetricsSettings()
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _triggered(self) -> Self:
        deaf = not (self.mqtt.enabled and self.mqtt.commands.enabled)
        waits = [name for name, station in self.stations.items() if station.trigger.mode == "mqtt"]
        if deaf and waits:
            raise ValueError(
                f"stations.{waits[0]}.trigger.mode: mqtt waits for triggers over MQTT:"
                " mqtt.enabled and mqtt.commands.enabled are needed"
            )
        return self

    @field_validator("sparkplug", mode="after")
    @classmethod
    def _possible(cls, sparkplug: SparkplugSettings, info: ValidationInfo) -> SparkplugSettings:
        mqtt, stations = info.data.get("mqtt"), info.data.get("stations", {})
        if sparkplug.enabled and mqtt is not None and not mqtt.enabled:
            raise ValueError("enabled: true with mqtt.enabled: false: there is no broker to tell")
        alike = [name for name, times in Counter(map(str.lower, stations)).items() if times > 1]
        if sparkplug.enabled and alike:
            raise ValueError(f"stations differ in capitals only, which hosts may not tell apart: {alike[0]}")
        return sparkplug

    def __repr__(self) -> str:
        # Any text in here may have come from ${env:} or ${file:}; configfile.print_config shows it safely.
        return f"Config(stations={list(self.stations)!r})"

    __str__ = __repr__
