"""The real kubectl against the real server: what people type, and what they then see."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: %(name)s, labels: {app: %(name)s}}
spec:
  replicas: 2
  selector: {matchLabels: {app: %(name)s}}
  template:
    metadata: {labels: {app: %(name)s}}
    spec:
      containers:
      - {name: c, image: "web:1", command: [sleep, "1"], ports: [{containerPort: 80}]}
"""


def deployment(name: str) -> str:
    return DEPLOYMENT % {"name": name}


def test_a_second_apply_changes_nothing_and_a_changed_one_merges(server: Any) -> None:
    server.kubectl("apply", "-f", "-", given=deployment("web"))
    assert "unchanged" in server.kubectl("apply", "-f", "-", given=deployment("web"))
    server.kubectl("set", "env", "deploy/web", "A=B")
    changed = deployment("web").replace("web:1", "web:2")
    assert "configured" in server.kubectl("apply", "-f", "-", given=changed)
    container = server.kubectl_json("get", "deploy", "web")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "web:2"
    assert container["env"] == [{"name": "A", "value": "B"}]


def test_an_apply_removes_what_its_file_no_longer_says(server: Any) -> None:
    server.kubectl("apply", "-f", "-", given=deployment("less"))
    server.kubectl("apply", "-f", "-", given=deployment("less").replace('command: [sleep, "1"], ', ""))
    assert "command" not in server.kubectl_json("get", "deploy", "less")["spec"]["template"]["spec"]["containers"][0]


def test_a_diff_shows_what_an_apply_would_do(server: Any) -> None:
    server.kubectl("apply", "-f", "-", given=deployment("differ"))
    changed = deployment("differ").replace("replicas: 2", "replicas: 5")
    home = server.kubeconfig.parent
    from_server = subprocess.run(
        [*server.command, "diff", "-f", "-"],
        input=changed,
        capture_output=True,
        text=True,
        timeout=30,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert from_server.returncode == 1
    assert "-  replicas: 2" in from_server.stdout
    assert "+  replicas: 5" in from_server.stdout
    assert server.kubectl_json("get", "deploy", "differ")["spec"]["replicas"] == 2


TYPED = [
    ("namespace", "typed"),
    ("serviceaccount", "bot"),
    ("configmap", "c", "--from-literal=a=b"),
    ("secret", "generic", "s", "--from-literal=a=b"),
    ("deployment", "d", "--image=x:1", "--port=80", "--replicas=2"),
    ("service", "clusterip", "s", "--tcp=80:8080"),
    ("job", "j", "--image=x", "--", "sleep", "1"),
    ("role", "r", "--verb=get", "--resource=pods"),
    ("rolebinding", "rb", "--role=r", "--serviceaccount=typed:bot"),
    ("clusterrole", "cr", "--verb=get,list", "--resource=pods"),
    ("clusterrolebinding", "crb", "--clusterrole=cr", "--user=u"),
]


@pytest.mark.parametrize("words", TYPED, ids=lambda words: words[0])
def test_typed_creates_arrive_as_protobuf(server: Any, words: tuple[str, ...]) -> None:
    assert "created" in server.kubectl("create", *words)


def test_what_arrived_as_protobuf_is_what_was_asked(server: Any) -> None:
    server.kubectl("create", "deployment", "wire", "--image=x:1", "--port=8080", "--replicas=0")
    spec = server.kubectl_json("get", "deploy", "wire")["spec"]
    assert spec["replicas"] == 0
    assert spec["selector"] == {"matchLabels": {"app": "wire"}}
    container = spec["template"]["spec"]["containers"][0]
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]


