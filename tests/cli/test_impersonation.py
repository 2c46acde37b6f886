"""A kubeconfig's user that acts as another: every request says so. tests/e2e asks an API with RBAC."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.cli.conftest import Api, Ran

Tulle = Callable[..., Ran]


def act_as(**fields: Any) -> None:
    """Write the fields into the user of the kubeconfig in force."""
    path = Path(os.environ["KUBECONFIG"])
    kubeconfig = yaml.safe_load(path.read_text())
    kubeconfig["users"][0]["user"] |= {name.replace("_", "-").strip("-"): value for name, value in fields.items()}
    path.write_text(yaml.safe_dump(kubeconfig))


def test_every_request_says_whom_the_kubeconfigs_user_acts_as(api: Api, tulle: Tulle) -> None:
    act_as(as_="jane", as_uid="42", as_groups=["viewers", "staff"], as_user_extra={"scopes": ["view"]})

    tulle("check", "--wait", "0")
    tulle("stat", "deploy")

    assert len(api.field_lines) >= 2
    for lines in api.field_lines:
        asked = [line for line in lines if line[0].startswith("impersonate-")]
        assert [
            ("impersonate-user", "jane"),
            ("impersonate-uid", "42"),
            ("impersonate-group", "viewers"),
            ("impersonate-group", "staff"),
            ("impersonate-extra-scopes", "view"),
        ] == asked
        assert ("authorization", "Bearer secret-token") in lines


def test_a_kubeconfig_that_cannot_be_honoured_is_refused_and_nothing_is_asked(api: Api, tulle: Tulle) -> None:
    act_as(as_groups=["viewers"])

    ran = tulle("stat", "deploy")

    assert (1, []) == (ran.code, api.requests)
    assert "the kubeconfig's user me: as-uid, as-groups and as-user-extra need as" in ran.err
