"""A stub of the API server on loopback, and the client that the webhook uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.stub_api import StubApi, write_kubeconfig
from webhook.kube import Kube, connect


@pytest.fixture
def api() -> StubApi:
    return StubApi()


@pytest.fixture
def kubeconfig(api: StubApi, tmp_path: Path) -> Iterator[Path]:
    with api.serve() as url:
        path = tmp_path / "kubeconfig"
        write_kubeconfig(path, url)
        yield path


@pytest.fixture
def kube(kubeconfig: Path) -> Kube:
    return connect(str(kubeconfig))
