"""The written forms of values in policies: durations, percentages, status codes, quantities, names. Pure.

A form reads one value as YAML or JSON gives it, and says what OpenAPI can say of it: the webhook, the controller, the
definitions of the kinds and the documentation all come from here. A fault is a ValueError that shows the value and
tells the fix; the caller adds where it stood.

Sources: GEP-2257 (durations); Kubernetes, "Resource units" (quantities); gRPC, "Status codes and their use";
RFC 9110, 5.6.2 (token); RFC 1123 labels, as Kubernetes takes them.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

Schema = dict[str, Any]

SHOWN_CHARS: Final = 60
"""Of a value in a message."""


class Form(Protocol):
    """How one value is written."""

    @property
    def unit(self) -> str:
        """For the documentation: the unit, or what the values are."""

    def read(self, value: object) -> Any:
        """Return what the value means. Raises ValueError with the fix."""

    def schema(self) -> Schema:
        """What OpenAPI can say of it."""


def shown(value: object) -> str:
    """A value as it stands in a message."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):  # nested deeper, or with more digits, than Python writes
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.15g}"


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number."""

    low: int
    high: int
    unit: str = ""

    def read(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{shown(value)} is no whole number; write {self.low} to {self.high}")
        _check_range(value, self.low, self.high, f"{self.low} to {self.high}")
        return value

    def schema(self) -> Schema:
        return {"type": "integer", "format": "int64", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Number:
    """A number, decimals allowed."""

    low: float
    high: float
    unit: str = ""

    def read(self, value: object) -> float:
        span = f"{_number(self.low)} to {_number(self.high)}"
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
            raise ValueError(f"{shown(value)} is no number; write {span}")
        _check_range(value, self.low, self.high, span)
        return float(value)

    def schema(self) -> Schema:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


def _check_range(value: float, low: float, high: float, span: str) -> None:
    if value > high:
        raise ValueError(f"{shown(value)} is more than {_number(high)}; write {span}")
    if value < low:
        raise ValueError(f"{shown(value)} is less than {_number(low)}; write {span}")


@dataclass(frozen=True, slots=True)
class Percent:
    """A percentage, read as a ratio: 12.5 is 0.125."""

    low: float = 0
    unit: str = "percent"

    def read(self, value: object) -> float:
        return Number(self.low, 100).read(value) / 100

    def schema(self) -> Schema:
        return Number(self.low, 100).schema()


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    unit: str = "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{shown(value)} is neither true nor false; write one of them, without quotes")
        return value

    def schema(self) -> Schema:
        return {"type": "boolean"}


DURATION: Final = r"([0-9]{1,5}(h|m|s|ms)){1,4}"
_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_UNIT_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@dataclass(frozen=True, slots=True)
class Duration:
    """A Gateway API duration, read as seconds: 1h30m is 5400.0. `low_ms` 0 lets "0s" stand for none."""

    low_ms: int = 0
    high_ms: int = 24 * 3_600_000
    unit: str = "duration"

    def read(self, value: object) -> float:
        if not isinstance(value, str) or not re.fullmatch(DURATION, value, re.ASCII):
            raise ValueError(f"{shown(value)} is no duration; {self._hint(value)}")
        duration_ms = sum(int(count) * _UNIT_MS[unit] for count, unit in _PART.findall(value))
        span = f"{write_duration(self.low_ms)} to {write_duration(self.high_ms)}"
        if duration_ms > self.high_ms:
            raise ValueError(f"{value} is more than {write_duration(self.high_ms)}; write {span}")
        if duration_ms < self.low_ms:
            raise ValueError(f"{value} is less than {write_duration(self.low_ms)}; write {span}")
        return duration_ms / 1000

    def _hint(self, value: object) -> str:
        """What the writer may have meant."""
        example = "write whole numbers with h, m, s or ms, such as 250ms or 1h30m"
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 99999:
            return f'it has no unit; write "{value}s" or "{value}ms"'
        decimal = re.fullmatch(r"([0-9]{1,5}\.[0-9]{1,3})(h|m|s)", value, re.ASCII) if isinstance(value, str) else None
        if decimal is None:
            return example
        return f"it has decimals; write {write_duration(round(float(decimal[1]) * _UNIT_MS[decimal[2]]))}"

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{DURATION}$", "maxLength": 28}


def write_duration(duration_ms: int) -> str:
    """The shortest form of a duration: 5400000 is 1h30m."""
    parts = []
    for unit in ("h", "m", "s", "ms"):
        count, duration_ms = divmod(duration_ms, _UNIT_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


_BYTES = re.compile(r"([0-9]{1,12})(|k|M|G|Ki|Mi|Gi)", re.ASCII)
_FACTOR: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A count of bytes: a whole number, or a Kubernetes quantity such as 64Ki."""

    low: int
    high: int
    unit: str = "bytes"

    def read(self, value: object) -> int:
        span = f"{write_bytes(self.low)} to {write_bytes(self.high)}"
        whole = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        match = _BYTES.fullmatch(whole) if isinstance(whole, str) else None
        if match is None:
            raise ValueError(f"{shown(value)} is no count of bytes; write {span}, such as 4096 or 64Ki")
        count = int(match[1]) * _FACTOR[match[2]]
        if not self.low <= count <= self.high:
            side, bound = ("more", self.high) if count > self.high else ("less", self.low)
            raise ValueError(f"{shown(value)} is {side} than {write_bytes(bound)}; write {span}")
        return count

    def schema(self) -> Schema:
        pattern = "^[0-9]{1,12}(k|M|G|Ki|Mi|Gi)?$"
        return _int_or_string() | {"pattern": pattern}


