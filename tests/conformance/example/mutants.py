"""The example with one fault each, as brokers of strangers had them while the suite was green.

Each names the tests of the suite that must fail on it.
"""

# ruff: noqa: S608 - the statements are of this file alone

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from examples import sqlite_broker as example
from examples.sqlite_broker import SqliteAdmin, SqliteBroker, SqliteReceiver
from tests.conformance.example.harness import ExampleBroker

from msgbus import headers as h
from msgbus.broker import Backlog, Capabilities
from msgbus.errors import BusError, Disconnected, Refused
from msgbus.message import Act, Delivery, Outgoing, Receipt, Settlement, Source


@dataclass(frozen=True)
class Mutant:
    """A faulty broker, and the tests that find the fault."""

    broker: Callable[..., SqliteBroker]
    killers: tuple[str, ...]


MUTANTS: dict[str, Mutant] = {}


def mutant(*killers: str) -> Callable[[type[SqliteBroker]], type[SqliteBroker]]:
    """Adds a class to MUTANTS."""

    def add(broker: type[SqliteBroker]) -> type[SqliteBroker]:
        MUTANTS[broker.__name__] = Mutant(broker, killers)
        return broker

    return add


class Faulty(ExampleBroker):
    """Opens receivers of the class `receiving`, and has an admin of the class `administering`."""

    receiving: type[SqliteReceiver] = SqliteReceiver
    administering: type[SqliteAdmin] = SqliteAdmin

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.admin = self.administering(self.database, self.clock)

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[SqliteReceiver]:
        async with super().receiver(source, prefetch=prefetch) as receiver:
            receiver.__class__ = self.receiving
            yield receiver


class Copying(SqliteReceiver):
    """Has a settlement changed before it is carried out."""

    def _settle(self, settlement: Settlement) -> BusError | None:
        return super()._settle(self.changed(settlement))

    def changed(self, settlement: Settlement) -> Settlement:
        return settlement


# -- leases and room


@mutant("test_the_lease_claimed_is_the_lease_in_force")
class ClaimsTheLeaseOfItsUrl(ExampleBroker):
    def capabilities(self, source: Source | None = None) -> Capabilities:
        return replace(super().capabilities(source), lease=self.options.lease)


@mutant("test_settling_after_the_lease_changes_nothing")
class CountsRoomBySettlements(Faulty):
    class receiving(SqliteReceiver):  # noqa: N801
        taken = 0

        def _take(self, limit: int) -> list[Delivery]:
            got = super()._take(max(0, min(limit, self._prefetch - self.taken)))
            self.taken += len(got)
            return got

        def _settle(self, settlement: Settlement) -> BusError | None:
            result = super()._settle(settlement)
            self.taken -= result is None
            return result


# -- order


@mutant("test_released_messages_keep_their_order")
class ReleasesBehindWhatWaits(Faulty):
    class receiving(SqliteReceiver):  # noqa: N801
        def _settle(self, settlement: Settlement) -> BusError | None:
            result = super()._settle(settlement)
            if result is None and settlement.act is Act.RELEASE:
                last = "UPDATE messages SET id = (SELECT max(id) FROM messages) + 1 WHERE id = :id"
                self._database.run(last, id=settlement.delivery.token["id"])
            return result


# -- RETRY


@mutant("test_a_retry_comes_after_its_delay")
class RetriesACopyAndKeepsTheOriginal(Faulty):
    class receiving(SqliteReceiver):  # noqa: N801
        def _settle(self, settlement: Settlement) -> BusError | None:
            before = settlement.delivery.token
            result = super()._settle(settlement)
            if result is None and settlement.act is Act.RETRY and settlement.delay:
                columns = "place, body, headers, lane, sent, attempt, deliveries, lease"
                due = self._clock.time() + self._lease
                again = f"INSERT INTO messages ({columns}, due) SELECT {columns}, :due FROM messages WHERE id = :id"
                self._database.run(again, due=due, id=before["id"])
            return result


def _losing(name: str) -> type[SqliteReceiver]:
    class Losing(SqliteReceiver):
        def _settle(self, settlement: Settlement) -> BusError | None:
            result = super()._settle(settlement)
            if settlement.act is Act.RETRY:
                (row,) = self._database.rows(
                    "SELECT headers FROM messages WHERE id = :id", id=settlement.delivery.token["id"]
                )
                kept = {key: value for key, value in json.loads(row["headers"]).items() if key != name}
                self._database.update(settlement.delivery.token["id"], headers=json.dumps(kept))
            return result

    return Losing


@mutant("test_a_retry_changes_nothing_but_the_attempt")
class LosesReplyTo(Faulty):
    receiving = _losing(h.REPLY_TO)


@mutant("test_a_retry_changes_nothing_but_the_attempt")
class LosesCorrelation(Faulty):
    receiving = _losing(h.CORRELATION)


@mutant("test_a_retry_changes_nothing_but_the_attempt")
class LosesTheHeadersOfASettlement(Faulty):
    class receiving(Copying):  # noqa: N801
        def changed(self, settlement: Settlement) -> Settlement:
            return replace(settlement, headers=None) if settlement.act is Act.RETRY else settlement


