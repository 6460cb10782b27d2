"""One redrive: which letters go back, and what became of each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from msgbus import headers as h
from msgbus.clock import Clock
from msgbus.dead.letters import DeadLetter, Failure, Redriven
from msgbus.dead.reading import Reading
from msgbus.envelope.fitting import Fit
from msgbus.errors import BusError, DecodeError, Refused, Timeout
from msgbus.message import CopyOf, Delivery, Outgoing, Receipt, Source
from msgbus.publishing.link import Link

PREFETCH = 1_000  # letters in hand at once
SEARCH = 10_000  # the same while some are looked for by their ids: the others must be held, or they would come again
_STEP = 100  # letters sent before they are removed: what a crash doubles at most

_DROPPED = (*h.FAILURE, h.ENCODING)  # ENCODING: the copy is fitted anew


@dataclass(frozen=True, slots=True)
class Sender:
    """Where letters go back to, and how."""

    source: Source
    link: Link
    fit: Fit | None
    timeout: float

    def copy(self, letter: DeadLetter, delivery: Delivery) -> Outgoing:
        """The message as it was before it failed, with an id for deduplication windows of its own."""
        headers = {name: value for name, value in letter.headers.items() if name not in _DROPPED}
        message_id = headers.setdefault(h.ID, str(uuid.uuid4()))  # without one, copies can't be told apart
        headers[h.HOP], dedup_id = h.resend_id(letter.headers, message_id)
        key = headers.get(h.KEY, delivery.lane)
        out = Outgoing(self.source.address, message_id, letter.body, headers, key)
        added = {name: headers[name] for name in (h.HOP, h.ID) if name == h.HOP or h.ID not in letter.headers}
        out.native = CopyOf(delivery, h.FAILURE, added)
        out.lane = out.key if self.source.ordered else None
        out.dedup_id = dedup_id
        out.expires_at = letter.expires_at
        out.mandatory = True  # a subscription that is gone is an error, not a black hole
        return out

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """Fit the batch to the broker and send it. Raises Timeout: the outcome is unknown."""
        if self.fit is not None:
            for out in batch:
                self.fit(out)
        try:
            async with asyncio.timeout(self.timeout):
                return await self.link.send(batch)
        except TimeoutError as error:
            raise Timeout(f"{self.source}: no answer to a redrive within {self.timeout:g} s") from error


@dataclass(frozen=True, slots=True)
class _Letter:
    delivery: Delivery
    letter: DeadLetter

    @property
    def key(self) -> tuple[str, str, bytes]:
        """What tells that a letter was seen before."""
        return self.letter.id, self.letter.hop, self.letter.body


class Redrive:
    """One run over the dead letters of a subscription. It ends: a letter is sent at most once in a run."""

    def __init__(self, sender: Sender, clock: Clock, ids: Collection[str] | None, limit: int | None) -> None:
        self.moved = 0
        self._sender = sender
        self._clock = clock
        self._started = clock.time()
        self._ids = None if ids is None else set(ids)
        self._missing = set(ids or ())
        self._limit = limit
        self._sent: set[tuple[str, str]] = set()  # id and hop of each copy
        self._doubled: dict[tuple[str, str, bytes], str] = {}
        self._failed: list[Failure] = []
        self._left = 0
        self._stuck = False

    def wanted(self, held: int) -> int:
        """How many letters to look at next; 0: this run has seen enough."""
        if self._stuck or (self._ids is not None and not self._missing):
            return 0
        room = min(_STEP, (PREFETCH if self._ids is None else SEARCH) - held)
        if self._limit is None or (self._ids is not None and self._open()):
            return room
        return min(room, self._open())

    async def take(self, batch: Sequence[Delivery], reading: Reading) -> None:
        """Send back what is wanted of a batch, then remove it; hold the rest."""
        letters = [_Letter(delivery, DeadLetter.of(delivery)) for delivery in batch]
        again = [letter for letter in letters if h.ID in letter.letter.headers and letter.key in self._doubled]
        await self._remove(again, reading)  # sent before, when they could not be removed
        chosen: list[tuple[_Letter, Outgoing]] = []
        for letter in letters:
            if letter not in again and (copy := self._choose(letter, len(chosen))) is not None:
                chosen.append((letter, copy))
        if chosen:
            self._sent.update((copy.id, copy.headers[h.HOP]) for _, copy in chosen)
            results = await self._sender.send([copy for _, copy in chosen])
            await self._remove([*self._accepted(chosen, results)], reading)

    def result(self) -> Redriven:
        """What it did."""
        return Redriven(
            moved=self.moved,
            doubled=tuple(self._doubled.values()),
            failed=tuple(self._failed),
            left=self._left,
            missing=tuple(sorted(self._missing)),
        )

    def _open(self) -> int:
        """How many more may be sent."""
        return 1 << 62 if self._limit is None else self._limit - self.moved - len(self._doubled)

    def _choose(self, seen: _Letter, already: int) -> Outgoing | None:
        """The copy to send, or None for a letter that stays."""
        letter = seen.letter
        if already >= self._open() or not self._is_wanted(letter):
            self._left += 1
            return None
        self._missing.discard(letter.id)
        if letter.damaged:
            self._fail(letter.id, DecodeError(letter.damaged))
            return None
        if letter.expires_at is not None and letter.expires_at <= self._clock.time():
            self._fail(letter.id, Refused("it has expired: sent back, it would be dropped unseen"))
            return None
        return self._sender.copy(letter, seen.delivery)

    def _is_wanted(self, letter: DeadLetter) -> bool:
        if self._ids is not None and letter.id not in self._ids:
            return False
        if letter.origin and letter.origin != self._sender.source.origin:  # several subscriptions share the queue
            return False
        failed_again = (letter.id, letter.hop) in self._sent
        return not failed_again and (letter.first_failed or 0.0) <= self._started

    def _accepted(
        self, chosen: Sequence[tuple[_Letter, Outgoing]], results: Sequence[Receipt | BusError]
    ) -> Iterable[_Letter]:
        for (letter, copy), result in zip(chosen, results, strict=True):
            if isinstance(result, BusError):
                self._fail(copy.id, result)
            elif result.unrouted:
                self._fail(copy.id, Refused(f"{copy.address} is not there"))
            else:
                yield letter

    async def _remove(self, letters: Sequence[_Letter], reading: Reading) -> None:
        if not letters:
            return
        results = await reading.remove([letter.delivery for letter in letters])
        for letter, result in zip(letters, results, strict=True):
            if result is None:
                self._doubled.pop(letter.key, None)
                self.moved += 1
            else:
                self._doubled[letter.key] = letter.letter.id
        self._stuck |= None not in results  # where nothing can be removed, going on would only make more doubles

    def _fail(self, message_id: str, error: BusError) -> None:
        self._failed.append(Failure(message_id, error))
