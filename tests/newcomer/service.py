"""A newcomer's service: a topic, a call, and a handler that does what its message says."""

import asyncio
import logging
import sys

from pydantic import BaseModel

from msgbus import Bus, Delivery, Reject, Retry, RetryLater, Rpc, Topic, Unavailable
from msgbus.dead import DeadLetters

log = logging.getLogger("service")


class Job(BaseModel):
    name: str
    seconds: float = 0.0


jobs = Topic("jobs", Job, key="name")
echo = Rpc("echo", Job, Job)
bus = Bus()
done: asyncio.Queue[str] = asyncio.Queue()
buried = asyncio.Event()


async def on_dead(delivery: Delivery, error: Exception) -> None:
    buried.set()


retry = Retry(attempts=3, first_delay=0.1, max_delay=60.0, on_dead=on_dead)


@bus.subscriber(jobs, group="work", retry=retry)
async def work(job: Job) -> None:
    log.info("begun %s", job.name)
    match job.name:
        case "bad":
            raise Reject("as it says")
        case "later":
            raise RetryLater("as it says", delay=30.0)
        case "outage":
            raise Unavailable("as it says")
    await asyncio.sleep(job.seconds)
    log.info("handled %s", job.name)
    done.put_nowait(job.name)


@bus.responder(echo)
async def answer(job: Job) -> Job:
    return job


async def main() -> None:
    """Publish, handle, ask, bury, look: what every broker carries."""
    async with bus.consuming():
        await bus.publish(jobs, Job(name="good"))
        await bus.publish(jobs, Job(name="bad"))
        assert await done.get() == "good"
        assert await bus.request(echo, Job(name="ask"), timeout=20.0) == Job(name="ask")
        letters = DeadLetters(bus, jobs, "work")
        await buried.wait()
        (letter,) = await letters.peek()
        print(type(asyncio.get_running_loop()).__module__.partition(".")[0], letter.reason)  # noqa: T201


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.CRITICAL)  # a dead letter is on purpose
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
