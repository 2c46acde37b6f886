"""Role-based access control as a function of the user, the question and the stored objects."""

import pytest

from lab.api.identity import User
from lab.api.rbac import Policy, Question, allows, rule_allows
from lab.api.rbac_built_ins import BUILT_INS

ACCOUNT = User("system:serviceaccount:shop:web", ("system:serviceaccounts", "system:authenticated"))


def rule(**fields):
    return {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], **fields}


def role(name, *rules, kind="Role", namespace="shop", labels=None):
    metadata = {"name": name, "labels": labels or {}} | ({"namespace": namespace} if kind == "Role" else {})
    return {"kind": kind, "metadata": metadata, "rules": list(rules)}


def binding(reference_kind, reference, *subjects, namespace=""):
    metadata = {"name": f"to-{reference}"} | ({"namespace": namespace} if namespace else {})
    return {"metadata": metadata, "roleRef": {"kind": reference_kind, "name": reference}, "subjects": list(subjects)}


WEB = {"kind": "ServiceAccount", "name": "web", "namespace": "shop"}


@pytest.mark.parametrize(
    ("fields", "question", "allowed"),
    [
        ({}, Question("get", "", "pods"), True),
        ({}, Question("list", "", "pods"), False),
        ({}, Question("get", "apps", "pods"), False),
        ({}, Question("get", "", "secrets"), False),
        ({}, Question("get", "", "pods", "log"), False),
        ({"resources": ["pods/log"]}, Question("get", "", "pods", "log"), True),
        ({"resources": ["pods/log"]}, Question("get", "", "pods"), False),
        ({"resources": ["*/log"]}, Question("get", "", "pods", "log"), True),
        ({"resources": ["*/scale"]}, Question("get", "", "pods", "log"), False),
        ({"resources": ["*"]}, Question("get", "", "pods", "log"), True),
        ({"verbs": ["*"], "apiGroups": ["*"]}, Question("delete", "x.io", "pods"), True),
        ({"resourceNames": ["a"]}, Question("get", "", "pods", name="a"), True),
        ({"resourceNames": ["a"]}, Question("get", "", "pods", name="b"), False),
        ({"resourceNames": ["a"]}, Question("get", "", "pods"), False),
        ({"nonResourceURLs": ["/metrics"]}, Question("get", path="/metrics"), True),
        ({"nonResourceURLs": ["/apis/*"]}, Question("get", path="/apis/apps/v1"), True),
        ({"nonResourceURLs": ["/apis"]}, Question("get", path="/apis/apps"), False),
        ({"nonResourceURLs": ["*"]}, Question("get", path="/anything"), True),
        ({"resources": ["*"], "apiGroups": ["*"]}, Question("get", path="/metrics"), False),
    ],
)
def test_a_rule_covers_what_it_names_and_no_more(fields, question, allowed):
    assert rule_allows(rule(**fields), question) is allowed


def test_a_role_binding_reaches_its_own_namespace_only():
    policy = Policy(roles=[role("r", rule())], role_bindings=[binding("Role", "r", WEB, namespace="shop")])

    assert allows(Question("get", "", "pods", namespace="shop"), ACCOUNT, policy)
    assert not allows(Question("get", "", "pods", namespace="bank"), ACCOUNT, policy)
    assert not allows(Question("get", "", "pods"), ACCOUNT, policy)


def test_a_cluster_role_can_be_lent_to_one_namespace_or_given_everywhere():
    everywhere = role("r", rule(), kind="ClusterRole")
    lent = Policy(cluster_roles=[everywhere], role_bindings=[binding("ClusterRole", "r", WEB, namespace="shop")])
    given = Policy(cluster_roles=[everywhere], cluster_role_bindings=[binding("ClusterRole", "r", WEB)])

    assert not allows(Question("get", "", "pods"), ACCOUNT, lent)
    assert allows(Question("get", "", "pods", namespace="shop"), ACCOUNT, lent)
    assert "to-r" in (allows(Question("get", "", "pods", namespace="bank"), ACCOUNT, given) or "")


