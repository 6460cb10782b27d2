"""Bytes that are nearly right: what a decoder meets when somebody else writes them, or damages them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

LONGEST = 16 * 1024
"""Bytes of a mutated input."""

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    *(
        b"0",
        b"-1",
        b"1e999",
        b"NaN",
        b"-Infinity",
        b"9" * 5000,
        b"9" * 20,
        b"0.1",
        b"null",
        b"true",
        b'""',
        b"[]",
        b"{}",
    ),
    *(
        b"\\ud800",
        b"\xed\xa0\x80",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\0",
        b"\r\n",
        b"\n\n",
        b"\\",
        b'"',
        b",",
        b":",
        b"%00",
    ),
    *(
        b"[" * 3000,
        b'{"a":' * 1500,
        "\u0663\u00b2".encode(),
        b"0001-01-01T00:00:00+23:59",
        b"9999-12-31T23:59:59-23:59",
    ),
)
_Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]


def mutated(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """`data` after a few changes; `others` are what parts of it may be exchanged for."""
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 5, 8))):
        data = random.choice(_MUTATIONS)(random, data, others)[:LONGEST]
    return data


def repeated(random: Random, data: bytes, size: int) -> Callable[[int], bytes]:
    """A part of `data` so often that all of it has `size` bytes times what the function is given."""
    start, stop = _slice(random, data)
    part = data[start:stop] or b"x"
    return lambda times: data[:start] + part * (size * times // len(part)) + data[stop:]


def _slice(random: Random, data: bytes, most: int = 1 << 30) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, random.randint(start, min(len(data), start + random.choice((1, 4, 16, 64, most))))


def _flip(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data or b"\0")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: random.randint(0, len(data))]


def _drop(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _slice(random, data)
    return data[:start] + data[stop:]


def _repeat(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _slice(random, data)
    return data[:stop] + data[start:stop] * random.choice((1, 2, 10, 300)) + data[stop:]


def _lie(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Another number of 1, 2, 4 or 8 bytes: most often it was a length."""
    width = random.choice((1, 2, 4, 8))
    at = random.randint(0, len(data))
    number = random.choice((*_NUMBERS, len(data) - at, len(data)))
    return data[:at] + (number % (1 << 8 * width)).to_bytes(width, "big") + data[at + width :]


def _write(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Some text in the place of a part."""
    start, stop = _slice(random, data, 8)
    return data[:start] + random.choice(_TEXTS) + data[random.choice((start, stop)) :]


def _splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    start, stop = _slice(random, other)
    at, end = _slice(random, data)
    return data[:at] + other[start:stop] + data[end:]


_MUTATIONS: tuple[_Mutation, ...] = (_flip, _flip, _cut, _drop, _repeat, _lie, _lie, _write, _write, _splice)
