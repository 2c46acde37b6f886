"""The live TLS context. Edge."""

import os
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

from webhook.certificates import Material


class ServingContext:
    """The SSLContext for the next handshake.

    A new certificate gets a context of its own, made whole before it takes the place of the old one: it is loaded in
    another thread than the one that shakes hands, which must never see one pair's certificate with another's key.
    """

    def __init__(self, material: Material, client_ca_file: str = "") -> None:
        """Raises OSError or ssl.SSLError when the file of client CAs cannot be read; later it is not read again."""
        self._client_ca = Path(client_ca_file).read_text("ascii", "ignore") if client_ca_file else ""
        if client_ca_file and not self._client_ca.strip():
            raise ssl.SSLError(f"{client_ca_file} holds no certificate")
        self.material = material
        self.context = self._made(material)

    def load(self, material: Material) -> None:
        """Serve this certificate. Raises ssl.SSLError when certificate and key do not fit."""
        self.context = self._made(material)
        self.material = material

    def _made(self, material: Material) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self._client_ca:
            # Optional: a kubelet's probe has none. Who needs one is judged by the routes (webhook/callers.py).
            context.load_verify_locations(cadata=self._client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        # The ssl module reads files only; a directory in memory keeps the key off every disk where there is one.
        with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
            path = os.path.join(directory, "leaf.pem")
            with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                file.write(material.leaf + material.leaf_key)
            context.load_cert_chain(path)
        return context
