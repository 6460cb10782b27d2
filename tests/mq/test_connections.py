"""Which host a connection is opened to, when it is opened again, and what an URL says of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

import pytest
from tests.scripted import HandClock

from msgbus.brokers.mq.connections import Failover, Reopened
from msgbus.brokers.mq.heartbeats import Heartbeats
from msgbus.brokers.mq.protocol import SocketProtocol
from msgbus.brokers.urls import options_of, tls_context
from msgbus.errors import BusError, ConfigError, Disconnected, Refused


class Line:
    """A connection to one host, which opens unless it is told not to."""

    def __init__(self, host: tuple[str, int], error: BusError | None = None) -> None:
        self.host = host[0]
        self.closed: BusError | None = Disconnected("not connected")
        self.blocked = ""
        self.ended = False
        self._error = error

    async def open(self) -> None:
        if self._error is not None:
            raise self._error
        self.closed = None

    async def close(self) -> None:
        self.ended = True


HOSTS = (("a", 1), ("b", 1), ("c", 1))


async def test_the_host_that_answered_last_is_asked_first() -> None:
    down, asked = {"a"}, list[str]()
    hosts = Failover(HOSTS, "server")

    def make(host: tuple[str, int]) -> Line:
        asked.append(host[0])
        return Line(host, Disconnected(f"{host[0]} is down") if host[0] in down else None)

    assert (await hosts.open(make)).host == "b"
    down.add("b")
    assert (await hosts.open(make)).host == "c"
    down |= {"c"}
    with pytest.raises(Disconnected, match="b is down"):
        await hosts.open(make)
    assert asked == ["a", "b", "b", "c", "c", "a", "b"]


async def test_what_is_refused_is_not_tried_elsewhere() -> None:
    with pytest.raises(Refused, match="who are you"):
        await Failover(HOSTS, "server").open(lambda host: Line(host, Refused("who are you")))


async def test_a_lost_connection_is_closed_and_made_anew_a_living_one_is_not() -> None:
    made: list[Line] = []

    async def connect() -> Line:
        made.append(Line(("a", 1)))
        await made[-1].open()
        return made[-1]

    slot = Reopened("server", connect)
    assert (slot.is_new, slot.status().connected) == (True, False)
    with pytest.raises(Disconnected, match="server: not connected"):
        slot.alive()
    await slot.open()
    await slot.open()
    assert slot.alive() is made[0]
    made[0].blocked = "no memory"
    assert (slot.status().blocked, slot.status().reason) == (True, "server blocks publishers: no memory")
    made[0].closed = Disconnected("the cable")
    assert slot.status().reason == "server: the cable"
    with pytest.raises(Disconnected, match="the cable"):
        slot.alive()
    await slot.open()
    assert (len(made), made[0].ended, slot.alive()) == (2, True, made[1])
    await slot.close()
    assert (slot.is_new, made[1].ended) == (True, True)


async def test_beats_are_sent_into_silence_and_silence_is_noticed(clock: HandClock) -> None:
    class Socket(SocketProtocol):
        said = 0

        def write(self, data: bytes) -> None:
            self.said += 1

    socket, dead = Socket(asyncio.get_running_loop()), list[BusError]()
    beats = Heartbeats(clock, socket, b"\n", dead.append)
    beats.start(10.0, 4.0)
    await clock.advance(5.1)
    assert socket.said == 2
    socket.spoke = socket.heard = True
    await clock.advance(5.0)
    assert socket.said == 2
    assert dead == []
    await clock.advance(10.0)
    assert [str(each) for each in dead] == ["nothing heard for 8 s: the connection is dead"]
    beats.stop()
    said = socket.said
    await clock.advance(60.0)
    assert (socket.said, len(dead)) == (said, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Some of each type."""

    client: Literal["lean", "other"] = "lean"
    count: int = 3
    name: str = ""


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("client=third", "client='third', allowed are lean, other"),
        ("count=many", "count='many' is no int"),
        ("count=0", "count='0', allowed are 1 and more"),
        ("colour=red", "no option 'colour'; there are client, count, name"),
    ],
)
def test_options_that_cannot_be(query: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        options_of(f"x://host/?{query}", Options(), {"count": 1})


@pytest.mark.parametrize("given", [("a\0b", "", ""), ("", "a\0b", ""), ("/nowhere/ca.pem", "", "")])
def test_files_that_cannot_be_are_a_config_error(given: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigError, match="x: can't read the certificates"):
        tls_context("x", *given)


def test_options_have_the_types_of_their_defaults() -> None:
    assert options_of("x://h/?client=other&count=7&name=n", Options(), {}) == Options(client="other", count=7, name="n")
