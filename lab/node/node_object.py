"""The Node object, its heartbeat and its one-line scheduler's question. Pure."""

import os
from datetime import datetime

from .addresses import NODE_V4, NODE_V6, POD_NETWORK_V4, POD_NETWORK_V6
from .endpoints import Object
from .environment import NodeFacts
from .status import text

LEASE_S = 40
HEARTBEAT_S = 10.0
PODS_COUNT = 250


def facts(name: str) -> NodeFacts:
    """What the machine has; the lab does not divide it."""
    memory_kib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    return NodeFacts(name, NODE_V4, NODE_V6, str(os.cpu_count() or 1), f"{memory_kib}Ki")


def node(known: NodeFacts, version: str, now: datetime, *, ready: bool) -> Object:
    """The whole object, status included."""
    machine = os.uname()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine)
    capacity = {"cpu": known.cpu, "memory": known.memory, "pods": str(PODS_COUNT)}
    labels = {
        "kubernetes.io/hostname": known.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": known.name, "labels": labels},
        "spec": {"podCIDR": str(POD_NETWORK_V4), "podCIDRs": [str(POD_NETWORK_V4), str(POD_NETWORK_V6)]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": known.address},
                {"type": "InternalIP", "address": known.address_v6},
                {"type": "Hostname", "address": known.name},
            ],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions(now, since=now, ready=ready),
            "nodeInfo": {
                "architecture": architecture,
                "operatingSystem": "linux",
                "kernelVersion": machine.release,
                "osImage": "this machine",
                "containerRuntimeVersion": "lab://1",
                "kubeletVersion": version,
                "kubeProxyVersion": version,
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    }


def conditions(now: datetime, *, since: datetime, ready: bool) -> list[Object]:
    times = {"lastHeartbeatTime": text(now), "lastTransitionTime": text(since)}
    return [
        {
            "type": "Ready",
            "status": "True" if ready else "False",
            "reason": "LabReady" if ready else "LabStarting",
            "message": "the lab's node runs pods" if ready else "the lab's node is starting",
            **times,
        }
    ]


def lease(name: str, now: datetime) -> Object:
    """The heartbeat in kube-node-lease."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_S,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }


def why_not_here(pod: Object, labels: dict[str, str]) -> str:
    """Why the pod cannot run on the lab's only node; empty where it can."""
    wanted = pod["spec"].get("nodeSelector") or {}
    missing = [f"{key}={value}" for key, value in sorted(wanted.items()) if labels.get(key) != value]
    if missing:
        return f"0/1 nodes are available: the lab's only node has no label {', '.join(missing)}"
    return ""
