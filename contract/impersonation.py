"""Whom a kubeconfig's user acts as, as the headers that tell the API server. Pure.

To leave these fields out would not fail: the request would be made by the user itself, who is nearly always the
stronger one. So a program that reads a kubeconfig honours them, or refuses the file.

Sources: Kubernetes API reference, kubeconfig v1 (AuthInfo: as, as-uid, as-groups, as-user-extra); the page "User
impersonation" of its documentation.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

FIELDS: Final = ("as", "as-uid", "as-groups", "as-user-extra")

_HEADER_NAME_MARKS: Final = "!#$&'*+-.^_`|~"
"""Marks that a header's name may have (RFC 9110 5.6.2) without `%`, which introduces an escaped one."""


def headers(user: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Header fields for a kubeconfig's user, one pair for each value; [] when it acts as itself.

    Raises ValueError naming the field that cannot be honoured.
    """
    name = _text(user.get("as"), "as")
    uid = _text(user.get("as-uid"), "as-uid")
    groups = _texts(user.get("as-groups"), "as-groups")
    extra = user.get("as-user-extra") or {}
    if not isinstance(extra, Mapping):
        raise ValueError("as-user-extra is not a map of lists; write it as {scopes: [view]}")
    values = [(str(key), value) for key in extra for value in _texts(extra[key], f"as-user-extra.{key}")]
    if not name:
        if uid or groups or values:
            raise ValueError("as-uid, as-groups and as-user-extra need as: say whom to act as")
        return []
    return [
        ("Impersonate-User", name),
        *([("Impersonate-Uid", uid)] if uid else []),
        *(("Impersonate-Group", group) for group in groups),
        *((f"Impersonate-Extra-{_escaped(key)}", value) for key, value in values),
    ]


def _texts(value: object, field: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{field} is not a list; write it as [one, two]")
    return [_text(entry, field) for entry in value]


def _text(value: object, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{field} holds {value!r}, which is not text; write it in quotes")
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        raise ValueError(
            f"{field} holds {value!r}, which no header can carry; write printable ASCII without spaces around"
        )
    return value


def _escaped(key: str) -> str:
    """A key as part of a header's name; the API server unescapes it."""
    return quote(key, safe=_HEADER_NAME_MARKS).lower()
