"""Large bodies by way of a store: what goes, what comes back, what is deleted, and what a stranger can't do."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, WORK, Order
from tests.scripted import PLAIN, HandClock, Seen, consuming, delivery, turns

from msgbus import Batch, Bus, BusError, Queue, Refused, Retry, Rpc, Unavailable
from msgbus import headers as h
from msgbus.broker import QueueSpec
from msgbus.dead import DeadLetters
from msgbus.envelope.claim import POINTER, DirectoryStore
from msgbus.errors import DecodeError
from msgbus.handlers.middleware import Handle
from msgbus.message import Act, Address, Delivery, Outgoing, Source
from msgbus.options import SendOptions

SOURCE = Source("queue", "work")
LARGE = Order(order_id="1", customer_id="c" * 50_000)
SMALL = "memory://?max_bytes=20000"


def names(folder: Path) -> list[str]:
    """The files of a folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def test_a_large_body_goes_by_way_of_the_store_and_is_deleted_when_acknowledged(tmp_path: Path) -> None:
    bus = Bus(SMALL, store=DirectoryStore(tmp_path / "store"))
    seen: Seen[tuple[Order, list[str]]] = Seen()

    @bus.consumer(WORK, retry=Retry(first_delay=0.01))
    async def work(order: Order) -> None:
        seen.append((order, names(tmp_path / "store")))
        if len(seen) == 1:
            raise ValueError("once more")

    async with bus.consuming():
        await bus.send(WORK, LARGE)
        await seen.reach(2)
    (name,) = seen[0][1]
    assert seen == [(LARGE, [name])] * 2
    assert names(tmp_path / "store") == []


async def test_a_small_body_does_not(tmp_path: Path) -> None:
    bus = Bus(SMALL, store=DirectoryStore(tmp_path / "store"))

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with bus.consuming():
        await bus.send(WORK, Order(order_id="1"))
    assert names(tmp_path / "store") == []


async def test_a_topic_s_body_stays_for_its_other_groups(tmp_path: Path) -> None:
    bus = Bus(SMALL, store=DirectoryStore(tmp_path))
    seen: Seen[str] = Seen()

    @bus.subscriber(ORDERS, group="a")
    async def one(order: Order) -> None:
        seen.append(order.customer_id)

    @bus.subscriber(ORDERS, group="b")
    async def two(order: Order) -> None:
        seen.append(order.customer_id)

    async with bus.consuming():
        await bus.publish(ORDERS, LARGE)
        await seen.reach(2)
    assert seen == [LARGE.customer_id] * 2
    assert len(names(tmp_path)) == 1


async def test_batches_fetch_each_body(tmp_path: Path) -> None:
    bus = Bus(SMALL, store=DirectoryStore(tmp_path))
    seen: Seen[list[str]] = Seen()

    @bus.consumer(WORK, batch=Batch(size=2, wait=1.0))
    async def work(batch: list[Order]) -> None:
        seen.append([order.customer_id[:1] for order in batch])

    async with bus.consuming():
        await bus.publish_many(WORK, [LARGE, Order(order_id="2", customer_id="small")])
        await seen.reach(1)
    assert seen == [["c", "s"]]


async def test_without_a_store_a_large_body_is_refused_with_the_remedy(clock: HandClock) -> None:
    async with Bus(SMALL, clock=clock) as bus:
        with pytest.raises(Refused, match="give the Bus a store for large bodies"):
            await bus.publish(ORDERS, LARGE)


async def test_a_store_that_can_t_be_read_is_not_the_message_s_fault(tmp_path: Path) -> None:
    failed: Seen[str] = Seen()
    seen: Seen[str] = Seen()

    async def note(delivery: Delivery, handle: Handle) -> None:
        try:
            await handle(delivery)
        except Unavailable as error:
            failed.append(str(error))
            raise

    folder, away = tmp_path / "store", tmp_path / "away"
    bus = Bus(SMALL, store=DirectoryStore(folder), middlewares=[note])

    @bus.consumer(WORK, retry=Retry(attempts=1, first_delay=0.01, max_delay=0.01))
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with bus:
        await bus.links[SMALL].broker.admin.ensure([QueueSpec(SOURCE)], "create")
        await bus.send(WORK, LARGE)
        folder.rename(away)
        async with bus.consuming():
            await failed.reach(3)
            assert seen == []
            away.rename(folder)
            await seen.reach(1)
        assert bus.runners[0].subscription.stats.dead == 0
    assert str(folder) in failed[0]


DAMAGED = [b"", b"{", b"[]", b"{}", b'{"file": "5"}', b'{"file": [], "content_type": ""}', b"[" * 100_000]


