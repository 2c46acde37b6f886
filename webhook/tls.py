"""The live TLS context. Edge."""

import os
import ssl
from tempfile import TemporaryDirectory

from webhook.certificates import Material


class ServingContext:
    """One SSLContext for the whole life of the process; a new certificate holds from the next handshake on."""

    def __init__(self, material: Material, client_ca_file: str = "") -> None:
        """Raises OSError or ssl.SSLError when the file of client CAs cannot be read."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        if client_ca_file:
            # Optional: a kubelet's probe has none. Who needs one is judged by the routes (webhook/callers.py).
            self.context.load_verify_locations(client_ca_file)
            self.context.verify_mode = ssl.CERT_OPTIONAL
        self.material = material
        self.load(material)

    def load(self, material: Material) -> None:
        """Serve this certificate. Raises ssl.SSLError when certificate and key do not fit."""
        # The ssl module reads files only; a directory in memory keeps the key off every disk where there is one.
        with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
            path = os.path.join(directory, "leaf.pem")
            with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                file.write(material.leaf + material.leaf_key)
            self.context.load_cert_chain(path)
        self.material = material
