"""What a service publishes through inside its own transactions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from msgbus.bus import Bus
from msgbus.errors import ConfigError, PublishFailed, Refused
from msgbus.options import SendOptions
from msgbus.outbox.rows import row_of
from msgbus.outbox.waker import Notifies, Waker
from msgbus.outbox.writing import write
from msgbus.publishing.outlet import Outlet
from msgbus.topic import Queue, Topic

T = TypeVar("T")


class Outbox:
    """Publishes into a table, in the caller's transaction: what is rolled back was never published.

    `bus`: declares by `bus.publishes(...)` what may be published, and says by its settings which broker will carry
    it; it need not be open, nothing here connects to a broker. `notify`: a store of the same database, for `wake`. A
    message comes behind what its transaction wrote before, so publish after the write that it tells of, or messages of
    one key may change places.
    """

    def __init__(self, bus: Bus, *, notify: Notifies | None = None) -> None:
        self._bus = bus
        self._waker = None if notify is None else Waker(notify)
        self._outlets: dict[object, Outlet] = {}

    async def publish(
        self,
        where: Any,
        target: Topic[T] | Queue[T],
        payload: T,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        options: SendOptions | None = None,
    ) -> str:
        """Publish to a topic, or send to a queue, when the transaction of `where` commits; the message's id.

        `where`: a session or connection of SQLAlchemy, or a connection of asyncpg, psycopg 3, sqlite3 or aiosqlite.
        Raises Refused where the payload can't be encoded or is too large for the broker, ConfigError for what is not
        declared and where the tables are missing, BusError where there is no transaction; the driver's own errors.
        """
        if options is not None and options.native is not None:
            raise Refused(f"{target!r}: SendOptions.native is an object of the broker's, which no table keeps")
        out = self._outlet(target).prepare(payload, key, headers, 0.0, options)
        await write(where, [row_of(out, target, self._bus.clock.time())])
        return out.id

    def wake(self) -> None:
        """Have relays look now rather than at their next poll. Call it behind the commit; costs the caller nothing.

        Raises ConfigError where the outbox was made without `notify`.
        """
        if self._waker is None:
            raise ConfigError("Outbox.wake(): give the Outbox a store to notify relays by: notify=SqlStore(url)")
        self._waker.wake()

    async def publish_many(
        self,
        where: Any,
        target: Topic[T] | Queue[T],
        payloads: Iterable[T],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Sequence[str]:
        """Several by one statement; their ids, in order. Raises as `publish`, and PublishFailed: then none is kept."""
        outlet = self._outlet(target)
        batch, refused = outlet.prepare_many(payloads, headers)
        if refused:
            raise PublishFailed(f"{target!r}: {len(refused)} payloads can't be sent", list(refused.values())) from next(
                iter(refused.values())
            )
        now = self._bus.clock.time()
        if batch:
            await write(where, [row_of(out, target, now) for out in batch])
        return [out.id for out in batch]

    def _outlet(self, target: Topic[Any] | Queue[Any]) -> Outlet:
        known = self._outlets.get(target)
        if known is not None:
            return known
        if not isinstance(target, (Topic, Queue)):
            raise ConfigError(f"outbox: got {target!r}: give a Topic or a Queue")
        if declared(self._bus, target.kind, target.name) is None:
            raise ConfigError(f"{target!r} is not declared, so no relay would know it: bus.publishes(...) declares it")
        outlet = self._outlets[target] = self._bus.draft(target)
        return outlet


def declared(bus: Bus, kind: str, name: str) -> Topic[Any] | Queue[Any] | None:
    """What `bus.publishes` was given under that name."""
    for target in bus.published:
        if isinstance(target, (Topic, Queue)) and target.kind == kind and target.name == name:
            return target
    return None
