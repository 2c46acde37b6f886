"""The cells of `kubectl get` that are more than one field: (object, now) to what is printed. Pure.

Each public function is named in lab/data/columns.txt. Source: what kubectl users see on real clusters.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lab.api import age as ages
from lab.api.selectors import at

Object = dict[str, Any]
Cell = str | int | float | bool | None

NONE = "<none>"


def age(item: Object, now: datetime) -> Cell:
    return ages.since(item["metadata"].get("creationTimestamp"), now)


# Workloads.


def _template_containers(owner: Object) -> list[Object]:
    return at(owner, "spec.template.spec.containers") or []


def containers(owner: Object, _now: datetime) -> Cell:
    return ",".join(item["name"] for item in _template_containers(owner))


def images(owner: Object, _now: datetime) -> Cell:
    return ",".join(item.get("image", "") for item in _template_containers(owner))


def selector(owner: Object, _now: datetime) -> Cell:
    chosen = at(owner, "spec.selector") or {}
    parts = [f"{key}={value}" for key, value in sorted((chosen.get("matchLabels") or {}).items())]
    for item in chosen.get("matchExpressions") or []:
        values = f" ({','.join(item.get('values') or [])})" if item.get("values") else ""
        parts.append(f"{item['key']} {item['operator'].lower()}{values}")
    return ",".join(parts) or NONE


def ready_of_wanted(owner: Object, _now: datetime) -> Cell:
    return f"{at(owner, 'status.readyReplicas') or 0}/{at(owner, 'spec.replicas') or 0}"


def wanted_count(owner: Object, _now: datetime) -> Cell:
    return at(owner, "spec.replicas") or 0


def current_count(owner: Object, _now: datetime) -> Cell:
    return at(owner, "status.replicas") or 0


def ready_count(owner: Object, _now: datetime) -> Cell:
    return at(owner, "status.readyReplicas") or 0


def updated_count(owner: Object, _now: datetime) -> Cell:
    return at(owner, "status.updatedReplicas") or 0


def available_count(owner: Object, _now: datetime) -> Cell:
    return at(owner, "status.availableReplicas") or 0


def job_status(job: Object, _now: datetime) -> Cell:
    met = {item["type"] for item in at(job, "status.conditions") or [] if item.get("status") == "True"}
    for condition, word in (("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")):
        if condition in met:
            return word
    return "Terminating" if "deletionTimestamp" in job["metadata"] else "Running"


def job_completions(job: Object, _now: datetime) -> Cell:
    wanted, done = at(job, "spec.completions"), at(job, "status.succeeded") or 0
    if wanted is not None:
        return f"{done}/{wanted}"
    parallel = at(job, "spec.parallelism") or 1
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def job_duration(job: Object, now: datetime) -> Cell:
    start, end = ages.parsed(at(job, "status.startTime")), ages.parsed(at(job, "status.completionTime"))
    return ages.human(((end or now) - start).total_seconds()) if start else ""


# Services.


def cluster_ip(service: Object, _now: datetime) -> Cell:
    return at(service, "spec.clusterIP") or NONE


def external_ip(service: Object, _now: datetime) -> Cell:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", NONE))
    given = [item.get("ip") or item.get("hostname") for item in at(service, "status.loadBalancer.ingress") or []]
    addresses = [*given, *(spec.get("externalIPs") or [])]
    if addresses:
        return ",".join(addresses)
    return "<pending>" if spec.get("type") == "LoadBalancer" else NONE


def service_ports(service: Object, _now: datetime) -> Cell:
    ports = at(service, "spec.ports") or []
    shown = [f"{port['port']}{_node_port(port)}/{port.get('protocol', 'TCP')}" for port in ports]
    return ",".join(shown) or NONE


def _node_port(port: Object) -> str:
    return f":{port['nodePort']}" if port.get("nodePort") else ""


def service_selector(service: Object, _now: datetime) -> Cell:
    return ",".join(f"{key}={value}" for key, value in sorted((at(service, "spec.selector") or {}).items())) or NONE


def slice_ports(endpoint_slice: Object, _now: datetime) -> Cell:
    return _some([str(port.get("port", "*")) for port in endpoint_slice.get("ports") or []], "<unset>")


def slice_endpoints(endpoint_slice: Object, _now: datetime) -> Cell:
    endpoints = endpoint_slice.get("endpoints") or []
    return _some([address for item in endpoints for address in item.get("addresses") or []], "<unset>")


def _some(values: list[str], nothing: str) -> str:
    if len(values) <= 3:
        return ",".join(values) or nothing
    return f"{','.join(values[:3])} + {len(values) - 3} more..."


# Nodes.


def node_status(node: Object, _now: datetime) -> Cell:
    ready = [item for item in at(node, "status.conditions") or [] if item.get("type") == "Ready"]
    word = "Unknown" if not ready else "Ready" if ready[0].get("status") == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if at(node, "spec.unschedulable") else word


def node_roles(node: Object, _now: datetime) -> Cell:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))) or NONE


def internal_ip(node: Object, _now: datetime) -> Cell:
    return _address(node, "InternalIP")


def node_external_ip(node: Object, _now: datetime) -> Cell:
    return _address(node, "ExternalIP")


def _address(node: Object, kind: str) -> str:
    found = [item["address"] for item in at(node, "status.addresses") or [] if item.get("type") == kind]
    return found[0] if found else NONE


# The small kinds.


def data_count(item: Object, _now: datetime) -> Cell:
    return len(item.get("data") or {}) + len(item.get("binaryData") or {})


def secrets_count(account: Object, _now: datetime) -> Cell:
    return len(account.get("secrets") or [])


def webhooks_count(configuration: Object, _now: datetime) -> Cell:
    return len(configuration.get("webhooks") or [])


def role_ref(binding: Object, _now: datetime) -> Cell:
    return f"{at(binding, 'roleRef.kind')}/{at(binding, 'roleRef.name')}"


def _subjects(binding: Object, kind: str) -> list[Object]:
    return [item for item in binding.get("subjects") or [] if item.get("kind") == kind]


def users(binding: Object, _now: datetime) -> Cell:
    return ", ".join(item["name"] for item in _subjects(binding, "User"))


def groups(binding: Object, _now: datetime) -> Cell:
    return ", ".join(item["name"] for item in _subjects(binding, "Group"))


def accounts(binding: Object, _now: datetime) -> Cell:
    return ", ".join(f"{item.get('namespace', '')}/{item['name']}" for item in _subjects(binding, "ServiceAccount"))


# Events.


def last_seen(event: Object, now: datetime) -> Cell:
    moment = at(event, "series.lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return ages.since(moment or event["metadata"].get("creationTimestamp"), now)


def first_seen(event: Object, now: datetime) -> Cell:
    moment = event.get("firstTimestamp") or event.get("eventTime")
    return ages.since(moment or event["metadata"].get("creationTimestamp"), now)


def event_object(event: Object, _now: datetime) -> Cell:
    about = event.get("involvedObject") or {}
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def event_source(event: Object, _now: datetime) -> Cell:
    source = event.get("source") or {}
    parts = [source.get("component") or event.get("reportingComponent") or "", source.get("host") or ""]
    return ", ".join(part for part in parts if part)


def event_message(event: Object, _now: datetime) -> Cell:
    return str(event.get("message", "")).strip()


def event_count(event: Object, _now: datetime) -> Cell:
    return at(event, "series.count") or event.get("count") or 1
