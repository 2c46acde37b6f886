"""Kubernetes protobuf bodies to plain objects, by a table of field numbers. Pure but for reading the table once.

kubectl's typed commands (create namespace, create token, auth can-i) send them since 1.32 and do not retry as JSON.
A field or kind that the table does not know is refused by its number: dropping it silently would lose what was asked.

Sources: the protobuf encoding guide (varint, length-delimited); apimachinery's `Unknown` envelope with its magic; the
field numbers of kubernetes/api's generated.proto files (lab/data/protobuf.txt).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from lab.api import errors

DATA = Path(__file__).parent.parent / "data" / "protobuf.txt"
MAGIC = b"k8s\x00"
_FIELD = re.compile(r"(\d+)(\w+):([*%]?)([\w-]+)(\??)")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Deeper than any message of the table nests; a crafted body cannot go further.
DEPTH_MAX_COUNT = 20


@dataclass(frozen=True, slots=True)
class Field:
    """One row: `shape` is "" for one value, "*" for a list, "%" for a map; `type` as in the table."""

    name: str
    shape: str
    type: str
    keeps_zero: bool


@cache
def _messages() -> dict[str, dict[int, Field]]:
    lines = [line for line in DATA.read_text().splitlines() if line and not line.startswith("#")]
    return {name: dict(map(_field, text.split())) for name, _, text in (line.partition(":") for line in lines)}


def _field(text: str) -> tuple[int, Field]:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise ValueError(f"{DATA.name}: {text!r} is no field")
    number, name, shape, kind, pointer = match.groups()
    return int(number), Field(name, shape, kind, bool(pointer))


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body. Raises ApiError BadRequest when it is cut or malformed, 415 when the table lacks a part."""
    if not body.startswith(MAGIC):
        raise errors.bad_request("the body is not Kubernetes protobuf: it does not begin with k8s\\0")
    try:
        return _unwrapped(body[len(MAGIC) :])
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise errors.bad_request(f"the protobuf body is cut or malformed: {error}") from error


def _unwrapped(envelope: bytes) -> dict[str, Any]:
    version, kind, raw = "", "", b""
    for number, value in _fields(envelope):
        if number == 1 and isinstance(value, bytes):
            names = {key: item for key, item in _fields(value) if isinstance(item, bytes)}
            version, kind = names.get(1, b"").decode(), names.get(2, b"").decode()
        elif number == 2 and isinstance(value, bytes):
            raw = value
    if kind not in _messages():
        raise errors.unsupported_media_type(f"the lab reads no protobuf of kind {kind or '(none)'}: send JSON")
    return {"apiVersion": version, "kind": kind, **_message(kind, raw, DEPTH_MAX_COUNT)}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
        elif wire in (_BYTES, _FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
            if wire == _BYTES:
                length, position = _varint(data, position)
            if position + length > len(data):
                raise ValueError("a field is longer than its message")
            yield number, data[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire} is not used by Kubernetes")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint is longer than ten bytes")


def _message(name: str, data: bytes, depth: int) -> dict[str, Any]:
    if not depth:
        raise ValueError("messages nest too deep")
    table = _messages()[name]
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        field = table.get(number)
        if field is None:
            if value not in (b"", 0):
                raise errors.unsupported_media_type(f"the lab does not know field {number} of {name}: send JSON")
        elif field.type != "-":
            _put(found, field, value, depth)
    return found


def _put(found: dict[str, Any], field: Field, value: int | bytes, depth: int) -> None:
    if field.shape == "%":
        entry = dict(_fields(_as_bytes(value)))
        key = _as_bytes(entry.get(1, b"")).decode()
        found.setdefault(field.name, {})[key] = _value(field.type, entry.get(2, b""), depth)
        return
    decoded = _value(field.type, value, depth)
    if field.shape == "*":
        found.setdefault(field.name, []).append(decoded)
    elif field.keeps_zero or decoded not in ("", 0, False, None):
        found[field.name] = decoded


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where text or a message belongs")
    return value


def _value(kind: str, value: int | bytes, depth: int) -> Any:
    if kind in ("i", "b"):
        if not isinstance(value, int):
            raise ValueError("text or a message where a number belongs")
        signed = value - (1 << 64) if value >> 63 else value
        return bool(value) if kind == "b" else signed
    data = _as_bytes(value)
    if kind == "s":
        return data.decode()
    if kind == "y":
        return base64.b64encode(data).decode()
    return _scalar(kind, _message(kind, data, depth - 1))


def _scalar(kind: str, parts: dict[str, Any]) -> Any:
    """The three messages that JSON writes as one value."""
    if kind == "Time":
        seconds = parts.get("seconds")
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
    if kind == "IntOrString":
        return parts.get("strVal", "") if parts.get("type") else parts.get("intVal", 0)
    return parts.get("string", "0") if kind == "Quantity" else parts