def write_bytes(count: int) -> str:
    """The shortest quantity: 65536 is 64Ki."""
    for unit in ("Gi", "Mi", "Ki"):
        if count and count % _FACTOR[unit] == 0:
            return f"{count // _FACTOR[unit]}{unit}"
    return str(count)


def _int_or_string() -> Schema:
    return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}


_STATUSES = re.compile(r"([1-9])[xX]{2}|([0-9]{3})(?:-([0-9]{3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Statuses:
    """HTTP statuses: 502, "502-504" or 5xx, read as an inclusive range."""

    low: int = 400
    high: int = 599
    unit: str = "HTTP status, range or class"

    def read(self, value: object) -> tuple[int, int]:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        match = (
            re.fullmatch(r"([1-9])[xX]{2}|([0-9]{3})(?:-([0-9]{3}))?", text, re.ASCII)
            if isinstance(text, str)
            else None
        )
        if match is None:
            raise ValueError(f'{shown(value)} is no HTTP status; write 503, "502-504" or 5xx')
        if match[1]:
            first, last = int(match[1]) * 100, int(match[1]) * 100 + 99
        else:
            first, last = int(match[2]), int(match[3] or match[2])
        if first > last:
            raise ValueError(f'{shown(value)} runs backwards; write "{last}-{first}"')
        if first < self.low or last > self.high:
            raise ValueError(f"{shown(value)} is out of range; write statuses from {self.low} to {self.high}")
        return first, last

    def schema(self) -> Schema:
        return _int_or_string() | {"pattern": "^([45][xX]{2}|[45][0-9]{2}(-[45][0-9]{2})?)$"}


GRPC_STATUSES: Final = {
    "cancelled": 1,
    "unknown": 2,
    "invalid-argument": 3,
    "deadline-exceeded": 4,
    "not-found": 5,
    "already-exists": 6,
    "permission-denied": 7,
    "resource-exhausted": 8,
    "failed-precondition": 9,
    "aborted": 10,
    "out-of-range": 11,
    "unimplemented": 12,
    "internal": 13,
    "unavailable": 14,
    "data-loss": 15,
    "unauthenticated": 16,
}


@dataclass(frozen=True, slots=True)
class GrpcStatus:
    """A gRPC status by its name in lower case with dashes, read as its number."""

    unit: str = "gRPC status"

    def read(self, value: object) -> int:
        if isinstance(value, str) and value in GRPC_STATUSES:
            return GRPC_STATUSES[value]
        plain = re.sub(r"(?<=[a-z])(?=[A-Z])|_", "-", value).lower() if isinstance(value, str) else ""
        by_number = {number: name for name, number in GRPC_STATUSES.items()}
        meant = by_number.get(value) if isinstance(value, int) else plain if plain in GRPC_STATUSES else None
        hint = f"write {meant}" if meant else f"write one of {', '.join(GRPC_STATUSES)}"
        raise ValueError(f"{shown(value)} is no name of a gRPC status; {hint}")

    def schema(self) -> Schema:
        return {"type": "string", "enum": list(GRPC_STATUSES)}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def unit(self) -> str:
        return " or ".join(word or '""' for word in self.words)

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        listed = ", ".join(word or '""' for word in self.words)
        near = [word for word in self.words if isinstance(value, str) and _squeezed(word) == _squeezed(value)]
        fix = near[0] if near else listed if len(self.words) == 1 else f"one of {listed}"
        raise ValueError(f"{shown(value)} is not allowed here; write {fix}")

    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.words)}


def _squeezed(word: str) -> str:
    return re.sub(r"[-_ ]", "", word).lower()


@dataclass(frozen=True, slots=True)
class Text:
    """A word of a given form."""

    what: str
    """`the name of a Service`: for messages."""
    pattern: str
    high: int
    example: str
    is_lowered: bool = False
    """Whether it means the same in any case (header names): then it is read in lower case."""

    @property
    def unit(self) -> str:
        return self.what

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value, re.ASCII):
            raise ValueError(f"{shown(value)} is not {self.what}; write it as {self.example}")
        if len(value) > self.high:
            raise ValueError(f"{shown(value)} has {len(value)} characters; write at most {self.high}")
        return value.lower() if self.is_lowered else value

    def schema(self) -> Schema:
        least = 0 if re.fullmatch(self.pattern, "", re.ASCII) else 1
        return {"type": "string", "pattern": f"^{self.pattern}$", "minLength": least, "maxLength": self.high}


_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

SERVICE_NAME: Final = Text("the name of a Service", _LABEL, 63, "catalog")
NAMESPACE_NAME: Final = Text("the name of a namespace", _LABEL, 63, "shop")
PORT_NAME: Final = Text("the name of a port of the Service", _LABEL, 63, "http")
METHOD: Final = Text("an HTTP method (in capitals)", "[A-Z][A-Z0-9_-]*", 32, "GET")
HEADER_NAME: Final = Text("the name of a header", _TOKEN, 256, "x-user", is_lowered=True)
HEADER_VALUE: Final = Text("the value of a header", r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", 4096, "beta")
COOKIE_NAME: Final = Text("the name of a cookie", _TOKEN, 256, "session")
PATH: Final = Text("an absolute path", r"/[!$-;=@-Z_a-z~]*", 1024, "/api")
