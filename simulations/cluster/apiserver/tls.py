"""TLS for the stand-in: kubectl sends no token over plain HTTP. A throw-away authority, made anew for each server."""

import base64
import ssl

import trustme


class Certificates:
    """A certificate for loopback and the authority that signed it."""

    def __init__(self) -> None:
        authority = trustme.CA(organization_name="warmtide")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self.context)
        self.authority_pem: bytes = authority.cert_pem.bytes()

    @property
    def authority_data(self) -> str:
        """As a kubeconfig holds it."""
        return base64.b64encode(self.authority_pem).decode()
