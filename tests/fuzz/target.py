"""What is fuzzed: a decoder, inputs that it reads, and what it may do with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutations import mutated

from msgbus.errors import BusError
from msgbus.message import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`run` reads an input, and raises nothing but `allowed`; `seeds` are inputs as they really come.

    `make`: other inputs of the format. `grow`: one of about so many bytes, with lengths that are right.
    `room`: bytes of memory that an input may take beside `factor` times its size: what the limits of the decoder allow.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    make: Callable[[Random], bytes] | None = None
    grow: Sequence[Callable[[int], bytes]] = ()
    allowed: tuple[type[Exception], ...] = (BusError,)
    factor: int = 100
    room: int = 1 << 20

    def draw(self, random: Random) -> bytes:
        """An input."""
        made = self.make is not None and random.random() < 0.5
        data = self.make(random) if made and self.make is not None else random.choice(self.seeds)
        return mutated(random, data, self.seeds)


def check_delivery(delivery: Delivery) -> None:
    """Whatever came, the core gets what it can work with: the types that Delivery declares."""
    assert isinstance(delivery.body, bytes)
    for name, value in delivery.headers.items():
        assert isinstance(name, str), name
        assert isinstance(value, str), value
    assert isinstance(delivery.attempt, int)
    assert delivery.attempt >= 1
    assert delivery.lane is None or isinstance(delivery.lane, str)
    assert delivery.sent_at is None or isinstance(delivery.sent_at, float | int)
    assert delivery.fault is None or isinstance(delivery.fault, BusError)


def each(*runs: Callable[[], object]) -> None:
    """Several ways to read one input. Raises BusError where all of them refuse it."""
    refused: list[BusError] = []
    for run in runs:
        try:
            run()
        except BusError as error:
            refused.append(error)
    if len(refused) == len(runs):
        raise refused[0]