def test_server_side_apply_owns_fields_and_refuses_to_take_them(server: Any) -> None:
    server.kubectl("apply", "--server-side", "-f", "-", given=deployment("owned"))
    server.kubectl("scale", "deploy/owned", "--replicas=7")
    refusal = server.kubectl("apply", "--server-side", "-f", "-", given=deployment("owned"), fails=True)
    assert ".spec.replicas" in refusal
    server.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=deployment("owned"))
    assert server.kubectl_json("get", "deploy", "owned")["spec"]["replicas"] == 2
    less = deployment("owned").replace('command: [sleep, "1"], ', "")
    server.kubectl("apply", "--server-side", "-f", "-", given=less)
    container = server.kubectl_json("get", "deploy", "owned")["spec"]["template"]["spec"]["containers"][0]
    assert "command" not in container


def test_server_side_apply_takes_over_from_client_side_apply(server: Any) -> None:
    server.kubectl("apply", "-f", "-", given=deployment("moved"))
    server.kubectl("apply", "--server-side", "-f", "-", given=deployment("moved"))
    less = deployment("moved").replace('command: [sleep, "1"], ', "")
    server.kubectl("apply", "--server-side", "-f", "-", given=less)
    container = server.kubectl_json("get", "deploy", "moved")["spec"]["template"]["spec"]["containers"][0]
    assert "command" not in container


BAD_PODS = [
    ("{containers: [{name: a, imag: b}]}", 'unknown field "spec.containers[0].imag"'),
    ("{containers: [{name: a, image: b}], terminationGracePeriodSeconds: x}", "terminationGracePeriodSeconds"),
    ("{containers: [{name: a}]}", "spec.containers[0].image: Required value"),
    ("{containers: []}", "spec.containers: Required value"),
    ("{containers: [{name: a, image: b}, {name: a, image: b}]}", 'Duplicate value: "a"'),
    ("{containers: [{name: a, image: b, ports: [{containerPort: 99999}]}]}", "between 1 and 65535"),
    ("{containers: [{name: a, image: b, volumeMounts: [{name: v, mountPath: /v}]}]}", 'Not found: "v"'),
]


@pytest.mark.parametrize(("spec", "words"), BAD_PODS)
def test_a_bad_pod_is_refused_with_the_field(server: Any, spec: str, words: str) -> None:
    manifest = f"{{apiVersion: v1, kind: Pod, metadata: {{name: bad}}, spec: {spec}}}"
    assert words in server.kubectl("apply", "-f", "-", given=manifest, fails=True)
    assert "not found" in server.kubectl("get", "pod", "bad", fails=True)


def test_what_the_lab_lacks_is_refused_by_name(server: Any) -> None:
    body = deployment("sts").replace("Deployment", "StatefulSet").replace("replicas: 2", "serviceName: x")
    refusal = server.kubectl("create", "-f", "-", given=body, fails=True)
    assert "the lab does not implement StatefulSet objects" in refusal
    assert server.kubectl_json("get", "statefulsets")["items"] == []


def test_tables_have_the_columns_people_know(server: Any) -> None:
    server.kubectl("run", "shown", "--image=x", "--labels=a=b")
    header, line = server.kubectl("get", "pod", "shown").splitlines()
    assert ["NAME", "READY", "STATUS", "RESTARTS", "AGE"] == header.split()
    assert ["shown", "0/1", "Pending", "0"] == line.split()[:4]
    wide = server.kubectl("get", "pod", "shown", "-o", "wide").splitlines()[0]
    assert "NODE" in wide
    assert "NOMINATED NODE" in wide
    assert "a=b" in server.kubectl("get", "pods", "--show-labels")
    server.kubectl("create", "deployment", "listed", "--image=x")
    assert "UP-TO-DATE" in server.kubectl("get", "deployments")
    server.kubectl("create", "service", "clusterip", "listed", "--tcp=80")
    assert "CLUSTER-IP" in server.kubectl("get", "services")


