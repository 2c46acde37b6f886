"""Objects that the tests of the controllers start from, with the API server's defaults written out."""

from typing import Any

Object = dict[str, Any]


def deployment(name: str = "web", replicas: int = 3, image: str = "web:1", **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": template({"app": name}, image),
            **spec,
        },
    }


def rolling(surge: int | str, unavailable: int | str) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def template(labels: dict[str, str], image: str = "web:1", **spec: Any) -> Object:
    container = {"name": "main", "image": image, "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container], **spec}}


def job(name: str = "sum", image: str = "good", **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template({"app": name}, image, restartPolicy="Never"), **spec},
    }


def service(name: str = "web", **spec: Any) -> Object:
    port = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [port], **spec},
    }
