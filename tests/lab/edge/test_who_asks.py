"""Authentication, authorization and reviews, asked by the real kubectl and the official Python client."""

import base64
import json

import kubernetes
import pytest

from lab.api.tokens import ISSUER

RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]


@pytest.fixture(scope="module")
def reader(server):
    """The service account `reader`, which may read pods in `default`."""
    place = {"namespace": "default"}
    server.create("serviceaccounts", {"metadata": {"name": "reader", **place}})
    server.create("roles", {"metadata": {"name": "pods", **place}, "rules": RULES})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "pods"}
    subjects = [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}]
    binding = {"metadata": {"name": "pods", **place}, "roleRef": reference, "subjects": subjects}
    server.create("rolebindings", binding)
    return "system:serviceaccount:default:reader"


@pytest.fixture
def asking(server, tmp_path):
    """A function from bearer token to the Python client's API classes; each has a configuration of its own."""
    authority = tmp_path / "ca.crt"
    authority.write_bytes(server.authority_pem)
    opened = []

    def ask(token: str):
        configuration = kubernetes.client.Configuration()
        configuration.host, configuration.ssl_ca_cert = server.url, str(authority)
        configuration.api_key = {"BearerToken": f"Bearer {token}"}
        opened.append(kubernetes.client.ApiClient(configuration))
        return opened[-1]

    yield ask
    for client in opened:
        client.close()
        client.rest_client.pool_manager.clear()  # close() leaves idle connections open


def create_token(server, account: str, *arguments: str) -> str:
    done = server.kubectl("create", "token", account, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def payload(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


# kubectl


def test_kubectl_knows_who_it_is(server):
    assert b"kubernetes-admin" in server.kubectl("auth", "whoami").stdout
    assumed = server.kubectl("auth", "whoami", "--as", "jane", "--as-group", "devs", "-o", "json")
    info = json.loads(assumed.stdout)["status"]["userInfo"]
    assert (info["username"], info["groups"]) == ("jane", ["devs", "system:authenticated"])


def test_kubectl_asks_whether_it_may(server, reader):
    assert server.kubectl("auth", "can-i", "delete", "nodes").stdout == b"yes\n"
    assert server.kubectl("auth", "can-i", "list", "pods", "--as", reader).stdout == b"yes\n"
    assert server.kubectl("auth", "can-i", "delete", "pods", "--as", reader).stdout == b"no\n"
    assert server.kubectl("auth", "can-i", "list", "pods", "-n", "kube-system", "--as", reader).stdout == b"no\n"
    assert server.kubectl("auth", "can-i", "get", "/apis", "--as", reader).stdout == b"yes\n"


def test_kubectl_lists_what_an_account_may(server, reader):
    listed = server.kubectl("auth", "can-i", "--list", "--as", reader).stdout.decode()

    assert any(line.split()[0] == "pods" and "get list" in line for line in listed.splitlines())
    assert "selfsubjectaccessreviews.authorization.k8s.io" in listed


def test_an_accounts_token_may_what_its_rules_say(server, reader):
    token = create_token(server, "reader")

    # An empty kubeconfig: a bearer token beside the administrator's would be dropped for it.
    server.folder.joinpath("empty").write_text("{}")
    authority = server.folder / "who.crt"
    authority.write_bytes(server.authority_pem)
    common = ("--server", server.url, "--certificate-authority", str(authority), "--token", token)
    allowed = server.kubectl("--kubeconfig", str(server.folder / "empty"), *common, "get", "pods", "-o", "name")
    denied = server.kubectl("--kubeconfig", str(server.folder / "empty"), *common, "get", "secrets")

    assert allowed.stdout == b"pod/web\n"
    assert b'User "system:serviceaccount:default:reader" cannot list resource "secrets"' in denied.stderr


def test_a_wrong_token_is_unauthorized_and_never_anonymous(server, asking):
    with pytest.raises(kubernetes.client.ApiException) as caught:
        kubernetes.client.CoreV1Api(asking("nonsense")).list_namespaced_pod("default")

    assert caught.value.status == 401


def test_without_a_token_only_health_and_version_are_public(server):
    import ssl
    import urllib.request

    context = ssl.create_default_context(cadata=server.authority_pem.decode())
    with urllib.request.urlopen(f"{server.url}/version", context=context) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.url}/api/v1/pods", context=context)
    assert caught.value.code == 403
    caught.value.close()


def test_impersonation_needs_its_own_right(server, reader, asking):
    client = asking(create_token(server, "reader"))
    client.set_default_header("Impersonate-User", "jane")

    with pytest.raises(kubernetes.client.ApiException) as caught:
        kubernetes.client.CoreV1Api(client).list_namespaced_pod("default")

    assert caught.value.status == 403
    assert 'cannot impersonate resource \\"users\\"' in caught.value.body


@pytest.mark.parametrize(
    ("headers", "code", "why"),
    [
        ({"Impersonate-User": "system:serviceaccount:default:reader"}, 200, ""),
        ({"Impersonate-User": "system:serviceaccount:default:other"}, 403, "serviceaccounts"),
        ({"Impersonate-User": "jane"}, 403, "users"),
        ({"Impersonate-User": "system:serviceaccount:default:reader", "Impersonate-Group": "devs"}, 403, "groups"),
        ({"Impersonate-Group": "devs"}, 400, "Impersonate-User"),
    ],
)
def test_an_account_may_assume_exactly_whom_its_rules_name(server, reader, assuming, asking, headers, code, why):
    client = asking(create_token(server, assuming))
    for name, value in headers.items():
        client.set_default_header(name, value)
    api = kubernetes.client.CoreV1Api(client)

    if code == 200:
        assert [pod.metadata.name for pod in api.list_namespaced_pod("default").items] == ["web"]
        return
    with pytest.raises(kubernetes.client.ApiException) as caught:
        api.list_namespaced_pod("default")
    assert caught.value.status == code
    assert why in caught.value.body


@pytest.fixture(scope="module")
def assuming(server):
    """The service account `assumer`, which may impersonate the account `reader` and nobody else."""
    rule = {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"], "resourceNames": ["reader"]}
    place = {"name": "assumer", "namespace": "default"}
    server.create("serviceaccounts", {"metadata": place})
    server.create("roles", {"metadata": place, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "assumer"}
    subjects = [{"kind": "ServiceAccount", **place}]
    server.create("rolebindings", {"metadata": place, "roleRef": reference, "subjects": subjects})
    return "assumer"


# tokens


def test_a_token_has_the_life_and_audience_that_were_asked_for(server, reader):
    claims = payload(create_token(server, "reader", "--audience", "identity.tulle.mesh", "--duration", "20m"))

    assert claims["aud"] == ["identity.tulle.mesh"]
    assert claims["exp"] - claims["iat"] == 1200
    assert claims["sub"] == "system:serviceaccount:default:reader"
    assert claims["kubernetes.io"]["serviceaccount"]["name"] == "reader"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("ghost",), b'serviceaccounts "ghost" not found'),
        (("reader", "--duration", "1m"), b"may not specify a duration less than 10 minutes"),
        (("reader", "--bound-object-kind", "Pod", "--bound-object-name", "ghost"), b'pods "ghost" not found'),
        (("reader", "--bound-object-kind", "Pod", "--bound-object-name", "web"), b"it runs as another"),
    ],
)
def test_a_token_that_cannot_be_is_refused_with_the_reason(server, reader, arguments, why):
    done = server.kubectl("create", "token", *arguments)

    assert done.returncode == 1
    assert why in done.stderr


