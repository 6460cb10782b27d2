"""Which tags of a channel are settled, and the fewest acknowledgements that say so."""

from __future__ import annotations


class AckWindow:
    """The delivery tags of one channel. `done`: settled, the server does not know yet. `told`: it was told of singly.

    The prefix of settled tags goes out as one `multiple`; what is settled beyond the first unsettled one goes out
    singly, is remembered and skipped when the prefix reaches it. A tag is never acknowledged twice, and a `multiple`
    never names one that was acknowledged singly: the server closes the channel for both (406).
    """

    def __init__(self) -> None:
        self._low = 1  # all below it are settled, and the server knows
        self.done: set[int] = set()
        self.told: set[int] = set()  # at or above `_low`

    def flush(self) -> list[tuple[int, bool]]:
        """What to acknowledge now: (tag, multiple)."""
        done, told = self.done, self.told
        at, last, count = self._low, 0, 0
        while True:
            if at in done:
                done.remove(at)
                last, count = at, count + 1
            elif at in told:
                told.remove(at)
            else:
                break
            at += 1
        self._low = at
        acks = [(last, count > 1)] if count else []
        if done:
            acks += [(tag, False) for tag in sorted(done)]
            told |= done
            done.clear()
        return acks
