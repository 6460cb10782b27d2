"""What a service says it publishes is refused, made or verified when the bus opens, not with the first message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERED, ORDERS, PRICES, WORK, Ask, Order, Price
from tests.scripted import PLAIN, ScriptedAdmin, ScriptedBroker

from msgbus import Bus, Retry, Router, Topic
from msgbus.broker import Capabilities, Difference, Mode, Part, TopicSpec
from msgbus.config import Settings
from msgbus.errors import BusError, ConfigError, RegistrationError
from msgbus.router import Target

FILTERED = Topic("filtered", Order, filter_on=["region"])


class Topics(ScriptedAdmin):
    """Has topics by name; what is created stays."""

    def __init__(self) -> None:
        super().__init__()
        self.there: set[str] = set()
        self.modes: list[Mode] = []

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        self.modes.append(mode)
        self.ensured.extend(topology)
        missing = [part.name for part in topology if isinstance(part, TopicSpec) and part.name not in self.there]
        if mode == "create":
            self.there.update(missing)
        return [Difference(f"topic {name}", "there", "missing", made=mode == "create") for name in missing]


def with_topics(broker: ScriptedBroker) -> Topics:
    broker.admin = topics = Topics()
    return topics


def bus_with(*targets: Target, **settings: Any) -> Bus:
    bus = Bus(settings=Settings(url="scripted://one", **settings))
    bus.publishes(*targets)
    return bus


async def test_topics_are_made_when_the_bus_opens_and_once(scripted: OpenScripted) -> None:
    topics = with_topics(broker := scripted())
    async with bus_with(ORDERS, FILTERED, WORK, PRICES, prefix="test-") as bus:
        assert topics.ensured == [TopicSpec("test-orders"), TopicSpec("test-filtered")]
        assert len(topics.modes) == 1  # in one call, so that a broker reads its state once
        await bus.publish(ORDERS, Order(order_id="1"))
    assert len(topics.modes) == 1
    assert len(broker.sent) == 1


async def test_verify_refuses_to_open_and_lists_every_topic_that_is_missing(scripted: OpenScripted) -> None:
    with_topics(scripted())
    with pytest.raises(ConfigError, match=r"topic orders: wanted there.*topic filtered: wanted there, found missing"):
        await bus_with(ORDERS, FILTERED, provision="verify").__aenter__()


async def test_a_service_of_handlers_alone_asks_for_no_more_than_before(scripted: OpenScripted) -> None:
    topics = with_topics(scripted())
    async with bus_with():
        assert topics.modes == []


@pytest.mark.parametrize(
    ("target", "capabilities", "text"),
    [
        (ORDERED, PLAIN, r"Topic\('ordered'.*ordered=True, and scripted://one keeps no order; route it"),
        (ORDERS, replace(PLAIN, fanout=False), r"Topic\('orders'.*scripted://one has no topics with groups; route"),
        (FILTERED, replace(PLAIN, headers=0), r"topic filtered: filter_on=\['region'\] needs headers"),
        (WORK, replace(PLAIN, queues=False), r"Queue\('work'.*has no queues; route it"),
        (PRICES, replace(PLAIN, queues=False), r"Rpc\('prices'.*has no queues; route it"),
        (PRICES, replace(PLAIN, reply=False), r"Rpc\('prices'.*has no reply inboxes; route it"),
    ],
)
async def test_what_a_broker_lacks_is_refused_when_the_bus_opens(
    scripted: OpenScripted, target: Target, capabilities: Capabilities, text: str
) -> None:
    topics = with_topics(scripted(capabilities))
    with pytest.raises(ConfigError, match=text):
        await bus_with(target).__aenter__()
    assert topics.modes == []  # nothing is made for a service that can't start


async def test_what_a_broker_lacks_is_refused_with_the_first_message_where_it_is_not_declared(
    scripted: OpenScripted,
) -> None:
    topics = with_topics(scripted())
    async with bus_with() as bus:
        with pytest.raises(ConfigError, match="keeps no order"):
            await bus.publish(ORDERED, Order(order_id="1"))
        assert topics.modes == []


async def test_nothing_is_made_for_handlers_of_which_one_is_refused(scripted: OpenScripted) -> None:
    topics = with_topics(scripted(replace(PLAIN, retry_delay=60.0)))
    bus = bus_with()

    @bus.subscriber(ORDERS, group="good", retry=Retry(max_delay=60.0))
    async def good(order: Order) -> None: ...

    @bus.consumer(WORK, retry=Retry(max_delay=61.0))
    async def bad(order: Order) -> None: ...

    with pytest.raises(ConfigError, match="delays up to 60 s"):
        await bus.consuming().__aenter__()
    assert topics.modes == []


async def test_a_responder_is_refused_where_nobody_can_have_a_reply(scripted: OpenScripted) -> None:
    scripted(replace(PLAIN, reply=False))
    bus = bus_with()

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        raise AssertionError("nobody asks")

    with pytest.raises(ConfigError, match="has no reply inboxes"):
        await bus.consuming().__aenter__()


async def test_routers_declare_too(scripted: OpenScripted) -> None:
    topics = with_topics(scripted())
    router = Router()
    router.publishes(ORDERS, ORDERS)
    bus = bus_with(FILTERED, ORDERS)
    bus.include(router)
    assert bus.published == [FILTERED, ORDERS]
    async with bus:
        assert topics.there == {"orders", "filtered"}


def test_something_else_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"publishes\(\) takes Topics, Queues and Rpcs, got 'orders'"):
        Bus().publishes(cast(Target, "orders"))


async def test_tools_connect_without_it(scripted: OpenScripted) -> None:
    topics = with_topics(scripted())
    bus = bus_with(ORDERS, provision="verify")
    async with bus.connected():
        assert topics.modes == []
        (parts,) = bus.needs().values()
        assert parts == [TopicSpec("orders")]
        with pytest.raises(BusError, match="open already"):
            await bus.connected().__aenter__()
    with pytest.raises(ConfigError, match="MSGBUS_PROVISION=verify"):
        await bus.__aenter__()


async def test_what_is_published_and_handled_is_needed_once(scripted: OpenScripted) -> None:
    scripted()
    bus = bus_with(ORDERS)

    @bus.subscriber(ORDERS, group="g")
    async def handle(order: Order) -> None: ...

    async with bus.connected():
        (parts,) = bus.needs().values()
    assert [type(part).__name__ for part in parts] == ["TopicSpec", "QueueSpec", "Binding"]
