"""Java's modified UTF-8, in which ActiveMQ hands on the text of JMS: surrogates one by one, NUL as `c0 80`."""

from __future__ import annotations


def plain(text: bytes) -> bytes:
    """As UTF-8. What is no modified UTF-8 either (half a pair, say) stays as it is."""
    if b"\xed" not in text and b"\xc0\x80" not in text:
        return text
    try:
        halves = text.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()
    except UnicodeDecodeError:
        return text


def modified(text: bytes) -> bytes:
    """UTF-8 as Java reads it. What is no UTF-8 stays as it is."""
    try:
        whole = text.decode()
    except UnicodeDecodeError:
        return text
    if "\0" not in whole and max(whole, default="") <= "\uffff":
        return text
    split = "".join([c if c <= "\uffff" else _pair(ord(c) - 0x10000) for c in whole])
    return split.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")


def _pair(code: int) -> str:
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))