def test_a_token_review_checks_the_audience(server, reader, asking):
    token = create_token(server, "reader", "--audience", "identity.tulle.mesh")
    api = kubernetes.client.AuthenticationV1Api(asking(server.admin_token))

    def review(audiences):
        spec = kubernetes.client.V1TokenReviewSpec(token=token, audiences=audiences)
        return api.create_token_review(kubernetes.client.V1TokenReview(spec=spec)).status

    right, wrong, ours = review(["x", "identity.tulle.mesh"]), review(["x"]), review(None)
    assert (right.authenticated, right.audiences) == (True, ["identity.tulle.mesh"])
    assert right.user.username == "system:serviceaccount:default:reader"
    assert right.user.groups == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    assert (wrong.authenticated or False, "audience" in wrong.error) == (False, True)
    assert (ours.authenticated or False, "audience" in ours.error) == (False, True)


def test_a_token_of_the_api_server_itself_names_its_audience(server, reader, asking):
    api = kubernetes.client.AuthenticationV1Api(asking(server.admin_token))
    spec = kubernetes.client.V1TokenReviewSpec(token=create_token(server, "reader"))

    status = api.create_token_review(kubernetes.client.V1TokenReview(spec=spec)).status

    assert (status.authenticated, status.audiences) == (True, [ISSUER])


def test_a_bound_token_dies_with_its_pod(server, reader, asking):
    made = {"metadata": {"name": "bound", "namespace": "default"}}
    made["spec"] = {"serviceAccountName": "reader", "containers": [{"name": "a", "image": "none"}]}
    server.create("pods", made)
    token = create_token(server, "reader", "--bound-object-kind", "Pod", "--bound-object-name", "bound")
    api = kubernetes.client.CoreV1Api(asking(token))
    api.list_namespaced_pod("default")
    server.loop.run(server.registry.delete("pods", "default", "bound", grace_s=0))

    with pytest.raises(kubernetes.client.ApiException) as caught:
        api.list_namespaced_pod("default")

    assert caught.value.status == 401
    assert "gone" in caught.value.body


