"""Whom the controller asks the API server as."""

from pathlib import Path

import pytest

from controller.kube import ConfigurationFault, connect
from tests.controller.scripted_api import kubeconfig


def test_a_kubeconfig_whose_user_acts_as_another_is_refused_and_not_taken_for_the_stronger_user(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig("http://127.0.0.1:1").replace("{token: secret}", "{token: secret, as: jane}"))

    with pytest.raises(ConfigurationFault) as caught:
        connect(str(file))

    assert "its user has one of as, as-uid, as-groups, as-user-extra, which the controller does not take" in str(
        caught.value
    )


def test_a_kubeconfig_without_a_user_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig("http://127.0.0.1:1").replace(", user: test}}]", "}}]").replace("users: [{", "#"))

    assert "http://127.0.0.1:1" == connect(str(file)).host
