"""Dead letters sent back: by the service where it can, else one by one. No emulator has move tasks: a fake of ours."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel
from tests.faults.http import Call, FaultyHttp, answer
from tests.servers import Handle
from tests.sqs.conftest import Aws, url_of

from msgbus import Bus, Delivery, Message, Queue, Reject
from msgbus.dead import DeadLetters
from msgbus.errors import Unavailable


class Job(BaseModel):
    number: int


class Mover:
    """Answers as the API reference says, and moves what is in the queue of the emulator."""

    def __init__(self, aws: Aws, name: str, *, sources: int = 1, ends: str = "COMPLETED", offered: bool = True) -> None:
        self.aws, self.name, self.ends, self.offered = aws, name, ends, offered
        self.sources = sources
        self.asked: list[dict[str, Any]] = []
        self.moved = 0
        self.cancelled = False
        self.looked = asyncio.Event()

    async def meet(self, call: Call) -> bytes | None:
        said: dict[str, Any]
        if call.operation == "ListDeadLetterSourceQueues":
            said = {"queueUrls": [f"http://sqs/{number}" for number in range(self.sources)]}
        elif call.operation == "StartMessageMoveTask" and self.offered:
            self.asked.append(call.params)
            said = {"TaskHandle": "handle"}
        elif call.operation == "ListMessageMoveTasks":
            said = {"Results": [await self._state()]}
            self.looked.set()
        elif call.operation == "CancelMessageMoveTask":
            self.cancelled = True
            said = {"ApproximateNumberOfMessagesMoved": self.moved}
        else:
            return answer(*await call.forward())
        return answer(200, json.dumps(said).encode())

    async def _state(self) -> dict[str, Any]:
        """The first look sees it run."""
        if not self.looked.is_set() or self.ends == "RUNNING":
            return {"Status": "RUNNING", "ApproximateNumberOfMessagesMoved": self.moved}
        for message in await self.aws.receive(f"{self.name}-dead", wait=0) if self.ends == "COMPLETED" else ():
            attributes = {
                name: {key: value for key, value in each.items() if key in ("DataType", "StringValue")}
                for name, each in message["MessageAttributes"].items()
            }
            url = await self.aws.url(self.name)
            await self.aws.sqs("SendMessage", QueueUrl=url, MessageBody=message["Body"], MessageAttributes=attributes)
            dead = await self.aws.url(f"{self.name}-dead")
            await self.aws.sqs("DeleteMessage", QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
            self.moved += 1
        return {"Status": self.ends, "ApproximateNumberOfMessagesMoved": self.moved, "FailureReason": "AccessDenied"}


class Jobs:
    """A consumer that rejects all until it is mended."""

    def __init__(self, url: str, name: str, *, ordered: bool = False) -> None:
        self.buried = asyncio.Queue[Delivery]()
        self.bus, self.mended = Bus(url, on_dead=[self._on_dead]), False
        self.handled = asyncio.Queue[Message[Job]]()
        self.queue = Queue(name, Job, key=lambda job: str(job.number), ordered=ordered)
        self.bus.consumer(self.queue)(self._handle)

    async def _handle(self, message: Message[Job]) -> None:
        if not self.mended:
            raise Reject("not now")
        self.handled.put_nowait(message)

    async def bury(self, count: int) -> DeadLetters:
        await self.bus.publish_many(self.queue, [Job(number=number) for number in range(count)])
        for _ in range(count):
            await self.buried.get()
        self.mended = True
        return DeadLetters(self.bus, self.queue)

    async def _on_dead(self, delivery: Delivery, error: Exception) -> None:
        self.buried.put_nowait(delivery)


async def test_the_service_moves_them(fauxqs: Handle, aws_fauxqs: Aws, name: str) -> None:
    mover = Mover(aws_fauxqs, name)
    async with FaultyHttp(fauxqs.url, mover.meet) as proxy:
        jobs = Jobs(url_of(proxy.url), name)
        async with jobs.bus.consuming():
            letters = await jobs.bury(3)
            progress: list[int] = []
            result = await letters.redrive(progress=progress.append)
            messages = [await jobs.handled.get() for _ in range(3)]
    assert (result.moved, progress) == (3, [0, 3])
    arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
    assert mover.asked == [{"SourceArn": f"{arn}-dead", "DestinationArn": arn}]
    assert {message.attempt for message in messages} == {1}


@pytest.mark.parametrize("why", ["not offered", "several queues share it", "FIFO", "only some are asked for"])
async def test_one_by_one_where_the_service_does_not(fauxqs: Handle, aws_fauxqs: Aws, name: str, why: str) -> None:
    mover = Mover(aws_fauxqs, name, sources=2 if why.startswith("several") else 1, offered=why != "not offered")
    async with FaultyHttp(fauxqs.url, mover.meet) as proxy:
        jobs = Jobs(url_of(proxy.url), name, ordered=why == "FIFO")
        async with jobs.bus.consuming():
            letters = await jobs.bury(2)
            result = await letters.redrive(limit=2 if why.startswith("only") else None)
            for _ in range(2):
                await jobs.handled.get()
    assert (result.moved, result.failed, mover.asked) == (2, (), [])


async def test_a_task_that_fails_says_why(fauxqs: Handle, aws_fauxqs: Aws, name: str) -> None:
    mover = Mover(aws_fauxqs, name, ends="FAILED")
    async with FaultyHttp(fauxqs.url, mover.meet) as proxy:
        jobs = Jobs(url_of(proxy.url), name)
        async with jobs.bus.consuming():
            letters = await jobs.bury(1)
            with pytest.raises(
                Unavailable, match=rf"move task from \S+{name}-dead: FAILED after 0 messages: AccessDen"
            ):
                await letters.redrive()
            assert len(await letters.peek()) == 1


async def test_an_interrupted_redrive_ends_its_task(fauxqs: Handle, aws_fauxqs: Aws, name: str) -> None:
    mover = Mover(aws_fauxqs, name, ends="RUNNING")
    async with FaultyHttp(fauxqs.url, mover.meet) as proxy:
        jobs = Jobs(url_of(proxy.url), name)
        async with jobs.bus.consuming():
            letters = await jobs.bury(1)
            redriving = asyncio.create_task(letters.redrive())
            await mover.looked.wait()
            redriving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await redriving
    assert mover.cancelled
