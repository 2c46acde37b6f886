"""What this side of the API server needs of the registry: reading; and two small readings of values. Pure."""

from typing import Any, Protocol

from lab.api.identity import User

Object = dict[str, Any]
"""A Kubernetes object as it is stored; never changed in place."""


class Reader(Protocol):
    """The reading half of the registry; `resource` is its key: "pods", or "widgets.example.com" for custom ones."""

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """The object. Raises ApiError NotFound."""

    def list(self, resource: str, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Object]:
        """The objects of one namespace, or of all."""


def spec_of(item: Object) -> Object:
    """The object's `spec`, empty when it has none."""
    spec = item.get("spec")
    return spec if isinstance(spec, dict) else {}


def user_info(user: User) -> Object:
    """The UserInfo of a user, as reviews and admission webhooks carry it; empty fields are left out."""
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info
