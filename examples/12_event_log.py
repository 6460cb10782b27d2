"""A topic as a log: events are kept, and a group that comes later reads them from the beginning.

Runs on the embedded broker. On Kinesis it is the same code:

    MSGBUS_URL=kinesis://eu-west-1 MSGBUS_PROVISION=create python examples/12_event_log.py
"""

import asyncio
import os
from collections import defaultdict

from pydantic import BaseModel

from msgbus import Bus, Message, Topic
from msgbus.message import Start
from msgbus.options import Select


class Moved(BaseModel):
    account: str
    cents: int


URL = os.environ.get("MSGBUS_URL", "memory://bank?replay=1000")  # the embedded broker keeps a log only if asked
moves = Topic("moves", Moved, key="account", ordered=True)


class Reader:
    """Builds something from the events; `until` waits for so many."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = defaultdict(list)
        self._changed = asyncio.Condition()

    async def add(self, move: Moved) -> None:
        async with self._changed:
            self.seen[move.account].append(move.cents)
            self._changed.notify_all()

    async def until(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: sum(map(len, self.seen.values())) >= count)


async def main() -> None:
    writer, balances = Bus(URL), Reader()

    @writer.subscriber(moves, group="balances")
    async def balance(message: Message[Moved]) -> None:
        await balances.add(message.payload)

    async with writer.consuming():
        await writer.publish_many(moves, [Moved(account=a, cents=c) for c in (500, -120, 80) for a in ("ada", "bob")])
        await balances.until(6)
        for account, cents in sorted(balances.seen.items()):
            print(f"{account} has {sum(cents)}")

        # Next year somebody needs statements. Nothing was prepared for that; the events are still there.
        late, statements = Bus(URL), Reader()

        @late.subscriber(moves, group="statements", select=Select(start=Start("oldest")))
        async def state(move: Moved) -> None:
            await statements.add(move)

        async with late.consuming():
            await statements.until(6)
    for account, cents in sorted(statements.seen.items()):
        print(f"{account}'s statement: {', '.join(f'{each:+}' for each in cents)}")


if __name__ == "__main__":
    asyncio.run(main())
