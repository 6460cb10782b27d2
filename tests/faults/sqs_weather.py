"""What the wire of SQS suffers, surely, and by chance and seed, and what the server was told all the same."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.faults.http import Call, Meet, answer, passed

DEAD = ("-dead", "-dead.fifo")


def _refusal(status: int, code: str) -> Meet:
    async def refused(call: Call) -> bytes | None:
        return answer(status, json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "by the test"}).encode())

    refused.__name__ = code
    return refused


broken = _refusal(500, "InternalFailure")
down = _refusal(503, "ServiceUnavailable")
throttled = _refusal(400, "RequestThrottled")


async def no_json(call: Call) -> bytes | None:
    """A load balancer's page."""
    return answer(502, b"<html>Bad gateway</html>")


async def cut(call: Call) -> bytes | None:
    """The connection ends before the server has the request."""
    return None


async def lost(call: Call) -> bytes | None:
    """It is carried out, and the connection ends before the answer."""
    await call.forward()
    return None


async def half(call: Call) -> bytes | None:
    """It is carried out, and half of the answer comes."""
    whole = answer(*await call.forward())
    call.notes["close"] = True
    return whole[: len(whole) // 2]


def slow(seconds: float) -> Meet:
    """It is carried out, and answered so much later."""

    async def late(call: Call) -> bytes | None:
        said = await call.forward()
        await asyncio.sleep(seconds)
        return answer(*said)

    return late


async def partly(call: Call) -> bytes | None:
    """Every second entry of a batch fails, in turn by the service's fault and for too much load."""
    entries = call.params.get("Entries")
    if not entries or len(entries) < 2:
        return await passed(call)
    status, body = await call.forward(json.dumps({**call.params, "Entries": entries[::2]}).encode())
    said = json.loads(body)
    failed = [
        {"Id": entry["Id"], "Code": code, "SenderFault": False, "Message": "by the test"}
        for entry, code in zip(entries[1::2], ["InternalError", "RequestThrottled"] * len(entries), strict=False)
    ]
    said["Failed"] = [*(said.get("Failed") or ()), *failed]
    return answer(status, json.dumps(said).encode())


LOSING = (lost, half)
"""Strikes after which the client can't know what happened; `slow` may be one."""


BATCHES = ("SendMessageBatch", "DeleteMessageBatch")
"""Operations that every run calls often."""


class Wire:
    """A `Meet` that strikes and keeps the server's books.

    Every strike that has a chance hits each of the batch operations once, early on: a small run meets all of them.

    `copies`: by the item's number, the MessageIds under which the queue took it. `letters`: how often the
    dead-letter queue took it. `unsure`: items (and letters) whose send was carried out without the client seeing so.
    """

    def __init__(self, chances: Mapping[Meet, float] | None = None, seed: int = 1) -> None:
        self.chances = dict(chances or {})
        self.copies: defaultdict[int, list[str]] = defaultdict(list)
        self.letters: Counter[int] = Counter()
        self.unsure: set[int] = set()
        self.unsure_letters: set[int] = set()
        self.struck: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.before: Callable[[Call], Awaitable[bytes | None]] | None = None
        self._random = random.Random(seed)
        self._sure = {(place * 4 + 3): strike for place, strike in enumerate(self.chances)}
        self._call = asyncio.Event()

    async def next_call(self) -> None:
        """Until somebody calls."""
        self._call.clear()
        await self._call.wait()

    async def __call__(self, call: Call) -> bytes | None:
        self.operations[call.operation] += 1
        self._call.set()
        if self.before is not None and (said := await self.before(call)) is not None:
            return said
        strike = self._choose(call.operation)
        if call.operation == "SendMessageBatch":
            call.forward = self._booked(call, call.forward, unsure=strike in LOSING or strike.__name__ == "late")
        if strike is not passed:
            self.struck[f"{call.operation} {strike.__name__}"] += 1
        return await strike(call)

    def spared(self) -> list[str]:
        """Batch operations, and the strikes that they never met."""
        met = [f"{operation} {strike.__name__}" for operation in BATCHES for strike in self._sure.values()]
        return [each for each in met if not self.struck[each]]

    def _choose(self, operation: str) -> Meet:
        if operation in BATCHES and self.chances and (sure := self._sure.get(self.operations[operation])):
            return sure
        draw = self._random.random()
        for strike, chance in self.chances.items():
            draw -= chance
            if draw < 0:
                return strike
        return passed

    def _booked(self, call: Call, forward: Callable[..., Awaitable[tuple[int, bytes]]], *, unsure: bool) -> Any:
        numbers = {entry["Id"]: _number(entry["MessageBody"]) for entry in call.params["Entries"]}
        is_dead = call.params["QueueUrl"].endswith(DEAD)

        async def booked(changed: bytes | None = None) -> tuple[int, bytes]:
            status, body = await forward(changed)
            for good in json.loads(body).get("Successful") or ():
                number = numbers[good["Id"]]
                if is_dead:
                    self.letters[number] += 1
                elif good["MessageId"] not in self.copies[number]:
                    self.copies[number].append(good["MessageId"])
                if unsure:
                    (self.unsure_letters if is_dead else self.unsure).add(number)
            return status, body

        return booked


def _number(body: str) -> int:
    return int(json.loads(body)["n"])
