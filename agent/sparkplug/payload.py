"""Bytes of Sparkplug B: payloads as values, encoded and decoded with protobuf.

Specification: Eclipse Sparkplug 3.0.0, chapter 6 (https://sparkplug.eclipse.org/specification/). Its schema
is built here at run time, so that there is no generated code that binds us to a version of protobuf, which
is imported when it is first needed: a line without Sparkplug runs without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

from agent.base.errors import AgentError, ConfigError

Value = bool | int | float | str | None
"""Of a metric; None is null."""

_SCHEMA = """
Payload: uint64 timestamp 1; Metric* metrics 2; uint64 seq 3; string uuid 4; bytes body 5
Metric: string name 1; uint64 alias 2; uint64 timestamp 3; uint32 datatype 4; bool is_historical 5;
  bool is_transient 6; bool is_null 7; MetaData metadata 8; PropertySet properties 9; uint32 int_value| 10;
  uint64 long_value| 11; float float_value| 12; double double_value| 13; bool boolean_value| 14;
  string string_value| 15; bytes bytes_value| 16; DataSet dataset_value| 17; Template template_value| 18
MetaData: bool is_multi_part 1; string content_type 2; uint64 size 3; uint64 seq 4; string file_name 5;
  string file_type 6; string md5 7; string description 8
PropertyValue: uint32 type 1; bool is_null 2; uint32 int_value| 3; uint64 long_value| 4; float float_value| 5;
  double double_value| 6; bool boolean_value| 7; string string_value| 8; PropertySet propertyset_value| 9;
  PropertySetList propertysets_value| 10
PropertySet: string* keys 1; PropertyValue* values 2
PropertySetList: PropertySet* propertyset 1
DataSetValue: uint32 int_value| 1; uint64 long_value| 2; float float_value| 3; double double_value| 4;
  bool boolean_value| 5; string string_value| 6
Row: DataSetValue* elements 1
DataSet: uint64 num_of_columns 1; string* columns 2; uint32* types 3; Row* rows 4
Parameter: string name 1; uint32 type 2; uint32 int_value| 3; uint64 long_value| 4; float float_value| 5;
  double double_value| 6; bool boolean_value| 7; string string_value| 8
Template: string version 1; Metric* metrics 2; Parameter* parameters 3; string template_ref 4;
  bool is_definition 5
"""
"""Chapter 6.4.1, a message a line: ``*`` is repeated, ``|`` belongs to the message's oneof `value`."""

_PACKAGE = "mekiki.sparkplug"


class DataType(IntEnum):
    """Types of values, of those that the specification knows, that the agent tells and understands."""

    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


_FIELDS = {
    DataType.INT64: "long_value",
    DataType.UINT64: "long_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
}
_PLAIN = ("int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value")


class PayloadError(AgentError):
    """Bytes that are no Sparkplug B payload."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One value with its name, or with the alias that stands for it.

    Attributes:
        value: None is null. Of what somebody else sent without a datatype, what the wire says; of data sets,
            templates and bytes, which nobody sends us to any purpose, None.
        datatype: None where it does not go over the wire, or is none that we know.
        timestamp: milliseconds since 1970, UTC.
        historical: it was so once; what is so now stays as it is.
        kind: decides the field of a value whose datatype does not go over the wire.
    """

    value: Value
    name: str | None = None
    alias: int | None = None
    datatype: DataType | None = None
    timestamp: int | None = None
    historical: bool = False
    kind: DataType | None = None


@dataclass(frozen=True, slots=True)
class Payload:
    """What one message says.

    Attributes:
        timestamp: milliseconds since 1970, UTC.
        seq: 0..255; None in an NDEATH and in commands.
    """

    timestamp: int | None
    metrics: Sequence[Metric] = ()
    seq: int | None = None


def require_protobuf() -> None:
    """Make sure that payloads can be encoded.

    Raises:
        ConfigError: protobuf is not installed.
    """
    try:
        _message_class()
    except ImportError as error:
        raise ConfigError(
            [
                "sparkplug.enabled: protobuf is not installed: pip install 'mekiki[sparkplug]', or set it to"
                " false"
            ]
        ) from error


def encode(payload: Payload) -> bytes:
    """Return the bytes of a payload; equal payloads give equal bytes."""
    message = _message_class()()
    if payload.timestamp is not None:
        message.timestamp = payload.timestamp
    if payload.seq is not None:
        message.seq = payload.seq
    for metric in payload.metrics:
        _fill(message.metrics.add(), metric)
    return bytes(message.SerializeToString(deterministic=True))


def decode(content: bytes) -> Payload:
    """Return what somebody's bytes say.

    Raises:
        PayloadError: they are no Sparkplug B payload.
    """
    from google.protobuf.message import DecodeError

    try:
        message = _message_class().FromString(content)
        return Payload(
            message.timestamp if message.HasField("timestamp") else None,
            tuple(_metric(metric) for metric in message.metrics),
            message.seq if message.HasField("seq") else None,
        )
    # A name that is no UTF-8 shows when it is read.
    except (DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"no Sparkplug B payload: {error}") from error


def _fill(message: Any, metric: Metric) -> None:
    for field in ("name", "alias", "timestamp", "datatype"):
        told = getattr(metric, field)
        if told is not None:
            setattr(message, field, told)
    if metric.historical:
        message.is_historical = True
    kind = metric.datatype or metric.kind
    if metric.value is None:
        message.is_null = True
    else:
        assert kind is not None, "a value needs a datatype or a kind"
        value = metric.value
        if kind is DataType.INT64:
            # Signed numbers go as two's complement in an unsigned field (6.4.16).
            value = int(value) & (1 << 64) - 1
        setattr(message, _FIELDS[kind], value)


def _metric(message: Any) -> Metric:
    datatype = DataType(message.datatype) if message.datatype in DataType._value2member_map_ else None
    field = message.WhichOneof("value")
    value = getattr(message, field) if field in _PLAIN and not message.is_null else None
    if datatype is DataType.INT64 and field == "long_value" and value is not None and value >= 1 << 63:
        value -= 1 << 64
    return Metric(
        value,
        message.name if message.HasField("name") else None,
        message.alias if message.HasField("alias") else None,
        datatype,
        message.timestamp if message.HasField("timestamp") else None,
        message.is_historical,
    )


@cache
def _message_class() -> Any:
    """Return protobuf's class of a payload.

    Raises:
        ImportError: protobuf is not installed.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    for line in _SCHEMA.replace(";\n  ", "; ").strip().splitlines():
        name, fields = line.split(": ")
        message = file.message_type.add(name=name)
        for written in fields.split("; "):
            kind, field, number = written.split(" ")
            one = message.field.add(name=field.rstrip("|"), number=int(number))
            one.label = types.LABEL_REPEATED if kind.endswith("*") else types.LABEL_OPTIONAL
            if kind[0].isupper():
                one.type = types.TYPE_MESSAGE
                one.type_name = f".{_PACKAGE}.{kind.rstrip('*')}"
            else:
                one.type = getattr(types, f"TYPE_{kind.rstrip('*').upper()}")
            if field.endswith("|"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="value")
                one.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))
