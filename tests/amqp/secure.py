"""A RabbitMQ of our own with TLS, client certificates, and names and limits that tests can know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import trustme
from tests.servers.catalog import definition
from tests.servers.model import Definition, Endpoint, Place

USER = "device"
"""The common name of the client's certificate, and so its user name with `auth=external`."""


def with_tls(folder: Path) -> Definition:
    """RabbitMQ that also listens with TLS and knows clients by their certificates. Writes the PEM files."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
    server = authority.issue_cert("localhost")
    server.private_key_pem.write_to_path(str(folder / "server.key"))
    _chain(server, folder / "server.pem")
    client = authority.issue_cert("client@example.org", common_name=USER)
    client.private_key_pem.write_to_path(str(folder / "client.key"))
    _chain(client, folder / "client.pem")
    plain = definition("rabbitmq")

    def prepare(place: Place) -> None:
        plain.prepare(place)
        settings = (
            f"listeners.ssl.1 = 127.0.0.1:{place.ports['amqps']}",
            f"ssl_options.cacertfile = {folder / 'ca.pem'}",
            f"ssl_options.certfile = {folder / 'server.pem'}",
            f"ssl_options.keyfile = {folder / 'server.key'}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = false",
            "ssl_cert_login_from = common_name",
            "auth_mechanisms.1 = PLAIN",
            "auth_mechanisms.2 = EXTERNAL",
            "frame_max = 8192",
        )
        with (place.folder / "rabbitmq.conf").open("a") as conf:
            conf.write("\n" + "\n".join(settings) + "\n")
        (place.folder / "plugins").write_text("[rabbitmq_stomp,rabbitmq_management,rabbitmq_auth_mechanism_ssl].\n")

    amqps = Endpoint("amqps://guest:guest@localhost:{amqps}/", "MSGBUS_TEST_RABBITMQ_TLS_URL")
    return replace(plain, ports=(*plain.ports, "amqps"), endpoints={**plain.endpoints, "amqps": amqps}, prepare=prepare)


def _chain(cert: trustme.LeafCert, path: Path) -> None:
    path.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