def test_labels_annotations_and_selectors(server: Any) -> None:
    server.kubectl("create", "configmap", "marked")
    server.kubectl("label", "configmap", "marked", "tier=front")
    server.kubectl("annotate", "configmap", "marked", "note=x")
    assert server.kubectl("get", "cm", "-l", "tier in (front,back)", "-o", "name") == "configmap/marked\n"
    assert server.kubectl("get", "cm", "-l", "tier=front,!note", "-o", "name") == "configmap/marked\n"
    assert server.kubectl("get", "cm", "--field-selector=metadata.name=marked", "-o", "name") == "configmap/marked\n"
    server.kubectl("label", "configmap", "marked", "tier-")
    assert server.kubectl("get", "cm", "-l", "tier", "-o", "name") == ""


def test_every_kind_of_patch(server: Any) -> None:
    server.kubectl("create", "deployment", "patched", "--image=x:1")
    server.kubectl("patch", "deploy", "patched", "--type=merge", "-p", '{"spec":{"replicas":4}}')
    server.kubectl(
        "patch", "deploy", "patched", "--type=json", "-p", '[{"op":"test","path":"/spec/replicas","value":4}]'
    )
    strategic = {"spec": {"template": {"spec": {"containers": [{"name": "x", "workingDir": "/w"}]}}}}
    server.kubectl("patch", "deploy", "patched", "-p", json.dumps(strategic))
    container = server.kubectl_json("get", "deploy", "patched")["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["workingDir"]) == ("x:1", "/w")


def test_a_replace_with_a_stale_version_is_refused(server: Any) -> None:
    server.kubectl("create", "configmap", "raced", "--from-literal=a=1")
    stale = server.kubectl_json("get", "cm", "raced")
    server.kubectl("patch", "cm", "raced", "-p", '{"data":{"a":"2"}}')
    assert "the object has been modified" in server.kubectl("replace", "-f", "-", given=json.dumps(stale), fails=True)


def test_an_immutable_field_is_refused(server: Any) -> None:
    server.kubectl("create", "deployment", "fixed", "--image=x")
    patch = '{"spec":{"selector":{"matchLabels":{"app":"other"}},"template":{"metadata":{"labels":{"app":"other"}}}}}'
    refusal = server.kubectl("patch", "deploy", "fixed", "-p", patch, fails=True)
    assert "spec.selector" in refusal
    assert "field is immutable" in refusal


def test_a_dry_run_stores_nothing(server: Any) -> None:
    server.kubectl("create", "configmap", "never", "--dry-run=server")
    assert "not found" in server.kubectl("get", "cm", "never", fails=True)


def test_get_watch_prints_changes(server: Any) -> None:
    server.kubectl("create", "configmap", "watched")
    home = server.kubeconfig.parent
    process = subprocess.Popen(
        [*server.command, "get", "cm", "watched", "-w"], stdout=subprocess.PIPE, text=True, env={"HOME": str(home)}
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().split() == ["NAME", "DATA", "AGE"]
        assert process.stdout.readline().split()[:2] == ["watched", "0"]
        server.kubectl("patch", "cm", "watched", "-p", '{"data":{"a":"1"}}')
        assert process.stdout.readline().split()[:2] == ["watched", "1"]
    finally:
        process.kill()
        process.communicate()


def test_wait_and_rollout_status_watch_until_it_is_so(server: Any) -> None:
    server.kubectl("create", "deployment", "rolled", "--image=x", "--replicas=1")
    home = server.kubeconfig.parent
    waits = [
        subprocess.Popen(
            [*server.command, *words, "--timeout=20s"], stdout=subprocess.PIPE, text=True, env={"HOME": str(home)}
        )
        for words in (["rollout", "status", "deploy/rolled"], ["wait", "--for=condition=Available", "deploy/rolled"])
    ]
    time.sleep(0.3)
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    condition = {"type": "Available", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status |= {"conditions": [condition | {"reason": "x", "message": "y", "lastUpdateTime": "2026-01-01T00:00:00Z"}]}
    patch = json.dumps({"status": status})
    server.kubectl("patch", "deploy", "rolled", "--subresource=status", "--type=merge", "-p", patch)
    said = [process.communicate(timeout=20)[0] for process in waits]
    assert [0, 0] == [process.returncode for process in waits]
    assert "successfully rolled out" in said[0]
    assert "condition met" in said[1]


def test_status_and_spec_each_keep_to_their_own_path(server: Any) -> None:
    server.kubectl("create", "deployment", "split", "--image=x", "--replicas=1")
    both = '{"spec":{"replicas":3},"status":{"replicas":9}}'
    server.kubectl("patch", "deploy", "split", "--type=merge", "-p", both)
    found = server.kubectl_json("get", "deploy", "split")
    assert (found["spec"]["replicas"], found.get("status", {})) == (3, {})
    server.kubectl("patch", "deploy", "split", "--subresource=status", "--type=merge", "-p", both.replace("3", "5"))
    found = server.kubectl_json("get", "deploy", "split")
    assert (found["spec"]["replicas"], found["status"]) == (3, {"replicas": 9})
    assert found["metadata"]["generation"] == 2


def test_a_finalizer_holds_an_object_until_it_is_gone(server: Any) -> None:
    server.kubectl("create", "configmap", "held")
    server.kubectl("patch", "cm", "held", "--type=merge", "-p", '{"metadata":{"finalizers":["example.com/hold"]}}')
    server.kubectl("delete", "cm", "held", "--wait=false")
    assert "deletionTimestamp" in server.kubectl_json("get", "cm", "held")["metadata"]
    server.kubectl("patch", "cm", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "not found" in server.kubectl("get", "cm", "held", fails=True)


def test_explain_reads_the_published_schemas(server: Any) -> None:
    text = server.kubectl("explain", "deployment.spec.strategy")
    assert "Type of deployment" in text
    assert "rollingUpdate" in text


def test_discovery_names_kinds_and_short_names(server: Any) -> None:
    lines = server.kubectl("api-resources").splitlines()
    assert any(line.split()[:3] == ["deployments", "deploy", "apps/v1"] for line in lines)
    assert "apiextensions.k8s.io/v1" in server.kubectl("api-versions").split()


def test_events_are_listed_in_both_versions(server: Any) -> None:
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "x"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": about}
    event |= {"message": "it happened", "reason": "Happened", "type": "Normal", "count": 2}
    server.kubectl("create", "-f", "-", given=json.dumps(event))
    assert "it happened" in server.kubectl("get", "events")
    assert "it happened" in server.kubectl("events", "--for=pod/x")
    newer = json.loads(server.kubectl("get", "--raw", "/apis/events.k8s.io/v1/namespaces/default/events/e"))
    assert (newer["note"], newer["regarding"]["name"], newer["deprecatedCount"]) == ("it happened", "x", 2)


def test_a_namespace_is_terminating_until_it_is_finalized(server: Any) -> None:
    server.kubectl("create", "namespace", "leaving")
    server.kubectl("delete", "namespace", "leaving", "--wait=false")
    found = server.kubectl_json("get", "namespace", "leaving")
    assert (found["status"]["phase"], found["spec"]["finalizers"]) == ("Terminating", ["kubernetes"])
    refusal = server.kubectl("create", "configmap", "late", "-n", "leaving", fails=True)
    assert "because it is being terminated" in refusal
    found["spec"]["finalizers"] = []
    server.kubectl("replace", "--raw", "/api/v1/namespaces/leaving/finalize", "-f", "-", given=json.dumps(found))
    assert "not found" in server.kubectl("get", "namespace", "leaving", fails=True)


def test_thirty_objects_are_applied_at_kubectls_own_pace(server: Any) -> None:
    given = "---\n".join(
        f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: many-{n}}}, data: {{a: b}}}}\n" for n in range(30)
    )
    started = time.monotonic()
    server.kubectl("apply", "-f", "-", given=given)
    assert time.monotonic() - started < 3