@mutant("test_a_retry_comes_after_its_delay")
class RetriesASecondTooLate(Faulty):
    class receiving(Copying):  # noqa: N801
        def changed(self, settlement: Settlement) -> Settlement:
            return replace(settlement, delay=settlement.delay + 1.0) if settlement.delay else settlement


@mutant("test_a_delayed_message_comes_after_its_delay")
class DelaysASecondTooLong(ExampleBroker):
    def _store(self, out: Outgoing) -> Receipt | BusError:
        return super()._store(replace(out, delay=out.delay + 1.0) if out.delay else out)


@mutant("test_what_a_closed_receiver_held_comes_back")
class IgnoresCrashes(Faulty):
    class receiving(SqliteReceiver):  # noqa: N801
        def _take(self, limit: int) -> list[Delivery]:
            got = super()._take(limit)
            for delivery in got:
                self._database.update(delivery.token["id"], attempt=delivery.attempt)
            return got


# -- results


@mutant("test_results_are_in_the_order_of_the_batch")
class ReversesTheResultsOfSettle(Faulty):
    class receiving(SqliteReceiver):  # noqa: N801
        async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
            return list(await super().settle(batch))[::-1]


@mutant("test_results_are_in_the_order_of_the_batch")
class ReversesTheResultsOfExtend(Faulty):
    class receiving(SqliteReceiver):  # noqa: N801
        async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
            return list(await super().extend(batch, seconds))[::-1]


@mutant("test_a_bad_entry_fails_alone", "test_what_the_server_refuses_fails_alone")
class ReversesTheResultsOfSend(ExampleBroker):
    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        return list(await super().send(batch))[::-1]


@mutant("test_what_the_server_refuses_fails_alone")
class TellsAnErrorAsAReceipt(ExampleBroker):
    def _store(self, out: Outgoing) -> Receipt | BusError:
        result = super()._store(out)
        return result if isinstance(result, Receipt) else Receipt(out.id)


# -- connecting


@mutant("test_connecting_to_no_server_can_be_tried_again")
class ConnectsWithoutLooking(ExampleBroker):
    async def connect(self) -> None:
        with suppress(BusError):
            await super().connect()


@mutant("test_a_wrong_password_is_refused")
class TellsAWrongPasswordAsDisconnected(ExampleBroker):
    async def connect(self) -> None:
        try:
            await super().connect()
        except Refused as error:
            raise Disconnected(str(error)) from error


class _AllDisconnected(example.Database):
    @contextmanager
    def _errors(self) -> Any:
        try:
            with super()._errors():
                yield
        except BusError as error:
            raise Disconnected(str(error)) from error


@mutant("test_what_the_server_refuses_fails_alone")
class TellsEveryErrorAsDisconnected(Faulty):
    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.database.__class__ = _AllDisconnected


# -- the cold side


def _backlog(change: Callable[[Backlog], Backlog]) -> type[SqliteAdmin]:
    class Wrong(SqliteAdmin):
        async def backlog(self, source: Source) -> Backlog | None:
            found = await super().backlog(source)
            return found and change(found)

    return Wrong


@mutant("test_backlog_counts_what_waits")
class CountsWhatIsHeldAsWaiting(Faulty):
    administering = _backlog(lambda found: replace(found, depth=found.depth + (found.in_flight or 0)))


@mutant("test_backlog_counts_what_waits")
class CountsNothingInFlight(Faulty):
    administering = _backlog(lambda found: replace(found, in_flight=0))


@mutant("test_backlog_counts_what_waits")
class CountsWhatWaitsAsInFlight(Faulty):
    administering = _backlog(lambda found: replace(found, in_flight=found.depth))


@mutant("test_backlog_counts_what_waits")
class TellsNoAge(Faulty):
    administering = _backlog(lambda found: replace(found, oldest=0.0))


@mutant("test_backlog_counts_what_waits")
class TellsTheAgeOfTheNewest(Faulty):
    class administering(SqliteAdmin):  # noqa: N801
        async def backlog(self, source: Source) -> Backlog | None:
            found = await super().backlog(source)
            place = example.name_of(source.address)
            (row,) = self._database.rows("SELECT max(sent) AS sent FROM messages WHERE place = :place", place=place)
            return found and replace(found, oldest=row["sent"] and self._clock.time() - row["sent"])


@mutant("test_purge_leaves_what_is_in_flight")
class PurgesWhatIsInFlight(Faulty):
    class administering(SqliteAdmin):  # noqa: N801
        async def purge(self, source: Source) -> int:
            everything = "DELETE FROM messages WHERE place = :place"
            return self._database.run(everything, place=example.name_of(source.address)).rowcount


# -- inboxes and polls


@mutant("test_an_inbox_that_is_left_is_gone")
class KeepsItsInboxes(Faulty):
    class receiving(SqliteReceiver):  # noqa: N801
        def close(self) -> None:
            address, self.address = self.address, ""
            super().close()
            self.address = address


@mutant("test_an_idle_receiver_rests")
class PollsEvery5Milliseconds(ExampleBroker):
    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.options = replace(self.options, poll=0.005)
