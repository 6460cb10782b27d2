"""Large bodies by way of a store: what goes, what comes back, what is deleted, and what a stranger can't do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, WORK, Order
from tests.scripted import PLAIN, HandClock, Seen, consuming, delivery, turns

from msgbus import Batch, Bus, Queue, Refused, Retry, Unavailable
from msgbus import headers as h
from msgbus.broker import QueueSpec
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
        receipt = await bus.send(WORK, LARGE)
        await seen.reach(2)
    assert seen == [(LARGE, [receipt.id])] * 2
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
        receipt = await bus.publish(ORDERS, LARGE)
        await seen.reach(2)
    assert seen == [LARGE.customer_id] * 2
    assert names(tmp_path) == [receipt.id]


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

    bus = Bus(SMALL, store=DirectoryStore(tmp_path), middlewares=[note])

    @bus.consumer(WORK, retry=Retry(attempts=1, first_delay=0.01, max_delay=0.01))
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with bus:
        await bus.links[SMALL].broker.admin.ensure([QueueSpec(SOURCE)], "create")
        receipt = await bus.send(WORK, LARGE)
        (tmp_path / receipt.id).rename(tmp_path / "moved")
        async with bus.consuming():
            await failed.reach(3)
            assert seen == []
            (tmp_path / "moved").rename(tmp_path / receipt.id)
            await seen.reach(1)
        assert bus.runners[0].subscription.stats.dead == 0
    assert str(tmp_path) in failed[0]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"id": "5"}'])
async def test_a_damaged_pointer_is_a_decode_error(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(DecodeError, match="the claim-check pointer is damaged"):
        await DirectoryStore(tmp_path).fetch(Delivery(body, SOURCE, {h.CONTENT_TYPE: POINTER}))


async def test_a_pointer_can_t_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    store = DirectoryStore(tmp_path / "store")
    body = b'{"id": "../secret", "content_type": "text/plain"}'
    with pytest.raises(Unavailable):
        await store.fetch(Delivery(body, SOURCE, {h.CONTENT_TYPE: POINTER}))


async def test_the_id_of_a_message_can_t_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    out = Outgoing(Address("queue", "work"), "../escaped", b"body", {})
    try:
        await DirectoryStore(tmp_path / "store").put(out)
    except Refused:
        return
    assert names(tmp_path) == ["store"]


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


async def test_an_id_of_one_s_own_names_the_file(tmp_path: Path) -> None:
    blobs = Queue("blobs", bytes)
    bus = Bus(SMALL, store=DirectoryStore(tmp_path))
    seen: Seen[bytes] = Seen()

    @bus.consumer(blobs)
    async def work(body: bytes) -> None:
        seen.append(body)
        assert names(tmp_path) == ["mine"]

    async with bus.consuming():
        await bus.send(blobs, b"\xff" * 30_000, options=SendOptions(id="mine"))
        await seen.reach(1)
    assert seen == [b"\xff" * 30_000]
