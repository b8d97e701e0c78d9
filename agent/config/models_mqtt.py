"""The broker, what may be asked over it, and who is told in a way of their own: sections of config.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from agent.config.types import LOOPBACK, Host, SparkplugId, Text, TopicFilter, TopicPrefix
from camera.core.settings import Rate, Reconnect, Settings


class TlsSettings(Settings):
    """Certificates, PEM files, relative to this file."""

    ca: str | None = Field(
        default=None, description="who signed the broker's certificate; without it the system's"
    )
    cert: str | None = Field(default=None, description="certificate of this agent; only together with key")
    key: str | None = Field(default=None, description="private key of this agent; only together with cert")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both or none")
        return self


class CommandSettings(Settings):
    """What the agent may be asked over MQTT; who may ask is the broker's affair (ACL)."""

    enabled: bool = Field(default=True, description="false: the agent listens to nothing")
    allow: tuple[Text, ...] = Field(
        default=("ping", "stats", "adapter/list", "adapter/show", "replay"),
        description="verbs that are obeyed, * and ? as in file names; the default changes nothing",
    )
    per_s: float = Field(
        default=50.0, ge=1e-6, le=1000, description="commands and labels a second; more are refused"
    )
    max_payload_kb: int = Field(default=16, ge=1, le=1024, description="larger payloads are refused")
    response_topics: tuple[TopicFilter, ...] = Field(
        default=(),
        description="topic filters; where an MQTT 5 client may want its answer; without one, anywhere below"
        " topic_prefix that is no topic of an agent",
    )


class MqttSettings(Settings):
    """The broker, and the manners towards it."""

    enabled: bool = Field(default=True, description="false: verdicts stay in the store")
    host: Host = Field(default="localhost", min_length=1)
    port: int = Field(default=1883, ge=1, le=65535)
    protocol: Literal[5, 311] = Field(default=5, description="311 is MQTT 3.1.1, to which 5 falls back")
    username: str | None = Field(default=None, min_length=1, repr=False)
    password: SecretStr | None = None
    tls: TlsSettings | None = Field(
        default=None, description="{}: encrypted, broker checked by the system's list"
    )
    topic_prefix: TopicPrefix = Field(
        default="mekiki", description="topics start with <topic_prefix>/<agent.id>/"
    )
    keepalive_s: int = Field(
        default=20, ge=1, le=65535, description="how long silence may last before it is probed"
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, le=3600)
    reconnect: Reconnect = Reconnect()
    drain_per_s: Rate = Field(default=200.0, description="pace of the verdicts that waited for the broker")
    result_version: Literal[2, 1] = Field(
        default=2,
        description="of the results that are stored and published; 1 for readers that know no other",
    )
    stats_interval_s: float = Field(
        default=30.0, gt=0, le=86_400, description="how often the stats are published"
    )
    commands: CommandSettings = CommandSettings()
    embedded_broker: bool = Field(default=False, description="serve one on the loopback, for a trial")

    @field_validator("result_version", mode="before")
    @classmethod
    def _number(cls, version: object) -> object:
        if isinstance(version, bool):  # which equals 1
            raise ValueError("should be 2 or 1")
        return version

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError("password without username: give both")
        if self.embedded_broker and not self.enabled:
            raise ValueError("embedded_broker with enabled: false: nobody would use it")
        if self.embedded_broker and self.host not in LOOPBACK:
            raise ValueError(f"embedded_broker serves on loopback only: set host to {LOOPBACK[0]}")
        if self.embedded_broker and self.tls is not None:
            raise ValueError("embedded_broker speaks no TLS: remove tls")
        return self


class HomeAssistantSettings(Settings):
    """The agent as a device of Home Assistant."""

    enabled: bool = Field(default=False, description="describe the agent for Home Assistant's discovery")
    discovery_prefix: TopicPrefix = Field(
        default="homeassistant", description="as Home Assistant's MQTT integration has it"
    )


class SparkplugSettings(Settings):
    """The agent as an edge node of Sparkplug B, over the broker of mqtt; see docs/sparkplug.md."""

    enabled: bool = Field(default=False, description="true needs the sparkplug profile")
    group_id: SparkplugId = Field(default="mekiki", description="the group of edge nodes it belongs to")
    edge_node_id: SparkplugId | None = Field(
        default=None, description="unique in its group; without it agent.id"
    )
    host_id: SparkplugId | None = Field(
        default=None, description="primary host application to wait for; without it nobody is waited for"
    )
