"""The ServiceAccount admission as a function from pod to pod."""

import copy

import pytest

from lab.api.service_accounts import MOUNT_PATH, account_of, admit_pod

ACCOUNT = {"metadata": {"name": "web"}}


def pod(**spec):
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], **spec}}


def test_every_container_and_init_container_gets_the_token_mount():
    given = pod(initContainers=[{"name": "i"}], containers=[{"name": "a"}, {"name": "b"}])

    spec = admit_pod(given, ACCOUNT, suffix="abcde")["spec"]

    mounts = [container["volumeMounts"] for container in spec["initContainers"] + spec["containers"]]
    assert mounts == [[{"name": "kube-api-access-abcde", "mountPath": MOUNT_PATH, "readOnly": True}]] * 3
    assert [volume["name"] for volume in spec["volumes"]] == ["kube-api-access-abcde"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "web"


def test_the_volume_projects_token_root_certificate_and_namespace():
    projected = admit_pod(pod(), ACCOUNT, suffix="abcde")["spec"]["volumes"][0]["projected"]

    assert [next(iter(source)) for source in projected["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert projected["sources"][0]["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}


def test_applied_twice_equals_once_and_the_argument_is_left_alone():
    given = pod()
    before = copy.deepcopy(given)

    once = admit_pod(given, ACCOUNT, suffix="abcde")

    assert given == before
    assert admit_pod(once, ACCOUNT, suffix="zzzzz") == once


def test_a_container_that_was_injected_later_gets_the_same_volume():
    once = admit_pod(pod(), ACCOUNT, suffix="abcde")
    once["spec"]["containers"].append({"name": "late"})

    spec = admit_pod(once, ACCOUNT, suffix="zzzzz")["spec"]

    assert spec["containers"][1]["volumeMounts"][0]["name"] == "kube-api-access-abcde"
    assert len(spec["volumes"]) == 1


def test_a_container_with_its_own_mount_there_keeps_it():
    own = [{"name": "mine", "mountPath": MOUNT_PATH}]

    spec = admit_pod(pod(containers=[{"name": "a", "volumeMounts": own}]), ACCOUNT, suffix="abcde")["spec"]

    assert spec["containers"][0]["volumeMounts"] == own
    assert "volumes" not in spec


@pytest.mark.parametrize(
    ("on_pod", "on_account", "mounted"),
    [(None, None, True), (None, False, False), (False, None, False), (True, False, True), (False, True, False)],
)
def test_the_pods_word_on_automounting_goes_before_the_accounts(on_pod, on_account, mounted):
    given = pod() if on_pod is None else pod(automountServiceAccountToken=on_pod)
    account = ACCOUNT if on_account is None else {**ACCOUNT, "automountServiceAccountToken": on_account}

    assert bool(admit_pod(given, account, suffix="abcde")["spec"].get("volumes")) is mounted


def test_a_pod_that_names_no_account_runs_as_default():
    assert account_of(pod()) == "default"
    assert account_of(pod(serviceAccountName="web")) == "web"
    assert account_of(pod(serviceAccount="old")) == "old"


def test_pull_secrets_of_the_account_are_inherited_unless_the_pod_has_its_own():
    account = {**ACCOUNT, "imagePullSecrets": [{"name": "s"}]}

    assert admit_pod(pod(), account, suffix="a")["spec"]["imagePullSecrets"] == [{"name": "s"}]
    own = admit_pod(pod(imagePullSecrets=[{"name": "t"}]), account, suffix="a")
    assert own["spec"]["imagePullSecrets"] == [{"name": "t"}]
