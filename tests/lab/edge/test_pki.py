"""Certificates that strict verifiers accept, and a kubeconfig that clients read."""

import asyncio
import base64
import ssl
from datetime import UTC, datetime

import yaml
from cryptography import x509

from lab.api import pki

NOW = datetime.now(UTC)


def test_a_strict_client_completes_a_handshake_with_every_name_of_the_api_server(tmp_path):
    authority = pki.CertificateAuthority("ca", now=NOW)
    leaf = authority.issue_api(now=NOW)
    (tmp_path / "crt").write_bytes(leaf.certificate)
    (tmp_path / "key").write_bytes(leaf.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    asking = ssl.create_default_context(cadata=authority.certificate.decode())
    asking.verify_flags |= ssl.VERIFY_X509_STRICT

    async def handshakes() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
        port = server.sockets[0].getsockname()[1]
        for name in (*pki.API_NAMES, *pki.API_ADDRESSES):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=asking, server_hostname=name)
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    asyncio.run(handshakes())


def test_an_authority_says_that_it_is_one_and_a_leaf_that_it_is_not():
    authority = pki.CertificateAuthority("ca", now=NOW)
    root = x509.load_pem_x509_certificate(authority.certificate)
    leaf = x509.load_pem_x509_certificate(authority.issue("x", now=NOW, names=("x.y.svc",)).certificate)

    for certificate, is_authority in ((root, True), (leaf, False)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value.ca is is_authority
        assert certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        assert certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_a_kubeconfig_is_yaml_that_trusts_the_root_and_bears_the_token():
    read = yaml.safe_load(pki.kubeconfig("https://127.0.0.1:1", b"PEM", "secret", context="demo"))

    assert read["current-context"] == "demo"
    assert read["users"][0]["user"] == {"token": "secret"}
    assert base64.b64decode(read["clusters"][0]["cluster"]["certificate-authority-data"]) == b"PEM"
