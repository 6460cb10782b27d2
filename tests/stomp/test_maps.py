"""The XML of XStream as JSON, and what is looked at again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from msgbus.brokers.mq.errors import Hidden
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.looking import Looking
from msgbus.brokers.stomp.maps import is_map, json_of
from msgbus.brokers.stomp.properties import is_hidden, read
from msgbus.clock import SystemClock
from msgbus.errors import BusError, Disconnected, Unavailable

KEY = "<string>k</string>"


def a_map(*values: str) -> bytes:
    entries = "".join(f"<entry><string>{number}</string>{value}</entry>" for number, value in enumerate(values))
    return f"<map>\n  {entries}\n</map>".encode()


def test_each_type_of_a_map_message() -> None:
    xml = a_map(
        *("<string>007</string>", "<string/>", "<char>x</char>", "<null/>", "<boolean>true</boolean>"),
        *("<byte>-1</byte>", "<long>9223372036854775807</long>", "<double>1.0E10</double>", "<float>NaN</float>"),
        *("<double>-Infinity</double>", "<byte-array>AAH/</byte-array>", "<boolean>false</boolean>"),
        f"<map><entry>{KEY}<list><int>1</int><string>a</string></list></entry></map>",
    )
    assert is_map(xml)
    assert list(json.loads(json_of(xml)).values()) == [
        *("007", "", "x", None, True, -1, 9223372036854775807, 1e10, "NaN", "-Infinity", "AAH/", False),
        {"k": [1, "a"]},
    ]
    assert json_of(b"<map/>") == b"{}"


@pytest.mark.parametrize(
    "xml",
    [
        a_map("<string>a\ufffdb</string>"),
        a_map("<java.util.Date>1</java.util.Date>"),
        a_map('<string reference="../../entry/string"/>'),
        a_map("<int>many</int>"),
        a_map("<boolean>yes</boolean>"),
        a_map("<byte-array>A</byte-array>"),
        b"<map><entry><int>1</int><int>1</int></entry></map>",
        b"<map><entry><string>k</string></entry></map>",
        b"<map><entry>",
        b"<map><entry><string>k</string><string>&b;</string></entry></map>",
        b"<map>\xff</map>",
        b"<map>&#x0;</map>",
        b"<map>" + b"<entry><string>k</string><map>" * 3000 + b"</map></entry>" * 3000 + b"</map>",
    ],
)
def test_what_is_no_such_map_or_says_less_than_it_did_stays_hidden(xml: bytes) -> None:
    with pytest.raises(Hidden, match="a JMS MapMessage"):
        json_of(xml)
    arrived = read({}, Frame("MESSAGE", {"message-id": "ID:a:1:1:1:1", "transformation": "jms-map-xml"}, xml))
    assert isinstance(arrived.fault, Hidden)


@pytest.mark.parametrize(
    ("native", "hidden"),
    [
        ({"message-id": "ID:host-1-2-3:1:1:1:1"}, True),  # JMS
        ({"message-id": "ID:host-1-2-3:1:-1:1:1"}, False),  # STOMP
        ({"message-id": "ID:host-1-2-3:1:-1:1:1", "transformation": "jms-map-json"}, True),
        ({"message-id": "ID:host-1-2-3:1:0:0:1"}, True),  # the scheduler, for JMS perhaps
        ({"message-id": "ID:host-1-2-3:1:0:0:1", "ce-specversion": "1.0"}, False),  # for us
        ({"message-id": "ID:host-1-2-3:1:0:0:1", "msgbus-attempt": "2"}, False),
        ({"message-id": "ID:host-1-2-3:1:1:1:1", "content-length": "0"}, False),
        ({"message-id": "T_messages@@session-1@@1"}, False),  # RabbitMQ
        ({"message-id": "ID:"}, True),
        ({}, False),
    ],
)
def test_only_what_may_have_a_body_is_hidden(native: dict[str, str], hidden: bool) -> None:
    assert is_hidden(native) is hidden
    arrived = read({}, Frame("MESSAGE", native))
    assert isinstance(arrived.fault, Hidden) is hidden


FRAMES = [
    Frame("MESSAGE", {"message-id": "ID:a:1:-1:1:1"}, b"good"),
    Frame("MESSAGE", {"message-id": "ID:a:1:1:1:1", "destination": "/queue/q"}),
    Frame("MESSAGE", {"message-id": "ID:a:1:-1:1:2"}, b"good"),
]


def looking(another: Callable[[], Awaitable[Conversation]]) -> Looking:
    mailbox = Looking(SystemClock(), another)
    mailbox.put(FRAMES)
    return mailbox


async def test_a_cancelled_look_has_taken_nothing() -> None:
    began = asyncio.Event()

    async def never() -> Conversation:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    mailbox = looking(never)
    taking = asyncio.ensure_future(mailbox.take(2, 1.0))
    await began.wait()
    taking.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()
    assert list(mailbox.items) == FRAMES


@pytest.mark.parametrize("error", [Unavailable("no other connection"), Disconnected("no other connection")])
async def test_without_a_connection_to_look_with_nothing_is_taken(error: BusError) -> None:
    async def refused() -> Conversation:
        raise error

    mailbox = looking(refused)
    with pytest.raises(type(error), match="no other connection"):
        await mailbox.take(3, 1.0)
    assert list(mailbox.items) == FRAMES
    assert await mailbox.take(1, 1.0) == FRAMES[:1], "what needs no look goes on"
