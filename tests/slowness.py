"""How slow this machine is, for what has to trust real time: leases of real servers, deadlines of processes.

A test multiplies such seconds by `slowness()`. On a machine that gives every process its share it is 1; where eight
others are busy on the same cores it is what is missing. Deadlines that nobody waits for on a good day can be long
anyway.
"""

from __future__ import annotations

import functools
import os
import time

_SPIN = 0.1  # seconds of work
_USUAL = 0.5  # of a core: what a process has where more tests run at once than there are cores


def share_of_a_core() -> float:
    """What this process gets of a core right now: 1.0 where nobody else wants it."""
    wall, work = time.monotonic(), time.thread_time()
    while time.thread_time() - work < _SPIN:
        pass
    return min(1.0, _SPIN / (time.monotonic() - wall))


@functools.cache
def slowness() -> float:
    """By what real-time seconds are multiplied here, measured once; `MSGBUS_TEST_SLOWNESS` says it instead."""
    if said := os.environ.get("MSGBUS_TEST_SLOWNESS"):
        return float(said)
    return max(1.0, _USUAL / share_of_a_core())


slowness()  # as the session starts, when nothing of a test's own is running
