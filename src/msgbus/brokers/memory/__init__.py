"""The embedded broker, `memory://`: no server, everything a broker can do, for development, tests and demos.

`memory://` is private to its Bus; `memory://NAME` is shared by every Bus of the process that names it.
"""

from msgbus.brokers.memory.broker import MemoryBroker

__all__ = ["MemoryBroker"]
