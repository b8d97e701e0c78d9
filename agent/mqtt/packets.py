"""Packets of MQTT: what MQTT 5 says beside the content, and how large they may be."""

from __future__ import annotations

from typing import Literal

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config.models_mqtt import MqttSettings
from agent.mqtt.messages import Message

Protocol = Literal[4, 5]
"""MQTT 3.1.1 or 5, by the protocol level that goes over the wire."""

LARGEST = 268_435_460
"""Bytes of the largest packet that MQTT can say."""
_PROTOCOL_BYTES = 66_000
"""What a packet may hold beside its payload: a topic of 65 535 bytes and its frame."""


def largest_inbound(settings: MqttSettings) -> int:
    """Return the bytes of a packet beyond which an MQTT 5 broker is not to send it to us.

    Twice what is obeyed, so that who sends a little too much is told so.
    """
    return 2 * settings.commands.max_payload_kb * 1024 + _PROTOCOL_BYTES


def connect_properties(settings: MqttSettings) -> Properties:
    """Return what MQTT 5 says when it connects: how much we take."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = largest_inbound(settings)
    return properties


def publish_properties(message: Message) -> Properties:
    """Return what MQTT 5 says beside a message."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if message.schema is not None:
        properties.ContentType = "application/json"
        properties.PayloadFormatIndicator = 1
        properties.UserProperty = ("schema", message.schema)
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    return properties


def packet_bytes(message: Message, protocol: Protocol) -> int:
    """Return the bytes of the PUBLISH packet."""
    rest = 2 + len(message.topic.encode()) + (2 if message.qos else 0) + len(message.payload)
    if protocol == 5:
        rest += len(publish_properties(message).pack())  # type: ignore[no-untyped-call]
    lengths = 1 + sum(rest >= 128**power for power in (1, 2, 3))
    return 1 + lengths + rest
