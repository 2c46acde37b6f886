"""Services for the end-to-end tests of policies: each with a policy of its own, all leading to the same pods."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.conftest import Cluster, Labels

Samples = dict[str, list[tuple[str, Labels, float]]]

GENEROUS = {"percent": 100, "minPerSecond": 100}
TURNS = {"algorithm": "RoundRobin"}
ON_503 = {"limit": 2, "retryOn": {"statusCodes": [503]}, "backoff": {"min": "5ms"}}
ON_UNAVAILABLE = {"retryOn": {"grpcStatuses": ["unavailable"]}, "backoff": {"min": "5ms"}}

POLICIES: dict[str, dict[str, Any]] = {
    "retried": {"retries": ON_503, "retryBudget": GENEROUS},
    "thrifty": {"retries": ON_503, "retryBudget": {"percent": 10, "minPerSecond": 0}},
    "impatient": {
        "timeouts": {"perTry": "250ms"},
        "retries": {"retryOn": {"reset": True}},
        "retryBudget": GENEROUS,
    },
    "timed": {"timeouts": {"request": "300ms"}},
    "api": {"timeouts": {"request": "1s"}},
    "hedged": {"hedging": {"delay": "60ms"}, "retryBudget": GENEROUS, "loadBalancing": TURNS},
    "broken": {
        "circuitBreaker": {"consecutiveFailures": 3, "ejection": {"min": "3s"}},
        "loadBalancing": TURNS,
    },
    "narrow": {"concurrency": {"service": {"limit": 1, "queue": 1, "queueTimeout": "200ms"}}},
    "limited": {"rateLimit": {"service": {"requestsPerSecond": 0.1, "burst": 3}}},
    "db": {"rateLimit": {"client": {"requestsPerSecond": 1000}}},
    "fair": {"rateLimit": {"client": {"requestsPerSecond": 0.1, "burst": 3}}},
    "watched": {"mirror": {"backendRef": {"name": "next", "port": 8000}}},
    "turns": {"loadBalancing": TURNS},
    "ring": {"loadBalancing": {"algorithm": "RingHash", "hashOn": {"header": "x-user"}}},
    "sticky": {"loadBalancing": {"affinity": {"cookie": "seat"}}},
    "calls-retried": {"retries": ON_UNAVAILABLE, "retryBudget": GENEROUS},
    "calls-timed": {"timeouts": {"request": "500ms"}},
}
FAULTS: dict[str, dict[str, Any]] = {
    "delay": {"delay": "300ms"},
    "abort": {"abort": {"httpStatus": 418, "grpcStatus": "resource-exhausted"}},
    "reset": {"reset": True},
    "truncate": {"truncateAfterBytes": 1000},
    "bandwidth": {"bandwidthBytesPerSecond": 20000},
    "percent": {"percent": 30, "abort": {"httpStatus": 418}},
}
"""Each for the requests whose header `x-fault` names it."""
PLACES = {"next": ("next", 8000), "db": ("next", 8000), "limited": ("next", 8001), "fair": ("next", 8002)}
"""Services that do not lead to port 8000 (gRPC: 9000) of the two replicas."""


def objects() -> list[dict[str, Any]]:
    """All services, with their policies."""
    found = []
    for name in (*POLICIES, "plain", "next", "heavy", "chaos", "calls-chaos"):
        app, port = PLACES.get(name, ("actor", 9000 if name.startswith("calls") else 8000))
        ports = [{"port": 80 if port != 9000 else 9000, "targetPort": port}]
        if name == "next":
            ports = [{"port": 8000}]
        if port == 9000:
            ports[0]["appProtocol"] = "kubernetes.io/h2c"  # type: ignore[assignment]
        found.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": {"app": app}, "ports": ports},
            }
        )
    found += [policy("TrafficPolicy", name, name, **spec) for name, spec in POLICIES.items()]
    faults = [{"match": {"headers": [{"name": "x-fault", "value": name}]}, **fault} for name, fault in FAULTS.items()]
    found.append(policy("FaultInjection", "chaos", "chaos", faults=faults))
    found.append(policy("FaultInjection", "calls-chaos", "calls-chaos", faults=[FAULTS["abort"]]))
    return found


def policy(kind: str, name: str, service: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy.tulle.mesh/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"targetRef": {"name": service}, **spec},
    }


def totals(cluster: Cluster, namespace: str) -> Samples:
    """All samples of the sidecars, by pod."""
    pods = cluster.pods(namespace, "app in (caller,actor,next)")
    with ThreadPoolExecutor(len(pods)) as threads:
        found = threads.map(lambda pod: cluster.samples(namespace, pod), pods)
        return dict(zip(pods, found, strict=True))


def total(samples: Samples, app: str, name: str, labels: Labels) -> float:
    """Sum of a metric over the pods of an app and all series with these labels."""
    return sum(
        value
        for pod, found in samples.items()
        for one, pairs, value in found
        if pod.startswith(f"{app}-") and one == name and labels.items() <= pairs.items()
    )


def hinted(cluster: Cluster, namespace: str, zones: dict[str, str]) -> str:
    """A service `near` without selector, whose endpoints are these pods, each hinted for its zone."""
    pods = {pod: cluster.get("-n", namespace, "pod", pod) for pod in zones}
    endpoints = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": True},
            "hints": {"forZones": [{"name": zones[name]}]},
            "targetRef": {"kind": "Pod", "name": name, "namespace": namespace},
        }
        for name, pod in pods.items()
    ]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "near"}, "spec": {"ports": [{"port": 80}]}}
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "near-1", "labels": {"kubernetes.io/service-name": "near"}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "", "port": 8000, "protocol": "TCP"}],
    }
    return "\n---\n".join(map(json.dumps, (service, piece)))
