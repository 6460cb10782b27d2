"""The seam between the STOMP broker and a client: what both wires (lean.py, client.py) do.

A line is one connection: it connects, writes frames and tells what it hears. Receipts, subscriptions and
transactions are above it (conversation.py), and above them names, retries and dead letters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgbus.brokers.stomp.codec import Frame
from msgbus.errors import BusError


class Ear(Protocol):
    """Whom a line tells, in the event loop."""

    def heard(self, frames: Sequence[Frame]) -> None:
        """Frames came. Their headers are dicts that may be changed."""
        ...

    def lost(self, error: BusError) -> None:
        """The connection is gone; told once, and not where `open` raises."""
        ...


class Line(Protocol):
    """One connection to one host."""

    @property
    def held(self) -> bool:
        """Whether publishers must wait: the socket is full."""
        ...

    async def open(self, ear: Ear) -> Mapping[str, str]:
        """Connect once; the headers of CONNECTED. Raises Refused where it can't help to try again, else Disconnected
        or Unavailable."""
        ...

    def encode(self, frame: Frame, name: str = "", value: str = "") -> bytes:
        """A frame's bytes, with one header more where `name` is given.

        Raises ValueError where this version of STOMP can't say it.
        """
        ...

    def encode_ids(self, command: str, ids: Collection[str]) -> bytes:
        """A frame for each id, with no other header."""
        ...

    def write(self, data: bytes) -> None:
        """Send whole frames in this turn of the loop; never waits."""
        ...

    async def writable(self) -> None:
        """Until publishers may go on, or the connection is gone."""
        ...

    async def end(self) -> None:
        """Close the socket and let go of everything; harmless when done before."""
        ...
