"""Says something where nothing was said for long, and notices a peer that says nothing."""

from __future__ import annotations

from collections.abc import Callable

from msgbus.brokers.mq.protocol import SocketProtocol
from msgbus.clock import Clock, TimerHandle
from msgbus.errors import BusError, Disconnected


class Heartbeats:
    """Of one socket. `beat`: what is said; `dead(error)` is called after a silence of twice its interval."""

    def __init__(self, clock: Clock, socket: SocketProtocol, beat: bytes, dead: Callable[[BusError], None]) -> None:
        self._clock = clock
        self._socket = socket
        self._said = beat
        self._dead = dead
        self._silent = 0
        self._timers: dict[str, TimerHandle] = {}

    def start(self, ours: float, theirs: float) -> None:
        """Seconds between two beats of ours, and of theirs; 0 for none. It looks at half of each."""
        if ours:
            self._beat(ours / 2)
        if theirs:
            self._listen(theirs / 2)

    def stop(self) -> None:
        """The connection is gone."""
        for timer in self._timers.values():
            timer.cancel()

    def _beat(self, half: float) -> None:
        if not self._socket.spoke:
            self._socket.write(self._said)
            self._socket.flush()
        self._socket.spoke = False
        self._timers["ours"] = self._clock.call_later(half, lambda: self._beat(half))

    def _listen(self, half: float) -> None:
        self._silent = 0 if self._socket.heard else self._silent + 1
        self._socket.heard = False
        if self._silent >= 4:
            self._dead(Disconnected(f"nothing heard for {4 * half:g} s: the connection is dead"))
        else:
            self._timers["theirs"] = self._clock.call_later(half, lambda: self._listen(half))
