"""Encodings: which form an answer takes, and what a body says. Pure.

Answers are always JSON, in one of four forms: the object, a Table, PartialObjectMetadata, or aggregated discovery.
Bodies are JSON, YAML, or the protobuf that kubectl's typed commands send.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from lab.api import errors, protobuf

JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
YAMLS = ("application/yaml", "application/apply-patch+yaml", "text/yaml")
# The largest body read; the real server's own limit for one object is 3 MiB.
BODY_MAX_BYTES = 3 * 1024 * 1024

encode = msgspec.json.encode


def _choices(accept: str) -> Iterator[dict[str, str]]:
    """The alternatives of an Accept header in their order: parameters, with the media type under ""."""
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        yield {"": media, **dict(item.partition("=")[::2] for item in parameters)}


def form(accept: str) -> str:
    """The form asked for: "Table", "PartialObjectMetadata", "APIGroupDiscoveryList" ..., or "" for the plain object.

    Raises ApiError 406 when nothing acceptable is served.
    """
    if not accept:
        return ""
    for choice in _choices(accept):
        if choice[""] in (JSON, "application/*", "*/*"):
            wanted = choice.get("as", "")
            if wanted in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList") and choice.get("v") != "v1":
                continue
            if wanted == "APIGroupDiscoveryList" and choice.get("v") != "v2":
                continue
            return wanted
    raise errors.ApiError(406, "NotAcceptable", f"only the following media types are accepted: {JSON}; not {accept}")


def media_type(header: str) -> str:
    return header.split(";", 1)[0].strip().lower()


def decode(body: bytes, content_type: str) -> Any:
    """The value of a request body. Raises ApiError BadRequest for malformed ones, 415 for unknown encodings."""
    media = media_type(content_type) or JSON
    if media == PROTOBUF:
        return protobuf.decode(body)
    if media in YAMLS:
        return _decode_yaml(body)
    if media != JSON and not media.endswith("+json"):
        raise errors.unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {JSON}, "
            f"application/yaml, {PROTOBUF}; not {media}"
        )
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.bad_request(f"the body is not JSON: {error}") from error


class _Loader(yaml.CSafeLoader):
    """YAML as JSON has it: a timestamp stays the text that it is."""


_Loader.yaml_implicit_resolvers = {
    letter: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
    for letter, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _decode_yaml(body: bytes) -> Any:
    try:
        if body[:1] == b"{":
            return msgspec.json.decode(body)
        # An alias can make a short text mean a huge value.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(body, Loader=yaml.CSafeLoader)):
            raise errors.bad_request("YAML aliases are not accepted: write the value out")
        return yaml.load(body, Loader=_Loader)
    except (yaml.YAMLError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.bad_request(f"error decoding YAML: {error}") from error
