"""Nobody hands out rights that they do not have."""

import pytest

from lab.api.errors import ApiError
from lab.api.identity import User
from lab.api.rbac import Policy
from lab.api.rbac_escalation import check_grant

JANE = User("jane", ("system:authenticated",))
GROUP = "rbac.authorization.k8s.io"


def rule(verbs, resources, groups=("",), **more):
    return {"verbs": list(verbs), "resources": list(resources), "apiGroups": list(groups), **more}


def cluster_role(name, *rules, **more):
    return {"kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules), **more}


def holding(*rules, others=()):
    """A policy in which jane holds these rules everywhere."""
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "janes"}
    binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [{"kind": "User", "name": "jane"}]}
    return Policy(cluster_roles=[cluster_role("janes", *rules), *others], cluster_role_bindings=[binding])


def is_allowed(plural, item, policy, user=JANE):
    try:
        check_grant(plural, item, user, policy)
    except ApiError as error:
        return error.code != 403
    return True


@pytest.mark.parametrize(
    ("held", "granted", "allowed"),
    [
        (rule(["get", "list"], ["pods"]), rule(["get"], ["pods"]), True),
        (rule(["get"], ["pods"]), rule(["get", "list"], ["pods"]), False),
        (rule(["get"], ["pods"]), rule(["get"], ["pods", "secrets"]), False),
        (rule(["get"], ["pods"]), rule(["get"], ["pods/log"]), False),
        (rule(["get"], ["pods/log"]), rule(["get"], ["pods/log"]), True),
        (rule(["get"], ["*"]), rule(["get"], ["pods/log"]), True),
        (rule(["get"], ["pods"]), rule(["*"], ["pods"]), False),
        (rule(["*"], ["*"], ["*"]), rule(["*"], ["*"], ["*"]), True),
        (rule(["get"], ["pods"], resourceNames=["a"]), rule(["get"], ["pods"]), False),
        (rule(["get"], ["pods"], resourceNames=["a"]), rule(["get"], ["pods"], resourceNames=["a"]), True),
        (rule(["get"], ["pods"]), {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}, False),
    ],
)
def test_a_role_may_hold_only_what_its_writer_holds(held, granted, allowed):
    assert is_allowed("clusterroles", cluster_role("new", granted), holding(held)) is allowed


def test_several_held_rules_together_cover_one():
    policy = holding(rule(["get"], ["pods"]), rule(["get"], ["services"]))

    assert is_allowed("clusterroles", cluster_role("new", rule(["get"], ["pods", "services"])), policy)


@pytest.mark.parametrize("verb", ["escalate", "bind"])
def test_the_verbs_escalate_and_bind_lift_the_check(verb):
    everything = rule(["*"], ["*"], ["*"])
    policy = holding(rule([verb], ["clusterroles"], [GROUP]), others=[cluster_role("big", everything)])
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "big"}
    binding = {"metadata": {"name": "x"}, "roleRef": reference, "subjects": []}

    assert is_allowed("clusterroles", cluster_role("new", everything), policy) is (verb == "escalate")
    assert is_allowed("clusterrolebindings", binding, policy) is (verb == "bind")


def test_a_binding_to_a_role_that_is_not_there_cannot_be_judged():
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "gone"}

    with pytest.raises(ApiError) as caught:
        check_grant("clusterrolebindings", {"metadata": {"name": "x"}, "roleRef": reference}, JANE, holding())

    assert caught.value.code == 404


def test_an_aggregating_role_needs_everything_and_masters_need_nothing():
    summing = cluster_role("sum", aggregationRule={"clusterRoleSelectors": []})

    assert not is_allowed("clusterroles", summing, holding(rule(["get"], ["pods"])))
    assert is_allowed("clusterroles", summing, Policy(), User("root", ("system:masters",)))


def test_the_api_server_refuses_it_to_a_service_account(server, tmp_path):
    server.create("serviceaccounts", {"metadata": {"name": "climber", "namespace": "default"}})
    rules = [rule(["create", "get"], ["roles"], [GROUP]), rule(["get"], ["pods"])]
    server.create("roles", {"metadata": {"name": "climbs", "namespace": "default"}, "rules": rules})
    reference = {"apiGroup": GROUP, "kind": "Role", "name": "climbs"}
    subjects = [{"kind": "ServiceAccount", "name": "climber", "namespace": "default"}]
    place = {"name": "climbs", "namespace": "default"}
    server.create("rolebindings", {"metadata": place, "roleRef": reference, "subjects": subjects})
    common = ("--as", "system:serviceaccount:default:climber", "create", "role")

    allowed = server.kubectl(*common, "fine", "--verb=get", "--resource=pods")
    denied = server.kubectl(*common, "greedy", "--verb=get", "--resource=pods,secrets")

    assert (allowed.returncode, denied.returncode) == (0, 1)
    assert b"not currently held" in denied.stderr