def test_a_token_dies_with_its_account_even_if_one_of_that_name_comes_back(server, asking):
    item = {"metadata": {"name": "brief", "namespace": "default"}}
    server.create("serviceaccounts", item)
    token = create_token(server, "brief")
    server.loop.run(server.registry.delete("serviceaccounts", "default", "brief"))
    server.create("serviceaccounts", item)

    with pytest.raises(kubernetes.client.ApiException) as caught:
        kubernetes.client.CoreV1Api(asking(token)).list_namespaced_pod("default")

    assert caught.value.status == 401


# access reviews


def test_a_subject_access_review_answers_for_another(server, reader, asking):
    api = kubernetes.client.AuthorizationV1Api(asking(server.admin_token))

    def may(verb, **fields):
        attributes = kubernetes.client.V1ResourceAttributes(verb=verb, resource="pods", **fields)
        spec = kubernetes.client.V1SubjectAccessReviewSpec(user=reader, resource_attributes=attributes)
        review = kubernetes.client.V1SubjectAccessReview(spec=spec)
        return api.create_subject_access_review(review).status

    assert may("list", namespace="default").allowed is True
    assert 'RoleBinding "pods/default" of Role "pods"' in may("list", namespace="default").reason
    assert may("list", namespace="kube-system").allowed is False
    assert may("list").allowed is False


@pytest.mark.parametrize(
    ("kind", "spec", "why"),
    [
        ("SubjectAccessReview", {"user": "x"}, "exactly one of"),
        ("SubjectAccessReview", {"resourceAttributes": {"verb": "get"}}, "at least one of user or groups"),
        ("SelfSubjectAccessReview", {}, "exactly one of"),
        ("SelfSubjectRulesReview", {}, "spec.namespace"),
    ],
)
def test_a_review_that_asks_nothing_is_refused_by_field(server, tmp_path, kind, spec, why):
    path = tmp_path / "review.json"
    path.write_text(json.dumps({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}))

    done = server.kubectl("create", "--validate=false", "-f", str(path))

    assert done.returncode == 1
    assert why.encode() in done.stderr


def test_a_token_review_is_not_for_everybody(server, reader, asking):
    api = kubernetes.client.AuthenticationV1Api(asking(create_token(server, "reader")))
    spec = kubernetes.client.V1TokenReviewSpec(token="x")

    with pytest.raises(kubernetes.client.ApiException) as caught:
        api.create_token_review(kubernetes.client.V1TokenReview(spec=spec))

    assert caught.value.status == 403


def test_an_auth_delegator_may_review_tokens(server, asking):
    server.create("serviceaccounts", {"metadata": {"name": "delegate", "namespace": "default"}})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"}
    subjects = [{"kind": "ServiceAccount", "name": "delegate", "namespace": "default"}]
    server.create("clusterrolebindings", {"metadata": {"name": "d"}, "roleRef": reference, "subjects": subjects})
    api = kubernetes.client.AuthenticationV1Api(asking(create_token(server, "delegate")))
    spec = kubernetes.client.V1TokenReviewSpec(token="x")

    status = api.create_token_review(kubernetes.client.V1TokenReview(spec=spec)).status

    assert status.error == "Unauthorized: the token is no JSON Web Token"


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("authentication.k8s.io/v1/tokenreviews", {"token": 5}),
        ("authentication.k8s.io/v1/tokenreviews", {"token": "x", "audiences": "y"}),
        ("authentication.k8s.io/v1/tokenreviews", "x"),
        ("authentication.k8s.io/v1/tokenreviews", {}),
        ("authorization.k8s.io/v1/subjectaccessreviews", {"user": "x", "resourceAttributes": "y"}),
        ("authorization.k8s.io/v1/subjectaccessreviews", {"user": ["x"], "resourceAttributes": {"verb": "get"}}),
        ("authorization.k8s.io/v1/subjectaccessreviews", {"user": "x", "nonResourceAttributes": 1}),
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", {"resourceAttributes": {"verb": {"a": 1}}}),
        ("authorization.k8s.io/v1/selfsubjectrulesreviews", {"namespace": 1}),
        ("token", {"expirationSeconds": "soon"}),
        ("token", {"audiences": "x"}),
        ("token", {"boundObjectRef": "x"}),
        ("token", {"boundObjectRef": {"kind": "Node", "name": "x"}}),
    ],
)
def test_a_malformed_review_is_the_callers_fault(server, path, spec):
    import ssl
    import urllib.request

    url = f"{server.url}/apis/{path}"
    if path == "token":
        url = f"{server.url}/api/v1/namespaces/default/serviceaccounts/default/token"
    request = urllib.request.Request(url, json.dumps({"spec": spec}).encode(), method="POST")
    request.add_header("Authorization", f"Bearer {server.admin_token}")
    request.add_header("Content-Type", "application/json")
    context = ssl.create_default_context(cadata=server.authority_pem.decode())

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, context=context)

    told = json.loads(caught.value.read())
    caught.value.close()
    assert caught.value.code in (400, 422), told
    assert "spec" in told["message"]
