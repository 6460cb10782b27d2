"""STOMP frames without I/O: bytes to frames, frames to bytes (https://stomp.github.io/stomp-specification-1.2.html).

1.2 escapes CR, LF, colon and backslash in headers, 1.1 all of them but CR, 1.0 none; nor do CONNECT and CONNECTED.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from msgbus.brokers.stomp.modified import plain

BEAT = b"\n"
CONTENT_LENGTH = "content-length"
TRANSFORMATION = "transformation"  # text of which ActiveMQ makes something else, unless it has a length
HEAD = 1024 * 1024
BODY = 128 * 1024 * 1024
"""Bytes of a frame's command and headers, and of its body, that are accepted."""

_ESCAPES = {"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"}
_OF_VERSION = {"1.0": "", "1.1": "\\\n:", "1.2": "\\\n:\r"}
_BARE = ("CONNECT", "CONNECTED")
_SERVERS = ("MESSAGE", "RECEIPT", "ERROR", "CONNECTED")
_MOST_FORMS = 1000
_LONGEST = 12  # digits of a content-length
_EOL = (10, 13)
_RECEIPT = b"RECEIPT\nreceipt-id:"
_LONGEST_RECEIPT = 32  # bytes after that, of what is looked at by itself


class FrameError(Exception):
    """What came is no STOMP: the connection can't go on."""


class Frame:
    """A frame. Headers are unescaped; `content-length` is written by the encoder, and left where it was read.

    `fault`: what can't be read of a frame that came whole, "" where nothing is.
    """

    __slots__ = ("body", "command", "fault", "headers")

    def __init__(self, command: str, headers: Mapping[str, str], body: bytes = b"", fault: str = "") -> None:
        self.command = command
        self.headers = headers
        self.body = body
        self.fault = fault

    def __repr__(self) -> str:
        shown = {name: "***" if name == "passcode" else value for name, value in self.headers.items()}
        return f"{self.command} {shown} ({len(self.body)} bytes)"


class Decoder:
    """Feed it what came from the socket; it gives the frames that are complete. Heart-beats are skipped.

    `version` is what CONNECTED said; until then it is 1.0.
    """

    def __init__(self, version: str = "1.0", *, head: int = HEAD, body: int = BODY) -> None:
        self._head_limit = head
        self._body_limit = body
        self._rest: list[bytes] = []
        self._have = 0
        self._need = 1
        self._until_nul = False
        self._unescape: Callable[[str], str] | None = None
        self.version = version

    @property
    def version(self) -> str:
        """Decides which escapes there are."""
        return self._version

    @version.setter
    def version(self, version: str) -> None:
        self._version = version
        self._unescape = _unescaper(version)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises FrameError."""
        if self._rest:
            waits = self._until_nul and b"\0" not in data and self._have + len(data) <= self._body_limit
            self._rest.append(data)
            self._have += len(data)
            if waits or self._have < self._need:  # not joined before it is enough: a big body would cost its square
                return []
            data = b"".join(self._rest)
        frames: list[Frame] = []
        done = self._frames(data, frames)
        rest = data[done:]
        self._rest, self._have = ([rest] if rest else []), len(rest)
        return frames

    def _frames(self, data: bytes, frames: list[Frame]) -> int:
        """Walk the whole frames; where the first incomplete one begins."""
        at, length, blank = 0, len(data), -1
        self._until_nul = False
        while True:
            while at < length and data[at] in _EOL:
                at += 1
            self._need = 1
            if data.startswith(_RECEIPT, at) and (after := _receipt(data, at, frames)):
                at = after
                continue
            blank, end, start = _ends_head(data, at, blank)
            if end < 0 or end - at > self._head_limit:
                if length - at > self._head_limit:
                    raise FrameError(f"a head of more than {self._head_limit:,} bytes")
                self._need = length - at + 1
                return at
            command, headers, fault = self._head(data[at:end])
            stop = self._stop(data, at, start, headers)
            if stop < 0:
                return at
            frame = Frame(command, headers, data[start:stop], fault)
            if command == "CONNECTED":
                self.version = headers.get("version", "1.0")
            frames.append(frame)
            at = stop + 1

    def _stop(self, data: bytes, at: int, start: int, headers: Mapping[str, str]) -> int:
        """Where the NUL after the body is; -1 where it has not come yet.

        A content-length that can't be right is a property of that name, which ActiveMQ writes there too.
        """
        text = headers.get(CONTENT_LENGTH, "")
        stop = start + int(text) if text.isdecimal() and len(text) <= _LONGEST else -1
        if not start <= stop <= start + self._body_limit:
            return self._nul(data, at, start)
        if stop >= len(data):
            self._need = stop + 1 - at
            return -1
        return self._nul(data, at, start) if data[stop] else stop

    def _nul(self, data: bytes, at: int, start: int) -> int:
        stop = data.find(b"\0", start)
        if stop < 0:
            self._check_body(len(data) - start)
            self._until_nul, self._need = True, len(data) - at + 1
        return stop

    def _check_body(self, size: int) -> None:
        if size > self._body_limit:
            raise FrameError(f"a body of {size:,} bytes, accepted are {self._body_limit:,}")

    def _head(self, raw: bytes) -> tuple[str, dict[str, str], str]:
        """Command, headers and what is wrong with them: the frame's fault, since its end is known all the same."""
        fault = ""
        try:
            text = raw.decode() if b"\xed" not in raw and b"\xc0" not in raw else plain(raw).decode()
        except UnicodeDecodeError as error:
            text, fault = raw.decode("utf-8", "replace"), f"headers are no UTF-8: {error}"
        command, *lines = text.split("\n")
        if "\r" in text:
            command, *lines = (line.removesuffix("\r") for line in text.split("\n"))
        if command not in _SERVERS:
            raise FrameError(f"no frame of a STOMP server: {command[:40]!r}")
        lines.reverse()  # of a repeated header the first counts
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                fault = f"a header without a colon: {line!a:.100}"
            headers[name] = value
        if "\\" in text and command not in _BARE and self._unescape is not None:
            try:
                headers = _unescaped(headers, self._unescape)
            except ValueError as error:
                fault = str(error)
        return command, headers, fault


