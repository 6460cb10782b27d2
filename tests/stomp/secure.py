"""Doors before and rules in a server that the tests' own servers lack: TLS, accounts, no scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import trustme
from tests.servers.catalog import definition
from tests.servers.model import Definition, Place

_ACCOUNTS = """
    <plugins><simpleAuthenticationPlugin anonymousAccessAllowed="false">
      <users><authenticationUser username="shop" password="s3cret" groups="users"/></users>
    </simpleAuthenticationPlugin></plugins>
"""
_SELECTOR_AWARE = """
    <destinationInterceptors><virtualDestinationInterceptor><virtualDestinations>
      <virtualTopic name="VirtualTopic.&gt;" prefix="Consumer.*." selectorAware="true"/>
    </virtualDestinations></virtualDestinationInterceptor></destinationInterceptors>
"""


def activemq_with(*, accounts: bool = False, selector_aware: bool = False, scheduler: bool = True) -> Definition:
    """ActiveMQ with other rules."""
    plain = definition("activemq")

    def prepare(place: Place) -> None:
        plain.prepare(place)
        path = place.folder / "conf" / "activemq.xml"
        text = path.read_text()
        if not scheduler:
            text = text.replace('schedulerSupport="true"', 'schedulerSupport="false"')
        first = "    <persistenceAdapter>"
        if selector_aware:
            text = text.replace(first, _SELECTOR_AWARE + first, 1)
        if accounts:
            after = "    </persistenceAdapter>\n"
            text = text.replace(after, after + _ACCOUNTS, 1)
        path.write_text(text)

    return replace(plain, prepare=prepare)


class Certificates:
    """Of a server called localhost: `ca` signed it, `stranger` did not."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.ca, self.stranger = folder / "ca.pem", folder / "stranger.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        stranger.cert_pem.write_to_path(str(self.stranger))
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(self.server)


@contextlib.asynccontextmanager
async def behind_tls(url: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a door that takes TLS and hands on to the server at `url`."""
    parts, tasks = urlsplit(url), set[asyncio.Task[None]]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        both = {asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))}
        tasks.update(both)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (writer, far_writer):
                each.transport.abort()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # the sockets close in their own time: asyncio tells nobody when
