"""Several payloads in one record without a frame that says so, as the processors of async-kinesis write them. Sans-IO.

`lines` (JsonLineProcessor): each payload ends with a line feed, which JSON has none of. `netstrings`
(MsgpackProcessor): length in digits, colon, payload, comma (https://cr.yp.to/proto/netstrings.txt).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgbus.errors import DecodeError

Form = Literal["one", "lines", "netstrings"]
Split = Callable[[bytes], Sequence[bytes] | None]

_DIGITS = 8  # of a length: a record has at most 10 MiB


def taken_apart(data: bytes, form: Form, most: int) -> Sequence[bytes] | None:
    """The payloads of a record; None where it is not of that form. Raises DecodeError for over `most`."""
    parts = _FORMS[form](data)
    if parts is not None and len(parts) > most:
        raise DecodeError(f"a record of more than {most:,} {form}, which is the option aggregate_records")
    return parts


def _one(data: bytes) -> None:
    return None


def _lines(data: bytes) -> Sequence[bytes] | None:
    """What is not ended by a line feed was written by somebody else."""
    return [line for line in data.split(b"\n") if line] if data.endswith(b"\n") else None


def _netstrings(data: bytes) -> Sequence[bytes] | None:
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        colon = data.find(b":", at, at + _DIGITS + 1)
        digits = data[at : max(at, colon)]
        if not digits.isdigit():
            return None
        end = colon + 1 + int(digits)
        if data[end : end + 1] != b",":
            return None
        parts.append(data[colon + 1 : end])
        at = end + 1
    return parts or None


_FORMS: Mapping[Form, Split] = {"one": _one, "lines": _lines, "netstrings": _netstrings}
