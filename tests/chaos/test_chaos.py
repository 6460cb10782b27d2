"""The rig for some seconds; `make chaos` runs it for longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.chaos.rig import Rig
from tests.effort import SHARE
from tests.servers import Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]


@pytest.mark.parametrize("seconds", [0.0, 60.0 * SHARE], ids=["nothing is broken", "all is broken"])
async def test_what_is_committed_comes_in_order(killable: Callable[[str], Server], seconds: float) -> None:
    async with Rig.open(killable("postgres"), killable("rabbitmq"), 1) as rig:
        while len(rig.seen.counts) < 100:
            await rig.breathe()
        await rig.stormy(min(seconds, 60.0))
        await rig.judge()
