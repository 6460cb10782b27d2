"""Filter policies. Trusted: both emulators for policies on attributes, fauxqs for policies on the body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from pydantic import BaseModel
from tests.servers import Handle
from tests.sqs.conftest import Aws, topic_arn

from msgbus import Bus, Select, Topic
from msgbus.broker import Binding, QueueSpec, TopicSpec
from msgbus.brokers.sqs import SqsBroker
from msgbus.message import Source


class Sale(BaseModel):
    country: str
    units: int = 1
    online: bool = False


async def test_on_attributes(server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str) -> None:
    bus, handled = bus_on(server.url), asyncio.Queue[str]()
    sales = Topic(name, Sale, filter_on=["region"])

    @bus.subscriber(sales, group="g", select=Select(where={"region": ["south", "west"]}))
    async def handle(sale: Sale) -> None:
        handled.put_nowait(sale.country)

    async with bus.consuming():
        for country, region in (("de", "north"), ("it", "south"), ("fr", "west")):
            await bus.publish(sales, Sale(country=country), headers={"region": region})
        assert {await handled.get(), await handled.get()} == {"it", "fr"}
        (consumer,) = bus.runners
        assert consumer.subscription.stats.skipped == 0  # SNS held it back


async def test_on_the_body(fauxqs: Handle, bus_on: Callable[..., Bus], name: str) -> None:
    bus, handled = bus_on(fauxqs.url), asyncio.Queue[Sale]()
    sales = Topic(name, Sale)
    wanted = Sale(country="fr", units=3, online=True)

    @bus.subscriber(sales, group="g", select=Select(fields={"country": ["fr"], "units": [2, 3], "online": [True]}))
    async def handle(sale: Sale) -> None:
        handled.put_nowait(sale)

    async with bus.consuming():
        await bus.publish_many(
            sales,
            [
                Sale(country="de", units=3, online=True),
                Sale(country="fr", units=4, online=True),
                Sale(country="fr", units=3),
                wanted,
            ],
        )
        assert await handled.get() == wanted
        (consumer,) = bus.runners
        assert (consumer.subscription.stats.received, consumer.subscription.stats.skipped) == (
            1,
            0,
        )  # SNS held the others back


async def test_on_both_the_core_looks_into_the_body(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str
) -> None:
    bus, handled = bus_on(server.url), asyncio.Queue[str]()
    sales = Topic(name, Sale, filter_on=["region"])
    select = Select(where={"region": ["south"]}, fields={"country": ["it"]})

    @bus.subscriber(sales, group="g", select=select)
    async def handle(sale: Sale) -> None:
        handled.put_nowait(sale.country)

    async with bus.consuming():
        for country in ("es", "it"):
            await bus.publish(sales, Sale(country=country), headers={"region": "south"})
        assert await handled.get() == "it"
    policy = (await aws.subscription(topic_arn(name)))["FilterPolicy"]
    assert json.loads(policy) == {"region": ["south", {"exists": False}]}


async def test_a_policy_changes_its_scope(broker: SqsBroker, aws: Aws, name: str) -> None:
    of_attributes = Source("topic", name, "g", filter=(("region", ("south",)),))
    of_body = Source("topic", name, "g", fields=(("country", ("it",)), ("units", (3,))))
    await broker.admin.ensure([TopicSpec(name), QueueSpec(of_attributes), Binding(name, of_attributes)], "create")
    said = await broker.admin.ensure([Binding(name, of_body)], "verify")
    assert [each.part.partition(" of ")[0] for each in said] == ["FilterPolicyScope", "FilterPolicy"]
    for source, scope in ((of_body, "MessageBody"), (of_attributes, "MessageAttributes")):
        assert all(each.made for each in await broker.admin.ensure([Binding(name, source)], "create"))
        found = await aws.subscription(topic_arn(name))
        assert found.get("FilterPolicyScope", "MessageAttributes") == scope
        assert await broker.admin.ensure([Binding(name, source)], "verify") == []
    assert json.loads(found["FilterPolicy"]) == {"region": ["south", {"exists": False}]}
