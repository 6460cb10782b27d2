"""How long workers take to share the leases, on a clock that the test turns."""

from __future__ import annotations

import random

import pytest
from tests.kinesis.groups import LEASE, Workers

SEEDS = range(25)


@pytest.fixture
async def workers() -> Workers:
    made = Workers()
    await made.begin()
    return made


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 2, 4])
async def test_who_starts_together_is_balanced_within_three_leases(workers: Workers, count: int, seed: int) -> None:
    random.seed(seed)
    workers.start(count)
    assert await workers.until_balanced() <= 3
    await workers.close()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [2, 4])
async def test_who_joins_is_balanced_within_three_leases(workers: Workers, count: int, seed: int) -> None:
    random.seed(seed)
    workers.start(1)
    assert await workers.until_balanced() <= 3
    await workers.clock.advance(random.random() * LEASE)
    workers.start(count - 1)
    assert await workers.until_balanced() <= 3
    await workers.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_a_dead_worker_had_is_shared_within_three_leases(workers: Workers, seed: int) -> None:
    random.seed(seed)
    workers.start(2)
    await workers.until_balanced()
    await workers.clock.advance(random.random() * LEASE)
    workers.kill()
    assert await workers.until_balanced() <= 3
    await workers.close()
