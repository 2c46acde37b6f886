"""Whom the webhook asks the API server as."""

import json
from pathlib import Path

import pytest

from webhook.kube import KubeError, connect


def test_a_kubeconfig_whose_user_acts_as_another_is_refused_and_not_taken_for_the_stronger_user(
    kubeconfig: Path,
) -> None:
    content = json.loads(kubeconfig.read_text())
    content["users"][0]["user"]["as"] = "jane"
    kubeconfig.write_text(json.dumps(content))

    with pytest.raises(KubeError) as caught:
        connect(str(kubeconfig))

    assert "user has one of as, as-uid, as-groups, as-user-extra, which the webhook does not take" in str(caught.value)
