"""HTTP/1.1 answers from bytes, sans-IO.

httptools (a binding of llhttp, Node's parser) finds the parts; limits and decompression are here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import httptools

from msgbus.brokers.aws.failures import BadResponseError, HttpError, ResponseTooLargeError

MAX_HEAD = 64 * 1024
_AROUND = 8
"""Bytes that come for one of a body, in the smallest chunks. What is more counts as headers: those that follow a body
in chunks, and what may be written beside a chunk's size, have no end either.
"""


@dataclass(slots=True, eq=False)
class Response:
    """A whole answer. `headers`: names in lower case, the last one of a name; `body`: decompressed."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, "" where it is missing."""
        return self.headers.get(name.encode(), b"").decode("latin-1")


class ResponseParser:
    """Answers of one connection, one after the other.

    `limit`: bytes of one body, as sent and as decompressed. `started`: a byte of the present answer has come.
    `keep_alive`: after a whole answer, whether the connection may carry another request.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Expect the next answer."""
        self.started = False
        self.keep_alive = False
        self._headers: dict[bytes, bytes] = {}
        self._head_done = False
        self._came = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._done = False
        self._failure: HttpError | None = None

    def feed(self, data: bytes) -> Response | None:
        """Take what came from the connection: the answer if it is whole now, None if more must come.

        Raises BadResponseError or ResponseTooLargeError; the connection is of no use then.
        """
        self.started = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._failure = self._failure or BadResponseError(f"not an HTTP answer: {error}")
        self._came += len(data)
        if self._came - _AROUND * self._body_bytes > MAX_HEAD:
            self._failure = self._failure or BadResponseError(f"more than {MAX_HEAD} bytes of headers")
        if self._failure is not None:
            raise self._failure
        return self._response() if self._done else None

    def finish(self) -> Response | None:
        """The connection ended: the answer where its body lasts until the end, None where it is cut off."""
        if self._head_done and not self._done and self._until_eof:
            return self._response()
        return None

    def _response(self) -> Response:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        encoding = self._headers.get(b"content-encoding", b"").lower()
        if encoding not in (b"", b"identity"):
            body = _decompress(body, encoding, self._limit)
        return Response(self._parser.get_status_code(), self._headers, body)

    def _fail_too_large(self) -> None:
        self._failure = ResponseTooLargeError(f"an answer of more than {self._limit} bytes")

    # Called by httptools. An exception raised here would come out wrapped, so failures are noted instead.

    def on_message_begin(self) -> None:
        if self._done:  # more than one answer to one request: whatever follows is not ours
            self._failure = BadResponseError("data after the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        headers = self._headers
        self._until_eof = b"content-length" not in headers and b"transfer-encoding" not in headers
        if self._parser.get_status_code() >= 200:
            self._head_done = True
            if int(headers.get(b"content-length", 0)) > self._limit:
                self._fail_too_large()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limit:
            self._fail_too_large()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._done = True
            self.keep_alive = self._parser.should_keep_alive()
        else:  # 1xx, an interim answer: the real one follows
            self._headers = {}


def _decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """A gzip or deflate body; `limit` bounds what a small body can unfold to."""
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise BadResponseError(f"content-encoding {encoding!r} was not asked for")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by its header
    try:
        plain = inflate.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadResponseError(f"a damaged {encoding.decode()} body: {error}") from error
    if len(plain) > limit:
        raise ResponseTooLargeError(f"an answer of more than {limit} bytes when decompressed")
    if not inflate.eof:
        raise BadResponseError(f"a {encoding.decode()} body that is cut off")
    return plain
