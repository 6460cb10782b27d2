"""One run of a fault test on SQS: items in, workers at work, and what must be true in the end."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from tests.faults.http import FaultyHttp
from tests.faults.ledger import Ledger
from tests.faults.sqs_weather import Wire
from tests.faults.sqs_worker import Item, Work, queue_of
from tests.slowness import slowness

from msgbus import Bus
from msgbus.dead import DeadLetters
from msgbus.message import Source


def new_queue() -> str:
    """A name of its own: the server is shared."""
    return f"faults-{uuid.uuid4().hex[:10]}"


def url_of(endpoint: str, options: str = "") -> str:
    """A broker's URL. Short polls: a stop waits for them."""
    return f"sqs://us-east-1?wait=1&endpoint={quote(endpoint, safe='')}{options}"


def some_items(count: int, *, keys: int = 200, poison: int = 97, flaky: int = 41) -> list[Item]:
    """Every so many is poison, or fails at its first attempt."""
    return [
        Item(n=n, key=f"k{n % keys}", poison=n % poison == poison - 1, flaky=int(n % flaky == flaky - 1))
        for n in range(count)
    ]


class Run:
    """`async with Run(...)`: a proxy before the server, a bus of the test behind it, and the workers' ledger."""

    def __init__(self, server: str, work: Work, items: Sequence[Item], wire: Wire, options: str = "") -> None:
        self.work = replace(work, lease=work.lease * slowness())
        self.items, self.wire = items, wire
        self.proxy = FaultyHttp(server, wire)
        self.poison = {item.n for item in items if item.poison}
        self.good = {item.n for item in items} - self.poison
        self._options = options

    async def __aenter__(self) -> Run:
        await self.proxy.__aenter__()
        url = url_of(self.proxy.url, self._options)
        self.ledger = Ledger({"MSGBUS_URL": url}, self.work.lease)
        await self.ledger.__aenter__()
        self.bus = Bus(url)
        await self.bus.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.ledger.__aexit__(*exc)
        await self.bus.__aexit__(None, None, None)
        await self.proxy.__aexit__(*exc)

    async def workers(self, count: int) -> None:
        await asyncio.gather(*(self.ledger.start(self.work) for _ in range(count)))

    async def publish(self) -> None:
        """In parts, so that they are handled meanwhile; each is confirmed, whatever the wire suffers."""
        queue = queue_of(self.work)
        for start in range(0, len(self.items), 5_000):
            await self.bus.publish_many(queue, self.items[start : start + 5_000], timeout=100)

    async def handled(self, share: float = 1.0) -> None:
        """Until that share of the good items was handled."""
        enough = share * len(self.good)
        await self.ledger.until(lambda: len(self.ledger.done) >= enough)

    async def settled(self) -> None:
        """Until the server has nothing left but dead letters."""
        self.wire.chances.clear()
        admin = self.bus.link_for(self.work.queue).broker.admin
        source = Source("queue", self.work.queue, ordered=self.work.ordered)
        while (backlog := await admin.backlog(source)) is not None and (  # noqa: ASYNC110 - others delete there
            backlog.depth or backlog.in_flight
        ):
            await asyncio.sleep(0.2)

    async def dead(self) -> Counter[int]:
        """The items in the dead-letter queue, and how often."""
        letters = await DeadLetters(self.bus, queue_of(self.work)).peek(10_000)
        return Counter(Item.model_validate_json(letter.body).n for letter in letters)

    async def judge(self) -> None:
        """Nothing lost, the dead-letter queue holds exactly the poison, every duplicate is explained."""
        await self.settled()
        await self.ledger.stop()
        assert self.ledger.done == self.good
        dead = await self.dead()
        assert set(dead) == self.poison
        broken = any(worker.broken for worker in self.ledger.workers)
        twice = {n for n, count in dead.items() if count > 1}
        assert broken or twice <= self.wire.unsure | self.wire.unsure_letters
        assert self.ledger.unexplained(self.wire) == []
