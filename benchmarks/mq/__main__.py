"""`make bench-mq`: msgbus on RabbitMQ beside raw clients and frameworks, on one server, interleaved.

Every case runs in a process of its own; a round runs each once, in a shuffled order. The figures are medians of the
rounds, with the smallest and the largest. Only the ratios travel to another machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Mapping

from tests.servers import server

from benchmarks.mq.payload import BODY, HEADERS
from msgbus import headers as h
from msgbus.broker import QueueSpec
from msgbus.brokers.amqp import AmqpBroker
from msgbus.clock import SystemClock
from msgbus.message import Address, Outgoing, Receipt, Source

COUNTS = {"consume": 20_000, "publish": 20_000, "gather": 10_000, "calls": 5, "latency": 500}
CASES = {
    "consume": ("raw_aio_pika", "raw_aiormq", "faststream_rabbit", "kombu_pyamqp", "msgbus_lean", "msgbus_aio_pika"),
    "publish": ("raw_aio_pika", "msgbus_lean", "msgbus_aio_pika"),
    "gather": ("raw_aio_pika", "raw_aiormq", "faststream_rabbit", "msgbus_lean", "msgbus_aio_pika"),
    "calls": ("raw_aio_pika", "faststream_rabbit", "msgbus_lean", "msgbus_aio_pika"),
    "latency": ("raw_aio_pika", "faststream_rabbit", "msgbus_lean", "msgbus_aio_pika"),
}
SLOW = {"faststream_rabbit": 4, "kombu_pyamqp": 2, "raw_aio_pika": 2}
"""These get a fraction of the messages: what one costs does not depend on how many there are."""

TITLES = {
    "consume": "Consume: 1 KiB, validated, an awaited handler, acknowledged",
    "publish": "Publish in batches of 100, each confirmed (raw: 100 gathered)",
    "gather": "Publish from 100 tasks, each confirmed",
    "calls": "50 concurrent requests to a handler of 50 ms",
    "latency": "Request and reply, one at a time",
}
Figures = Mapping[str, list[dict[str, float]]]


async def prepare(url: str, count: int) -> str:
    """A new quorum queue that holds `count` orders."""
    source = Source("queue", f"bench-{uuid.uuid4().hex[:8]}")
    broker = AmqpBroker(url, clock=SystemClock())
    await broker.connect()
    try:
        await broker.admin.ensure([QueueSpec(source, 20)], "create")
        address = Address("queue", source.name)
        for start in range(0, count, 1000):
            sent = await broker.send([_order(address) for _ in range(min(1000, count - start))])
            assert all(isinstance(each, Receipt) for each in sent)
    finally:
        await broker.close()
    return source.name


def _order(address: Address) -> Outgoing:
    message_id = str(uuid.uuid4())
    return Outgoing(address, message_id, BODY, {h.ID: message_id, h.CONTENT_TYPE: "application/json", **HEADERS})


def run_case(url: str, work: str, client: str) -> dict[str, float]:
    """One process; the figures that it prints."""
    count = COUNTS[work] // (SLOW.get(client, 1) if work in ("consume", "publish", "gather") else 1)
    queue_name = asyncio.run(prepare(url, count if work == "consume" else 0))
    command = (sys.executable, "-m", "benchmarks.mq.case", client, work, url, queue_name, str(count))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{work} with {client} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def show(work: str, figures: Figures) -> None:
    """A table of medians; ratios are against raw aio-pika in the same run."""
    print(f"\n{TITLES[work]}")
    base = figures["raw_aio_pika"]
    for client, rounds in figures.items():
        cells = [f"{client:18}"]
        for name in rounds[0]:
            values = sorted(each[name] for each in rounds)
            middle = statistics.median(values)
            ratio = middle / statistics.median(each[name] for each in base)
            cells.append(f"{name} {middle:9,.1f} ({values[0]:,.1f} to {values[-1]:,.1f}) x{ratio:.2f}")
        print("  " + "   ".join(cells))


def main() -> None:
    """Start a server, run the rounds, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mq", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(CASES), action="append", help="may be given more than once")
    parser.add_argument("--clients", help="a comma-separated selection; raw_aio_pika always runs")
    options = parser.parse_args()
    wanted = set((options.clients or "").split(",")) | {"raw_aio_pika"} if options.clients else None
    works = options.only or list(CASES)
    with server("rabbitmq") as rabbitmq:
        for work in works:
            clients = [client for client in CASES[work] if wanted is None or client in wanted]
            found: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
            for _ in range(options.rounds):
                for client in random.sample(clients, len(clients)):
                    found[client].append(run_case(rabbitmq.url, work, client))
            show(work, {client: found[client] for client in clients})
    print(f"\ncpu: us of client CPU a message; rate: messages a second; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
