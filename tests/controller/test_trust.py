"""The authority's Secret is made once, and the bundle is true wherever injection is on."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from contract import names
from controller import trust as module
from controller.cluster import Change, Cluster
from controller.kube import Api, connect
from controller.meters import Meters
from controller.trust import Trust
from tests.controller.builders import cluster_of, namespace
from tests.controller.scripted_api import ScriptedApi, kubeconfig

SECRETS = "/api/v1/namespaces/tulle/secrets"


def maps(ns: str) -> str:
    return f"/api/v1/namespaces/{ns}/configmaps"


@pytest.fixture
def server() -> Iterator[ScriptedApi]:
    found = ScriptedApi()
    yield found
    found.close()


@pytest.fixture
def api(server: ScriptedApi, tmp_path: Path) -> Api:
    (tmp_path / "kubeconfig").write_text(kubeconfig(server.url))
    return connect(str(tmp_path / "kubeconfig"))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHECK_S", "RETRY_S", "POLL_S"):
        monkeypatch.setattr(module, name, 0.01)


@asynccontextmanager
async def running(api: Api, cluster: Cluster) -> AsyncIterator[Trust]:
    trust = Trust(api, cluster, Meters(), "tulle", "cluster.local")
    task = asyncio.create_task(trust.run())
    yield trust
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def bundle_in(server: ScriptedApi, ns: str, unlike: str = "") -> str:
    """Wait for a namespace's bundle (another one than `unlike`)."""
    deadline_s = monotonic() + 5
    while monotonic() < deadline_s:
        found = server.objects[maps(ns)].get(names.TRUST_BUNDLE)
        if found is not None and found["data"].get(names.TRUST_BUNDLE_KEY, "") not in ("", unlike):
            return str(found["data"][names.TRUST_BUNDLE_KEY])
        await asyncio.sleep(0.005)
    raise AssertionError("no bundle")


def test_bundle_appears_in_labelled_namespaces_only_and_in_new_ones(server: ScriptedApi, api: Api):
    async def check() -> None:
        cluster = cluster_of(namespace("shop", inject=True), namespace("plain"))
        async with running(api, cluster):
            first = await bundle_in(server, "shop")
            record = namespace("plain", inject=True)
            assert not server.objects[maps("plain")]
            cluster.apply(Change("namespaces", record.key, record))
            assert await bundle_in(server, "plain") == first
            assert first.startswith("-----BEGIN CERTIFICATE-----\n")

    asyncio.run(check())


def test_bundle_that_was_edited_or_deleted_is_put_right(server: ScriptedApi, api: Api):
    async def check() -> None:
        async with running(api, cluster_of(namespace("shop", inject=True))) as trust:
            first = await bundle_in(server, "shop")
            edited = {"metadata": {"name": names.TRUST_BUNDLE}, "data": {names.TRUST_BUNDLE_KEY: "edited", "more": ""}}
            server.put_named(maps("shop"), edited)
            assert await bundle_in(server, "shop", unlike="edited") == first
            assert "more" not in server.objects[maps("shop")][names.TRUST_BUNDLE]["data"]
            del server.objects[maps("shop")][names.TRUST_BUNDLE]
            assert await bundle_in(server, "shop") == first
            assert trust.authority is not None

    asyncio.run(check())


def test_several_controllers_that_start_together_agree_on_one_authority(server: ScriptedApi, api: Api):
    async def check() -> None:
        trusts = [Trust(api, Cluster(), Meters(), "tulle", "cluster.local") for _ in range(6)]
        found = await asyncio.gather(*(asyncio.to_thread(trust._get_or_create) for trust in trusts))
        assert len({item.bundle for item in found}) == 1
        (secret,) = server.objects[SECRETS].values()
        assert base64.b64decode(secret["data"]["tls.crt"]).decode() == found[0].bundle

    asyncio.run(check())


def test_restarted_controller_takes_the_authority_that_is_there(server: ScriptedApi, api: Api):
    first, second = (Trust(api, Cluster(), Meters(), "tulle", "cluster.local")._get_or_create() for _ in range(2))
    assert first.bundle == second.bundle


def test_failures_are_told_and_tried_again(server: ScriptedApi, api: Api, capsys: pytest.CaptureFixture[str]):
    async def check() -> None:
        server.refused[SECRETS] = 403
        server.refused[maps("shop")] = 500
        async with running(api, cluster_of(namespace("shop", inject=True), namespace("ok", inject=True))):
            await asyncio.sleep(0.05)
            del server.refused[SECRETS]
            await bundle_in(server, "ok")  # one namespace's failure is not another's
            await asyncio.sleep(0.05)
            del server.refused[maps("shop")]
            await bundle_in(server, "shop")

    asyncio.run(check())
    told = capsys.readouterr().out
    assert "authority not available" in told
    assert "trust bundle not written" in told


def test_secret_of_somebody_else_is_left_alone_and_complained_of(
    server: ScriptedApi, api: Api, capsys: pytest.CaptureFixture[str]
):
    async def check() -> None:
        server.put_named(SECRETS, {"metadata": {"name": names.IDENTITY_ISSUER}, "data": {"tls.crt": ""}})
        async with running(api, Cluster()):
            await asyncio.sleep(0.05)

    asyncio.run(check())
    assert "or delete the Secret" in capsys.readouterr().out
    assert server.objects[SECRETS][names.IDENTITY_ISSUER]["data"] == {"tls.crt": ""}
