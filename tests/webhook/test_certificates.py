"""The webhook's certificates: made, judged, renewed, mended, published, and served without a restart."""

import base64
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from cryptography import x509

from bench.stub_api import REGISTRATION, StubApi
from webhook import certificates
from webhook.certificates import BadMaterial, Material, first_material, from_data, renewed, serves, to_data
from webhook.keeper import Keeper
from webhook.kube import Kube
from webhook.tls import ServingContext

NAMES = ("tulle-webhook.tulle.svc", "127.0.0.1")
NOW = datetime.now(UTC).replace(microsecond=0)
SECRET = "/api/v1/namespaces/tulle/secrets/tulle-webhook-tls"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def material() -> Material:
    return first_material(NAMES, NOW)


def keeper(kube: Kube, clock: Clock) -> tuple[Keeper, ServingContext]:
    serving = ServingContext(first_material(NAMES, NOW))
    return Keeper(kube, serving, "tulle", NAMES, clock), serving


def handshake(context: ssl.SSLContext, bundle: bytes) -> bytes:
    """Do a TLS handshake in memory as an API server would; return the certificate that was served."""
    client_in, server_in = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cadata=bundle.decode())
    client = trusting.wrap_bio(client_in, server_in, server_hostname=NAMES[0])
    server = context.wrap_bio(server_in, client_in, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    served = client.getpeercert(binary_form=True)
    assert served
    return served


def test_a_first_certificate_is_trusted_for_its_names(material: Material) -> None:
    served = handshake(ServingContext(material).context, material.bundle)

    assert set(NAMES) == certificates.names_of(x509.load_der_x509_certificate(served))


def test_a_handshake_never_meets_half_of_a_pair_that_another_thread_loads(material: Material) -> None:
    """One pair's certificate with another's key ends the handshake, and with it a kubelet's probe."""
    pairs = (material, first_material(NAMES, NOW))
    serving = ServingContext(material)
    is_over = Event()

    def load() -> None:
        while not is_over.is_set():
            for pair in pairs:
                serving.load(pair)

    thread = Thread(target=load)
    thread.start()
    try:
        for _ in range(300):
            handshake(serving.context, b"".join(pair.bundle for pair in pairs))
    finally:
        is_over.set()
        thread.join()


def test_who_may_ask_stays_as_it_was_read_when_the_certificate_changes(material: Material, tmp_path: Path) -> None:
    authorities = tmp_path / "ca.crt"
    authorities.write_bytes("# Zertifikatsinhaber: Müller\n".encode() + material.bundle)
    serving = ServingContext(material, str(authorities))
    authorities.unlink()

    serving.load(first_material(NAMES, NOW))

    assert serving.context.verify_mode == ssl.CERT_OPTIONAL
    assert len(serving.context.get_ca_certs()) == 1


@pytest.mark.parametrize("text", ["", "\n", "no certificate"])
def test_a_file_of_client_authorities_without_one_is_an_error(material: Material, tmp_path: Path, text: str) -> None:
    authorities = tmp_path / "ca.crt"
    authorities.write_text(text)

    with pytest.raises(ssl.SSLError):
        ServingContext(material, str(authorities))


def test_material_survives_its_secret(material: Material) -> None:
    assert material == from_data(to_data(material))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ca.crt": b""}, "ca.crt is missing"),
        ({"tls.crt": b"x"}, "Unable to load PEM|MalformedFraming|InvalidData|PEM"),
        ({"tls.key": b"x"}, "."),
        ({"tls.key": None}, "tls.key is not the key of its certificate"),
        ({"ca.key": None}, "ca.key is not the key of its certificate"),
        ({"ca.crt": None, "ca.key": None}, "tls.crt is not signed by the first certificate of ca.crt"),
    ],
)
def test_damaged_material_is_known_as_such(material: Material, change: dict[str, bytes | None], message: str) -> None:
    other = to_data(first_material(NAMES, NOW))
    data = to_data(material) | {key: other[key] if value is None else value for key, value in change.items()}

    with pytest.raises(BadMaterial, match=message):
        from_data(data)


def test_nothing_is_renewed_before_its_time(material: Material) -> None:
    assert renewed(material, NAMES, NOW + timedelta(days=90 * 0.69)) is None


def test_the_leaf_is_renewed_at_seventy_percent_by_the_same_authority(material: Material) -> None:
    fresh = renewed(material, NAMES, NOW + timedelta(days=90 * 0.71))

    assert fresh is not None
    assert (material.bundle, True) == (fresh.bundle, fresh.leaf != material.leaf)


def test_the_authority_is_renewed_at_seventy_percent_and_the_old_one_stays_in_the_bundle(material: Material) -> None:
    now = NOW + timedelta(days=3650 * 0.71)

    fresh = renewed(material, NAMES, now)

    assert fresh is not None
    assert fresh.bundle.endswith(material.bundle)
    assert fresh.bundle != material.bundle
    assert serves(fresh.leaf, fresh.bundle, now) is None
    assert serves(fresh.leaf, material.bundle, now) is not None


def test_an_expired_authority_leaves_the_bundle(material: Material) -> None:
    first = renewed(material, NAMES, NOW + timedelta(days=3650 * 0.71))
    assert first is not None

    later = renewed(first, NAMES, NOW + timedelta(days=3651))

    assert later is not None
    assert material.bundle not in later.bundle


def test_another_name_is_reason_to_renew(material: Material) -> None:
    fresh = renewed(material, (*NAMES, "example.com"), NOW)

    assert fresh is not None
    assert "example.com" in certificates.names_of(x509.load_pem_x509_certificate(fresh.leaf))


