"""`spool:///FOLDER`: a broker of files, shared between processes. As little as the tests of the command line need."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from msgbus import brokers
from msgbus import headers as h
from msgbus.broker import Admin, Backlog, Binding, Capabilities, Difference, Mode, Part, QueueSpec, Status
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused
from msgbus.message import Act, Address, Delivery, Outgoing, Receipt, Settlement, Source, Start

_numbers = count()
_POLL = 0.01


def register() -> None:
    """Make the scheme known to this process."""
    brokers.register("spool", SpoolBroker)


class SpoolBroker:
    """A queue is a folder; a message is a file in it; to receive one is to rename it."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self.root = Path(urlsplit(url).path)
        self.admin: Admin = SpoolAdmin(self.root)
        self.connected = False

    async def connect(self) -> None:
        self.connected = True

    async def close(self) -> None:
        self.connected = False

    def capabilities(self, source: Source | None = None) -> Capabilities:
        if not self.connected:  # as a broker whose abilities depend on its server
            raise Refused("not connected")
        return Capabilities(
            send_batch=100,
            binary=True,
            receive_batch=10,
            settle_batch=10,
            confirms_settlement=True,
            dead_letters=True,
            fanout=True,
            queues=True,
        )

    def status(self) -> Status:
        return Status(self.connected)

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        return [self._send(out) for out in batch]

    def _send(self, out: Outgoing) -> Receipt | BusError:
        folder = folder_of(self.root, out.address)
        folders = [folder]
        if out.address.kind == "topic" and not out.address.group:
            folders = [f for f in self.root.glob(f"topic+{out.address.name}+*") if not f.name.endswith(".dead")]
        elif not folder.is_dir():
            return Refused(f"{out.address} is not there")
        for folder in folders:
            write(folder, out.body, out.headers)
        return Receipt(out.id, unrouted=not folders)

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[SpoolReceiver]:
        receiver = SpoolReceiver(self.root, source)
        try:
            yield receiver
        finally:
            receiver.give_back()


class SpoolReceiver:
    """What it has renamed goes back when it closes."""

    address = ""

    def __init__(self, root: Path, source: Source) -> None:
        self._root = root
        self._source = source
        self._folder = folder_of(root, source.address)
        self._claimed: set[Path] = set()
        self._stopped = False

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        for _ in range(max(1, int(wait / _POLL))):
            if self._stopped:
                return []
            if batch := self._claim(limit):
                return batch
            await asyncio.sleep(_POLL if wait else 0)
        return []

    def _claim(self, limit: int) -> list[Delivery]:
        batch: list[Delivery] = []
        for path in sorted(self._folder.glob("*.json"))[:limit]:
            claimed = path.with_suffix(".claimed")
            with suppress(FileNotFoundError):  # another process was faster
                path.rename(claimed)
                self._claimed.add(claimed)
                stored = json.loads(claimed.read_text())
                body, headers = base64.b64decode(stored["body"]), stored["headers"]
                batch.append(Delivery(body, self._source, headers, claimed, h.attempt_of(headers)))
        return batch

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        for settlement in batch:
            self._settle(settlement)
        return [None] * len(batch)

    def _settle(self, settlement: Settlement) -> None:
        claimed: Path = settlement.delivery.token
        self._claimed.remove(claimed)
        if settlement.act is Act.RELEASE:
            claimed.rename(claimed.with_suffix(".json"))
            return
        if settlement.act is Act.DEAD:
            headers = {**settlement.delivery.headers, **(settlement.headers or {})}
            write(folder_of(self._root, dead_of(self._source).address), settlement.delivery.body, headers)
        claimed.unlink()

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        raise NotImplementedError

    async def stop(self) -> None:
        self._stopped = True

    def give_back(self) -> None:
        for claimed in self._claimed:
            claimed.rename(claimed.with_suffix(".json"))


class SpoolAdmin:
    """Folders."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        sources = [part.source for part in topology if isinstance(part, (QueueSpec, Binding))]
        missing = [s for s in dict.fromkeys(sources) if not folder_of(self._root, s.address).is_dir()]
        if mode == "create":
            for source in missing:
                folder_of(self._root, source.address).mkdir(parents=True, exist_ok=True)
        return [Difference(str(source), "there", "missing", made=mode == "create") for source in missing]

    async def dead_letters(self, source: Source) -> Source | None:
        folder_of(self._root, dead_of(source).address).mkdir(parents=True, exist_ok=True)
        return dead_of(source)

    async def purge(self, source: Source) -> int:
        files = list(folder_of(self._root, source.address).glob("*.json"))
        for file in files:
            file.unlink()
        return len(files)

    async def backlog(self, source: Source) -> Backlog | None:
        return Backlog(len(list(folder_of(self._root, source.address).glob("*.json"))))

    async def seek(self, source: Source, start: Start) -> None:
        raise Refused("no replay")


def dead_of(source: Source) -> Source:
    return Source("queue", ".".join(part for part in (source.name, source.group, "dead") if part))


def folder_of(root: Path, address: Address) -> Path:
    return root / "+".join(part for part in address if part)


def write(folder: Path, body: bytes, headers: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{next(_numbers):09}-{os.getpid()}.json"
    stored = json.dumps({"body": base64.b64encode(body).decode(), "headers": dict(headers)})
    file.with_suffix(".tmp").write_text(stored)
    file.with_suffix(".tmp").rename(file)
