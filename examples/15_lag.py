"""How late a consumer is, shard by shard, as a Prometheus gauge.

Needs AWS credentials and a region, or an emulator, started in the repository:

    pip install 'msgbus[aws]' prometheus-client
    eval "$(python -m tests.servers start ministack)"
    python examples/15_lag.py

`bus.health().lags` costs no call to AWS. It is empty on brokers that are no logs.
"""

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel

from msgbus import Bus, Topic


class Order(BaseModel):
    number: int


class LagCollector:
    """Asked by Prometheus at each scrape, in whatever thread that happens."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "msgbus_lag_seconds", "How late a subscription is.", labels=["topic", "group", "shard"]
        )
        for lag in self._bus.health().lags:
            gauge.add_metric([lag.source.name, lag.source.group, lag.part], lag.seconds)
        yield gauge


orders = Topic("late-orders", Order)
bus = Bus("kinesis://?shards=1&poll=0.1&lease=3")
registry = CollectorRegistry()
registry.register(LagCollector(bus))  # a service calls start_http_server(9000, registry=registry) too
started, go_on = asyncio.Event(), asyncio.Event()


@bus.subscriber(orders, group="billing")
async def charge(order: Order) -> None:
    started.set()
    await go_on.wait()


async def main() -> None:
    async with bus.consuming():
        await bus.publish(orders, Order(number=1))
        await started.wait()
        await asyncio.sleep(1)
        print(generate_latest(registry).decode().splitlines()[-1])
        go_on.set()


asyncio.run(main())