@pytest.mark.parametrize(
    ("bundle", "days", "fault"),
    [(None, 0, None), (None, 91, "valid until"), (b"", 0, "holds no certificate"), (b"other", 0, "does not chain")],
)
def test_what_an_api_server_would_refuse_is_told(
    material: Material, bundle: bytes | None, days: int, fault: str | None
) -> None:
    trusted = material.bundle if bundle is None else bundle
    if bundle == b"other":
        trusted = first_material(NAMES, NOW).bundle

    told = serves(material.leaf, trusted, NOW + timedelta(days=days))

    assert (fault is None) == (told is None)
    assert (fault or "") in (told or "")


def test_the_first_round_makes_publishes_and_serves(api: StubApi, kube: Kube) -> None:
    kept, serving = keeper(kube, Clock())
    assert kept.fault

    kept.round()

    assert kept.fault is None
    bundles = {base64.b64decode(text) for text in api.bundles()}
    assert {serving.material.bundle} == bundles
    assert handshake(serving.context, serving.material.bundle)


def test_two_replicas_serve_one_certificate(kube: Kube) -> None:
    (first, first_serving), (second, second_serving) = keeper(kube, Clock()), keeper(kube, Clock())

    first.round()
    second.round()

    assert first_serving.material == second_serving.material
    assert (None, None) == (first.fault, second.fault)


def test_a_replica_that_loses_the_race_reads_what_the_other_wrote(
    api: StubApi, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Secret appears between this replica's look and its write."""
    (slow, slow_serving), (fast, fast_serving) = keeper(kube, Clock()), keeper(kube, Clock())
    write, raced = kube.write_secret, []

    def write_after_the_other(*arguments: object) -> bool:
        if not raced:
            raced.append(True)
            fast.round()
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(kube, "write_secret", write_after_the_other)
    slow.round()

    assert slow_serving.material == fast_serving.material
    assert slow.fault is None


def test_a_renewed_certificate_is_served_without_a_restart(api: StubApi, kube: Kube) -> None:
    clock = Clock()
    clock.now -= timedelta(days=65)
    kept, serving = keeper(kube, clock)
    kept.round()
    before = handshake(serving.context, serving.material.bundle)

    clock.now = NOW
    kept.round()

    assert before != handshake(serving.context, serving.material.bundle)
    assert kept.fault is None


def test_a_new_authority_is_published_a_round_before_it_is_served(api: StubApi, kube: Kube) -> None:
    clock = Clock()
    kept, serving = keeper(kube, clock)
    kept.round()
    old = serving.material

    clock.now += timedelta(days=3650 * 0.71)
    # The leaf is long over by then in this test; in life it is young.
    kept.round()
    published = base64.b64decode(api.bundles()[0])
    assert published != old.bundle
    assert old.bundle in published
    assert serving.material == old

    kept.round()
    assert serving.material != old
    assert kept.fault is None


def test_an_overwritten_ca_bundle_is_mended(api: StubApi, kube: Kube) -> None:
    kept, serving = keeper(kube, Clock())
    kept.round()
    hooks = [{"name": name, "clientConfig": {"caBundle": "eA=="}} for name in ("a", "b", "c")]
    api.put(REGISTRATION, {"webhooks": hooks})

    kept.round()

    assert {base64.b64encode(serving.material.bundle).decode()} == set(api.bundles())
    assert kept.fault is None


def test_without_a_registration_the_replica_is_not_ready(api: StubApi, kube: Kube) -> None:
    del api.objects[REGISTRATION]
    kept, _ = keeper(kube, Clock())

    kept.round()

    assert kept.fault == "MutatingWebhookConfiguration tulle-webhook does not exist"


def test_a_damaged_secret_is_replaced(api: StubApi, kube: Kube) -> None:
    first, _ = keeper(kube, Clock())
    first.round()
    data = dict(api.objects[SECRET]["data"])
    data["tls.key"] = base64.b64encode(b"damaged").decode()
    api.put(SECRET, {**api.objects[SECRET], "data": data})
    second, serving = keeper(kube, Clock())

    second.round()

    assert second.fault is None
    assert handshake(serving.context, serving.material.bundle)


def test_a_deleted_secret_comes_back_as_what_is_served(api: StubApi, kube: Kube) -> None:
    kept, serving = keeper(kube, Clock())
    kept.round()
    before = serving.material

    del api.objects[SECRET]
    kept.round()

    assert before == serving.material
    assert before == from_data({key: base64.b64decode(text) for key, text in api.objects[SECRET]["data"].items()})


def test_an_api_server_that_goes_away_does_not_make_a_ready_replica_unready(api: StubApi, kube: Kube) -> None:
    kept, _ = keeper(kube, Clock())
    kept.round()

    api.is_down = True
    kept.round()

    assert kept.fault is None


def test_an_api_server_that_was_never_there_is_told_as_the_fault(api: StubApi, kube: Kube) -> None:
    api.is_down = True
    kept, _ = keeper(kube, Clock())

    kept.round()

    assert "api server: GET /version: 500 etcd is away" == kept.fault


@pytest.mark.parametrize(("minor", "native"), [("28", False), ("29", True), ("31+", True), ("", False)])
def test_the_servers_version_decides_on_the_kind_of_sidecar(api: StubApi, kube: Kube, minor: str, native: bool) -> None:
    api.minor = minor
    kept, _ = keeper(kube, Clock())

    kept.round()

    assert native == kept.standing.native_sidecar
