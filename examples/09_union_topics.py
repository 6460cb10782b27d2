"""Several types of message in one topic, so that they keep their order; each handler takes its own type."""

import asyncio

from pydantic import BaseModel

from msgbus import Bus, Topic


class Opened(BaseModel):
    account: str
    owner: str


class Moved(BaseModel):
    account: str
    cents: int


class Closed(BaseModel):
    account: str


accounts = Topic("accounts", Opened | Moved | Closed, key="account", ordered=True)
bus = Bus()
done = asyncio.Event()
audited: list[str] = []


# One group, a handler per type: the group gets each message once. Nobody here takes `Closed`, so it is skipped.
@bus.subscriber(accounts.only(Opened), group="balances")
async def opened(event: Opened) -> None:
    print(f"{event.account}: opened by {event.owner}")


@bus.subscriber(accounts.only(Moved), group="balances")
async def moved(event: Moved) -> None:
    print(f"{event.account}: {event.cents:+d}")


# Another group, one handler for all of them.
@bus.subscriber(accounts, group="audit")
async def audit(event: Opened | Moved | Closed) -> None:
    audited.append(type(event).__name__)
    if isinstance(event, Closed):
        done.set()


async def main() -> None:
    async with bus.consuming():
        await bus.publish(accounts, Opened(account="a1", owner="Ada"))
        await bus.publish(accounts, Moved(account="a1", cents=500))
        await bus.publish(accounts, Moved(account="a1", cents=-120))
        await bus.publish(accounts, Closed(account="a1"))
        await done.wait()
    print(f"audited: {', '.join(audited)}")


if __name__ == "__main__":
    asyncio.run(main())
