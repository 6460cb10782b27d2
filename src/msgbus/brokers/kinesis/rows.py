"""A lease: one shard of one group, as a row of the lease table. Data and its pure changes.

Names and meaning follow the lease table of the Kinesis Client Library ("DynamoDB metadata tables" in the developer
guide), so that operators recognise it: `leaseKey`, `leaseOwner`, `leaseCounter`, `checkpoint` and so on. Those that
begin with `msgbus` are ours, and harmless to others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from msgbus.brokers.kinesis.hashing import HIGHEST, Shard
from msgbus.errors import Refused, shown

TRIM_HORIZON = "TRIM_HORIZON"
AT_TIMESTAMP = "AT_TIMESTAMP"
LATEST = "LATEST"
SHARD_END = "SHARD_END"
CRASHES = 2
"""Holders that may die at one checkpoint before it is taken for the work of a record."""

SUSPECTS = 100
"""Records that may be handed out beyond a checkpoint at which a holder died: the one that did it is among them."""

DAMAGE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, StopIteration)
"""What reading a lease may raise that somebody else has written into."""

_SENTINELS = frozenset((TRIM_HORIZON, AT_TIMESTAMP, LATEST, SHARD_END))


class Open(NamedTuple):
    """A record that was handed out and is not settled: its next attempt, and when it first failed (0: never).

    `deliveries`: how often it was in the hands of a worker that ended without giving it back.
    """

    attempt: int = 1
    first_failed: float = 0.0
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What is settled beyond the checkpoint: everything up to `last` but `open`, by position."""

    last: tuple[str, int] | None = None
    open: Mapping[tuple[str, int], Open] = field(default_factory=dict)

    def is_settled(self, sequence: str, sub: int) -> bool:
        """Whether a record is known to be settled."""
        if self.last is None or (sequence, sub) in self.open:
            return False
        return (int(sequence), sub) <= (int(self.last[0]), self.last[1])

    def to_text(self) -> str:
        """As the row carries it; "" where there is nothing to say."""
        if self.last is None:
            return ""
        opened = [
            [sequence, sub, *(each if each.deliveries else each[:2])] for (sequence, sub), each in self.open.items()
        ]
        return json.dumps({"last": list(self.last), "open": opened}, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Progress:
        """What `to_text` wrote; nothing where it is damaged: records are then handed out once more."""
        try:
            told = json.loads(text) if text else {}
            if not told:
                return cls()
            opened = {
                _position(s, sub): Open(max(1, int(n)), float(t), *map(int, counted))
                for s, sub, n, t, *counted in told["open"]
            }
            return cls(_position(told["last"][0], told["last"][1]), opened)
        except DAMAGE:
            return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`owner` has the lease, or gets it from `giver`, which holds it until it has finished.

    `checkpoint` is a sequence number, with `sub` in an aggregate, or where to begin; `at`: the time of AT_TIMESTAMP
    in Unix seconds. `counter` grows with every write: who sees it stand still for a lease's time may take it.
    `crashes`: how many holders died since the checkpoint moved. `suspects`: how many records are yet to be handed out
    one by one, because such a death may have been the work of one of them.
    """

    shard: str
    owner: str = ""
    giver: str = ""
    counter: int = 0
    checkpoint: str = TRIM_HORIZON
    sub: int = 0
    at: float = 0.0
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    first: int = 0
    last: int = HIGHEST
    switches: int = 0
    progress: str = ""
    crashes: int = 0
    suspects: int = 0

    @property
    def holder(self) -> str:
        """Who reads the shard now; "" for nobody."""
        return self.giver or self.owner

    @property
    def ended(self) -> bool:
        """Everything in the shard is settled, and nothing more will come."""
        return self.checkpoint == SHARD_END

    @property
    def position(self) -> tuple[str, int] | None:
        """The checkpoint as a position; None where it says where to begin."""
        return None if self.checkpoint in _SENTINELS else (self.checkpoint, self.sub)

    def changed(self, **changes: object) -> Row:
        """The next version."""
        return replace(self, counter=self.counter + 1, **changes)  # type: ignore[arg-type]

    def anew(self, start: Row) -> Row:
        """Free, from where `start` stands; what was settled beyond it, and whoever died of it, is forgotten."""
        return self.changed(
            owner="",
            giver="",
            checkpoint=start.checkpoint,
            sub=start.sub,
            at=start.at,
            children=start.children,
            progress="",
            crashes=0,
            suspects=0,
        )

    def taken(self, by: str, *, forced: bool = False) -> Row:
        """By somebody who may: it is free, it was given, or (`forced`) its holder is gone."""
        switched = self.switches + (self.owner != by)
        crashes = self.crashes + forced
        suspects = SUSPECTS if forced and (self.suspects or crashes >= CRASHES) else self.suspects
        return self.changed(owner=by, giver="", switches=switched, crashes=crashes, suspects=suspects)

    def tried(self) -> Row:
        """One of the suspects is about to be handed out. With the last one, all is forgotten."""
        left = max(0, self.suspects - 1)
        return self.changed(suspects=left, crashes=self.crashes if left else 0)

    def asked_for(self, by: str) -> Row:
        """Its holder is to finish and give it."""
        return self.changed(owner=by, giver=self.owner)

    def given(self) -> Row:
        """By its holder: to who asked for it, else to anybody."""
        return self.changed(giver="", owner=self.owner if self.giver else "")


def _position(sequence: object, sub: object) -> tuple[str, int]:
    """Raises ValueError where the sequence number is none: positions compare as numbers."""
    int(str(sequence))
    return str(sequence), int(str(sub))


def checked(row: Row) -> Row:
    """The lease as a store has it. Raises ValueError where its checkpoint is none."""
    if row.position is not None:
        _position(*row.position)
    return row


def damaged(where: str, shard: object, error: Exception) -> Refused:
    """What to say of a lease that can't be read: it is passed over by nobody, for its shard would have two."""
    return Refused(
        f"{where}: the lease {shard!a:.100} is damaged ({shown(error)}); put it right, or delete it: its shard is then"
        " read again from where the group began"
    )


def row_of(shard: Shard, checkpoint: str, at: float = 0.0) -> Row:
    """A new lease of a shard, owned by nobody."""
    return Row(shard=shard.id, checkpoint=checkpoint, at=at, parents=shard.parents, first=shard.first, last=shard.last)
