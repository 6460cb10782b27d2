"""Bytes that count how many of them are looked at: what a decoder's work is linear in, without a clock."""

from __future__ import annotations

from typing import SupportsIndex


class Counted(bytes):
    """`looked`: how many bytes were searched or copied."""

    looked = 0

    def find(
        self, sub: object, start: SupportsIndex | None = None, end: SupportsIndex | None = None, /
    ) -> int:  # as far as it had to look
        at = super().find(sub, start, end)  # type: ignore[arg-type]
        last = min(len(self), len(self) if end is None else int(end))
        self.looked += (at if at >= 0 else last) - int(start or 0)
        return at

    def __getitem__(self, key: SupportsIndex | slice) -> int | bytes:  # type: ignore[override]
        got = super().__getitem__(key)
        self.looked += len(got) if isinstance(got, bytes) else 1
        return got