@pytest.mark.parametrize("body", DAMAGED)
async def test_a_damaged_pointer_is_a_decode_error(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(DecodeError, match="the claim-check pointer is damaged"):
        await DirectoryStore(tmp_path).fetch(Delivery(body, SOURCE, {h.CONTENT_TYPE: POINTER}))


@pytest.mark.parametrize(
    "name", ["../secret", "secret", "/etc/passwd", "", "x" * 300, "a" * 32 + "/.body", "A" * 32 + ".body"]
)
async def test_a_pointer_leads_to_what_the_store_wrote_and_nowhere_else(tmp_path: Path, name: str) -> None:
    for victim in (tmp_path / "secret", tmp_path / "store" / "secret"):
        victim.parent.mkdir(exist_ok=True)
        victim.write_bytes(b"secret")
    body = json.dumps({"file": name, "content_type": "text/plain"}).encode()
    with pytest.raises(DecodeError, match="is no name that the store gives"):
        await DirectoryStore(tmp_path / "store").fetch(Delivery(body, SOURCE, {h.CONTENT_TYPE: POINTER}))


async def test_a_link_in_the_folder_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "store").mkdir()
    name = "a" * 32 + ".body"
    (tmp_path / "store" / name).symlink_to(tmp_path / "secret")
    body = json.dumps({"file": name, "content_type": "text/plain"}).encode()
    with pytest.raises(BusError, match="is not in the store"):
        await DirectoryStore(tmp_path / "store").fetch(Delivery(body, SOURCE, {h.CONTENT_TYPE: POINTER}))


async def test_the_bodies_of_two_messages_with_one_id_are_two(tmp_path: Path) -> None:
    store, out = DirectoryStore(tmp_path), []
    for body in (b"of one queue", b"of another"):
        out.append(Outgoing(Address("queue", "work"), "same", body, {}))
        await store.put(out[-1])
    for sent, body in zip(out, (b"of one queue", b"of another"), strict=True):
        came = Delivery(sent.body, SOURCE, sent.headers)
        await store.fetch(came)
        assert came.body == body
        await store.forget(came)
    assert names(tmp_path) == []


async def test_a_body_that_is_gone_is_dead_after_its_attempts(tmp_path: Path) -> None:
    bus = Bus(SMALL, store=DirectoryStore(tmp_path))

    @bus.consumer(WORK, retry=Retry(attempts=2, first_delay=0.01, max_delay=0.01, on_dead=None))
    async def work(order: Order) -> None: ...

    async with bus:
        await bus.links[SMALL].broker.admin.ensure([QueueSpec(SOURCE)], "create")
        await bus.send(WORK, LARGE)
        for name in names(tmp_path):
            os.unlink(tmp_path / name)
        async with bus.consuming():
            letters = DeadLetters(bus, WORK, wait=1.0)
            while not (found := await letters.peek()):
                await turns()
    assert (found[0].attempts, found[0].error_type) == (2, "BusError")


async def test_a_body_that_is_tried_again_in_hand_is_deleted_in_the_end(
    clock: HandClock, scripted: OpenScripted, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path)
    broker = scripted(replace(PLAIN, message_bytes=20_000, retry_delay=None))
    bus = Bus("scripted://one", clock=clock, store=store)
    out = Outgoing(Address("queue", "work"), "1", b'{"order_id": "1"}', {h.CONTENT_TYPE: "application/json"})
    await store.put(out)
    tried: list[str] = []

    @bus.consumer(WORK, retry=Retry(attempts=3, first_delay=1.0))
    async def work(order: Order) -> None:
        tried.append(order.order_id)
        if len(tried) < 3:
            raise ValueError("once more")

    async with consuming(bus, clock):
        pointer: Any = delivery(SOURCE, "1", out.body)
        pointer.headers = {**pointer.headers, **out.headers}
        broker.feed("work", pointer)
        await clock.until(lambda: broker.settled)
        await turns()
    assert (tried, broker.acts()) == (["1"] * 3, [(Act.ACK, "1")])
    assert names(tmp_path) == []


QUOTES = Rpc("quotes", Order, Order)


async def test_a_large_reply_goes_by_way_of_the_store_too_and_is_deleted(tmp_path: Path) -> None:
    bus = Bus(SMALL, store=DirectoryStore(tmp_path))

    @bus.responder(QUOTES)
    async def quote(order: Order) -> Order:
        return LARGE

    async with bus.consuming():
        assert await bus.request(QUOTES, Order(order_id="1"), timeout=5.0) == LARGE
    assert names(tmp_path) == []


@pytest.mark.parametrize("absolute", [False, True])
async def test_a_foreign_header_can_t_delete_a_file(
    clock: HandClock, scripted: OpenScripted, tmp_path: Path, absolute: bool
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "store").mkdir()
    broker = scripted(replace(PLAIN, message_bytes=20_000))
    bus = Bus("scripted://one", clock=clock, store=DirectoryStore(tmp_path / "store"))

    @bus.consumer(WORK)
    async def work(order: Order) -> None: ...

    async with consuming(bus, clock):
        claimed: Any = delivery(SOURCE, "1", b'{"order_id": "1"}')
        claimed.headers = {**claimed.headers, h.CLAIM: str(victim) if absolute else "../victim"}
        broker.feed("work", claimed)
        await clock.until(lambda: broker.settled)
        await turns()
    assert broker.acts() == [(Act.ACK, "1")]
    assert victim.exists()


async def test_a_body_that_is_no_text_travels_too(tmp_path: Path) -> None:
    blobs = Queue("blobs", bytes)
    bus = Bus(SMALL, store=DirectoryStore(tmp_path))
    seen: Seen[bytes] = Seen()

    @bus.consumer(blobs)
    async def work(body: bytes) -> None:
        seen.append(body)

    async with bus.consuming():
        await bus.send(blobs, b"\xff" * 30_000, options=SendOptions(id="mine"))
        await seen.reach(1)
    assert seen == [b"\xff" * 30_000]
