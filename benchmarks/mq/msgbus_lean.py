"""msgbus over its lean wire, the default."""

from functools import partial

from benchmarks.mq import ours

consume = partial(ours.consume, "lean")
publish = partial(ours.publish, "lean")
gather = partial(ours.gather, "lean")
calls = partial(ours.calls, "lean")
latency = partial(ours.latency, "lean")
