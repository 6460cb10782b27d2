"""RabbitMQ servers of our own: with TLS and client certificates, with limits that tests can reach."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Template

import trustme
from tests.servers import Server, UnavailableError
from tests.servers.catalog import definition
from tests.servers.fixtures import give_up
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
    amqps = Endpoint("amqps://guest:guest@localhost:{amqps}/", "MSGBUS_TEST_RABBITMQ_TLS_URL")
    made = configured(
        "listeners.ssl.1 = 127.0.0.1:$amqps",
        f"ssl_options.cacertfile = {folder / 'ca.pem'}",
        f"ssl_options.certfile = {folder / 'server.pem'}",
        f"ssl_options.keyfile = {folder / 'server.key'}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = false",
        "ssl_cert_login_from = common_name",
        "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = EXTERNAL",
        "frame_max = 8192",
        plugins="rabbitmq_stomp,rabbitmq_management,rabbitmq_auth_mechanism_ssl",
    )
    return replace(made, ports=(*made.ports, "amqps"), endpoints={**made.endpoints, "amqps": amqps})


def configured(
    *settings: str, plugins: str = "rabbitmq_stomp,rabbitmq_management", advanced: str = "[]."
) -> Definition:
    """RabbitMQ with more lines in its configuration; `$role` is a port. `advanced`: Erlang terms."""
    plain = definition("rabbitmq")

    def prepare(place: Place) -> None:
        plain.prepare(place)
        with (place.folder / "rabbitmq.conf").open("a") as conf:
            conf.write("\n" + Template("\n".join(settings)).substitute(place.ports) + "\n")
        (place.folder / "advanced.config").write_text(advanced + "\n")
        (place.folder / "plugins").write_text(f"[{plugins}].\n")

    return replace(plain, prepare=prepare)


@contextlib.contextmanager
def started(kind: Definition) -> Iterator[Server]:
    """One of our own, for the tests of a file."""
    server = Server.new(kind)
    try:
        server.start()
    except UnavailableError as error:
        give_up(error)
    try:
        yield server
    finally:
        server.close()


def _chain(cert: trustme.LeafCert, path: Path) -> None:
    path.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
