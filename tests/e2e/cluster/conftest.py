"""Tests of what a lab has not: several nodes, and all kinds of a real Kubernetes. See tests/cluster for one."""

import os

import pytest

from tests.e2e.conftest import Cluster


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cluster") and "TULLE_E2E_KUBECONFIG" not in os.environ:
        pytest.skip("needs a real cluster: make test-cluster, or TULLE_E2E_KUBECONFIG")


@pytest.fixture(scope="session")
def nodes(cluster: Cluster) -> list[str]:
    """Names of the nodes that take pods."""
    items = cluster.get("nodes")["items"]
    return [item["metadata"]["name"] for item in items if not item["spec"].get("unschedulable")]