def _unescaped(headers: dict[str, str], unescape: Callable[[str], str]) -> dict[str, str]:
    for name, value in headers.items():
        if "\\" in value:
            headers[name] = unescape(value)
    if "\\" in "".join(headers):
        return {unescape(name): value for name, value in headers.items()}
    return headers


def _receipt(data: bytes, at: int, frames: list[Frame]) -> int:
    """The shortest RECEIPT, of which one comes for every message that is sent; 0 where it is not that."""
    start = at + len(_RECEIPT)
    end = data.find(b"\n\n\0", start, start + _LONGEST_RECEIPT)
    receipt = data[start:end] if end >= 0 else b""
    if not receipt.isdigit():
        return 0
    frames.append(Frame("RECEIPT", {"receipt-id": receipt.decode()}))
    return end + 3


def _ends_head(data: bytes, at: int, blank: int) -> tuple[int, int, int]:
    """Where the head ends and the body begins; -1 where that has not come yet. An EOL may be CR LF.

    Before them: where the next LF LF is. It is looked for once, and not by each frame that ends otherwise before it.
    """
    if blank < at:
        blank = data.find(b"\n\n", at)
        blank = blank if blank >= 0 else len(data)
    other = data.find(b"\n\r\n", at, blank + 1)
    if other >= 0:
        return blank, other, other + 3
    return (blank, blank, blank + 2) if blank < len(data) else (blank, -1, -1)


def _unescaper(version: str) -> Callable[[str], str] | None:
    known = {_ESCAPES[character]: character for character in _OF_VERSION.get(version, "")}
    if not known:
        return None

    def one(match: re.Match[str]) -> str:
        found = known.get(match[0])
        if found is None:
            raise ValueError(f"a header with the undefined escape {match[0]!a}")
        return found

    escape = re.compile(r"\\.?", re.DOTALL)

    def unescape(text: str) -> str:
        plain = text.replace("\\c", ":")  # most often nothing else is escaped
        return escape.sub(one, text) if "\\" in plain else plain

    return unescape


class Encoder:
    """Turns frames into bytes. `version` as in Decoder. 1.0 can't say everything: see `encode`."""

    def __init__(self, version: str = "1.0") -> None:
        self._forms: dict[tuple[str, ...], str] = {}
        self._escapes = [(character, _ESCAPES[character]) for character in _OF_VERSION.get(version, "")]

    def encode(self, frame: Frame, name: str = "", value: str = "") -> bytes:
        """Its bytes, with a content-length where there is a body, and with one header more where `name` is given.

        Raises ValueError where STOMP 1.0, which has no escapes, can't carry a header.
        """
        command, headers, body = frame.command, frame.headers, frame.body
        more = f"{name}:{value}\n" if name else ""
        if not self._escapes or command in _BARE:
            lines = "".join([_plain(name, value) for name, value in headers.items()])
        else:
            lines = self._lines(headers)
        length = f"{CONTENT_LENGTH}:{len(body)}\n" if body and TRANSFORMATION not in headers else ""
        return b"%b%b\0" % (f"{command}\n{more}{lines}{length}\n".encode(), body)

    def encode_ids(self, command: str, ids: Collection[str]) -> bytes:
        """A frame for each id, with no other header, as acknowledgements are."""
        first = f"{command}\nid:"
        return (first + self._joined(ids).replace("\n", f"\n\n\0{first}") + "\n\n\0").encode()

    def _lines(self, headers: Mapping[str, str]) -> str:
        """Names are the same from message to message."""
        names = tuple(headers)
        form = self._forms.get(names) or self._form(names)
        return form % tuple(self._joined(headers.values()).split("\n")) if names else ""

    def _joined(self, values: Collection[str]) -> str:
        """All values are escaped at once, joined by LF."""
        joined = "\n".join(values)
        if joined.count("\n") < len(values):
            return self._escaped(joined, but="\n")
        return "\n".join(map(self._escaped, values))

    def _escaped(self, text: str, but: str = "") -> str:
        for character, escape in self._escapes:  # the backslash first
            if character in text and character != but:
                text = text.replace(character, escape)
        return text

    def _form(self, names: tuple[str, ...]) -> str:
        form = "".join([self._escaped(name).replace("%", "%%") + ":%s\n" for name in names])
        if len(self._forms) < _MOST_FORMS:
            self._forms[names] = form
        return form


def _plain(name: str, value: str) -> str:
    if ":" in name or any(c in "\r\n" for c in name + value):
        raise ValueError(f"the header {name[:40]!r} can't be written without escapes")
    return f"{name}:{value}\n"
