"""Bodies that a foreign producer compressed, expanded to a limit.

`content-encoding` (RFC 9110, section 8.4.1) may list several codings, in the order in which they were applied; on
AMQP it may also name a character set, which is none. `compression` is kombu's header, and names a media type.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from msgbus.errors import DecodeError

CONTENT_ENCODING = "content-encoding"
COMPRESSION = "compression"

_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_MOST_CODINGS = 5  # one around the other
_MOST_MEMBERS = 100
_MEMORY = 128 * 1024 * 1024  # an xz stream may ask for more


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


_Open = Callable[[bytes], _Decompressor]


def expand(headers: Mapping[str, str], body: bytes, max_bytes: int) -> tuple[dict[str, str], bytes]:
    """Headers without what names the compression, and the body without it.

    Raises DecodeError where a coding is not known, the body is not what it says, or grows over `max_bytes`.
    """
    rest = dict(headers)
    given = (rest.pop(COMPRESSION, ""), *reversed(rest.pop(CONTENT_ENCODING, "").split(",")))
    codings = [name for each in given if (name := each.strip().lower()) not in _NONE]
    if len(codings) > _MOST_CODINGS:
        raise DecodeError(f"{len(codings)} content codings around one body: {_MOST_CODINGS} are undone")
    for coding in codings:
        body = _undo(coding, body, max_bytes)
    return rest, body


def _undo(coding: str, body: bytes, max_bytes: int) -> bytes:
    opened = _KNOWN.get(coding)
    if opened is None:
        raise DecodeError(
            f"the body is encoded as {coding!a:.100}, which is not known: gzip, deflate, bzip2 and xz are"
        )
    try:
        expanded = _expand(opened, body, max_bytes)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise DecodeError(f"the body is said to be encoded as {coding}, and is not: {error}") from error
    if expanded is None:
        raise DecodeError(f"the body grows over {max_bytes:,} bytes when {coding} is undone: the codec allows no more")
    return expanded


def _expand(opened: _Open, body: bytes, room: int) -> bytes | None:
    """None where it grows over the limit. What follows an end is another member (RFC 1952, section 2.2)."""
    members: list[bytes] = []
    while body or not members:
        decompressor = opened(body)
        members.append(decompressor.decompress(body, room + 1))
        room -= len(members[-1])
        if room < 0:
            return None
        if not decompressor.eof or len(members) > _MOST_MEMBERS:  # each copies the rest: many tiny ones would cost
            raise ValueError("it ends too early, or in too many parts")
        body = decompressor.unused_data
    return b"".join(members)


def _of_zlib(body: bytes) -> _Decompressor:
    """gzip, or deflate in zlib's form as the standard has it, or raw as many write it."""
    is_raw = body[:2] != b"\x1f\x8b" and (len(body) < 2 or body[0] & 15 != 8 or (body[0] << 8 | body[1]) % 31)
    return zlib.decompressobj(-zlib.MAX_WBITS if is_raw else _ZLIB_OR_GZIP)


_KNOWN: Mapping[str, _Open] = {
    **dict.fromkeys(("gzip", "x-gzip", "deflate", "zlib", "application/x-gzip"), _of_zlib),
    **dict.fromkeys(("bzip2", "bz2", "x-bzip2", "application/x-bz2"), lambda body: bz2.BZ2Decompressor()),
    **dict.fromkeys(("xz", "lzma", "application/x-lzma"), lambda body: lzma.LZMADecompressor(memlimit=_MEMORY)),
}
_NONE = frozenset(("", "identity", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "binary", "8bit", "7bit"))
"""What says that nothing was compressed; character sets where a client puts them there."""
