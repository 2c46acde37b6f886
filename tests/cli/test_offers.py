"""`tulle install` asks the cluster whether it knows the kind that guards the webhook's registrations."""

import pytest
import yaml

from tests.cli.test_commands import Api, Tulle

PATH = "/apis/admissionregistration.k8s.io/v1"


def kinds(output: str) -> set[str]:
    return {found["kind"] for found in yaml.safe_load_all(output) if found}


@pytest.mark.parametrize("offered", [True, False])
def test_guard_is_installed_where_the_api_offers_it(api: Api, tulle: Tulle, offered: bool) -> None:
    listed = [{"kind": "MutatingWebhookConfiguration"}] + [{"kind": "ValidatingAdmissionPolicy"}] * offered
    api.answers[PATH] = {"resources": listed}

    ran = tulle("install")

    assert (0, "") == (ran.code, ran.err)
    assert offered == ("ValidatingAdmissionPolicy" in kinds(ran.out))


@pytest.mark.parametrize(("wish", "made"), [("always", True), ("never", False)])
def test_cluster_is_not_asked_where_the_value_decides(api: Api, tulle: Tulle, wish: str, made: bool) -> None:
    api.requests.clear()

    ran = tulle("install", "--set", f"webhook.registrationGuard={wish}")

    assert made == ("ValidatingAdmissionPolicyBinding" in kinds(ran.out))
    assert [] == api.requests
