"""Order per key: the messages of one account are handled one at a time, in order, through retries.

Different accounts are handled at the same time.
"""

import asyncio
import logging
import random
from collections import defaultdict

from pydantic import BaseModel

from msgbus import Bus, Message, Retry, Topic


class Booking(BaseModel):
    account: str
    number: int


# `key` alone is a hint. `ordered=True` is a demand: a broker without order is refused at start.
bookings = Topic("bookings", Booking, key="account", ordered=True)
bus = Bus()
seen: dict[str, list[int]] = defaultdict(list)
running = 0
most_at_once = 0
done = asyncio.Event()


@bus.subscriber(bookings, group="ledger", retry=Retry(attempts=5, first_delay=0.01))
async def book(message: Message[Booking]) -> None:
    global running, most_at_once
    running += 1
    most_at_once = max(most_at_once, running)
    await asyncio.sleep(random.uniform(0, 0.005))
    running -= 1
    booking = message.payload
    if booking.number == 2 and message.attempt == 1:  # its account waits for the retry, the others go on
        raise ConnectionError("the database is busy")
    seen[booking.account].append(booking.number)
    if sum(map(len, seen.values())) == 15:
        done.set()


async def main() -> None:
    async with bus.consuming():
        await bus.publish_many(bookings, [Booking(account=a, number=n) for n in range(1, 6) for a in ("a", "b", "c")])
        await done.wait()
    for account in sorted(seen):
        print(f"account {account}: {seen[account]}")
    print("accounts side by side:", most_at_once > 1)


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.CRITICAL)  # the failures above are on purpose
    asyncio.run(main())
