"""Whom a kubeconfig's user acts as: fields in, headers out."""

from typing import Any

import pytest

from contract.impersonation import headers


def test_a_user_that_acts_as_itself_needs_no_header() -> None:
    assert [] == headers({"token": "x"}) == headers({"as": "", "as-groups": [], "as-user-extra": {}})


def test_every_field_becomes_a_header_and_every_value_its_own() -> None:
    user = {
        "as": "jane",
        "as-uid": "42",
        "as-groups": ["viewers", "staff"],
        "as-user-extra": {"scopes": ["view", "list"], "acme.com/project": ["one"]},
    }

    assert [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "42"),
        ("Impersonate-Group", "viewers"),
        ("Impersonate-Group", "staff"),
        ("Impersonate-Extra-scopes", "view"),
        ("Impersonate-Extra-scopes", "list"),
        ("Impersonate-Extra-acme.com%2fproject", "one"),
    ] == headers(user)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"as-groups": ["viewers"]}, "as-uid, as-groups and as-user-extra need as"),
        ({"as-uid": "42"}, "as-uid, as-groups and as-user-extra need as"),
        ({"as-user-extra": {"scopes": ["view"]}}, "as-uid, as-groups and as-user-extra need as"),
        ({"as": 5}, "as holds 5, which is not text"),
        ({"as": "jane\r\nImpersonate-Group: system:masters"}, "which no header can carry"),
        ({"as": "jane", "as-groups": "viewers"}, "as-groups is not a list"),
        ({"as": "jane", "as-groups": [1]}, "as-groups holds 1, which is not text"),
        ({"as": "jane", "as-user-extra": ["x"]}, "as-user-extra is not a map of lists"),
        ({"as": "jane", "as-user-extra": {"scopes": "view"}}, "as-user-extra.scopes is not a list"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(user: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        headers(user)

    assert message in str(caught.value)