@pytest.mark.parametrize(
    ("subject", "bound"),
    [
        (WEB, True),
        ({"kind": "ServiceAccount", "name": "web"}, True),  # the binding's own namespace
        ({"kind": "ServiceAccount", "name": "web", "namespace": "bank"}, False),
        ({"kind": "Group", "name": "system:serviceaccounts"}, True),
        ({"kind": "Group", "name": "admins"}, False),
        ({"kind": "User", "name": "system:serviceaccount:shop:web"}, True),
        ({"kind": "User", "name": "web"}, False),
    ],
)
def test_subjects_are_users_groups_and_service_accounts(subject, bound):
    policy = Policy(roles=[role("r", rule())], role_bindings=[binding("Role", "r", subject, namespace="shop")])

    assert bool(allows(Question("get", "", "pods", namespace="shop"), ACCOUNT, policy)) is bound


def test_a_binding_to_a_missing_role_gives_nothing():
    policy = Policy(cluster_role_bindings=[binding("ClusterRole", "gone", WEB)])

    assert allows(Question("get", "", "pods"), ACCOUNT, policy) is None


def built_in_policy(*more):
    stored = [item for _key, item in BUILT_INS] + list(more)
    return Policy(
        cluster_roles=[item for item in stored if item["kind"] == "ClusterRole"],
        cluster_role_bindings=[item for item in stored if item["kind"] == "ClusterRoleBinding"],
        role_bindings=[item for item in stored if item["kind"] == "RoleBinding"],
    )


@pytest.mark.parametrize(
    ("name", "question", "allowed"),
    [
        ("view", Question("list", "apps", "deployments", namespace="shop"), True),
        ("view", Question("get", "", "secrets", namespace="shop"), False),
        ("view", Question("create", "", "pods", namespace="shop"), False),
        ("edit", Question("get", "", "pods", "log", "shop"), True),  # by way of view
        ("edit", Question("create", "", "pods", "exec", "shop"), True),
        ("edit", Question("create", "rbac.authorization.k8s.io", "roles", namespace="shop"), False),
        ("admin", Question("create", "rbac.authorization.k8s.io", "roles", namespace="shop"), True),
        ("admin", Question("get", "", "configmaps", namespace="shop"), True),  # by way of edit and view
        ("cluster-admin", Question("escalate", "x", "y", namespace="shop"), True),
    ],
)
def test_the_built_in_roles_build_on_each_other(name, question, allowed):
    lent = {**binding("ClusterRole", name, WEB, namespace="shop"), "kind": "RoleBinding"}

    assert bool(allows(question, ACCOUNT, built_in_policy(lent))) is allowed


def test_a_labelled_cluster_role_adds_to_view():
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    widgets = rule(apiGroups=["example.com"], resources=["widgets"])
    added = role("widgets", widgets, kind="ClusterRole", labels=label)
    lent = {**binding("ClusterRole", "view", WEB, namespace="shop"), "kind": "RoleBinding"}

    question = Question("get", "example.com", "widgets", namespace="shop")
    assert allows(question, ACCOUNT, built_in_policy(lent, added))
    assert not allows(question, ACCOUNT, built_in_policy(lent))


def test_roles_that_aggregate_each_other_end():
    selector = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    circle = [{**role(name, kind="ClusterRole", labels={"a": "b"}), "aggregationRule": selector} for name in "xy"]
    policy = Policy(cluster_roles=circle, cluster_role_bindings=[binding("ClusterRole", "x", WEB)])

    assert allows(Question("get", "", "pods"), ACCOUNT, policy) is None


def test_everybody_known_may_discover_and_ask_about_themselves_and_a_stranger_may_see_the_version():
    stranger = User("system:anonymous", ("system:unauthenticated",))
    policy = built_in_policy()

    assert allows(Question("get", path="/apis/apps/v1"), ACCOUNT, policy)
    assert allows(Question("create", "authorization.k8s.io", "selfsubjectaccessreviews"), ACCOUNT, policy)
    assert allows(Question("get", path="/version"), stranger, policy)
    assert not allows(Question("get", path="/apis"), stranger, policy)
    assert allows(Question("delete", "", "nodes"), User("root", ("system:masters",)), Policy())
