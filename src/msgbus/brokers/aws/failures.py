"""What can go wrong below HTTP's status line. `errors.translate` turns each into an error of msgbus."""

from __future__ import annotations


class HttpError(Exception):
    """Base of the failures of an HTTP exchange that brought no answer."""


class ConnectError(HttpError):
    """No connection: the name doesn't resolve, nobody listens, TLS refused. Nothing was sent."""


class PoolBusyError(HttpError):
    """The pool stayed busy until the timeout. Nothing was sent."""


class PoolClosedError(HttpError):
    """The client was closed. Nothing was sent, or the answer was given up."""


class ConnectionClosedError(HttpError):
    """The connection ended before the answer was whole: whether the request was carried out is unknown.

    `started`: a byte of the answer had come.
    """

    def __init__(self, message: str, *, started: bool) -> None:
        super().__init__(message)
        self.started = started


class AnswerTimeoutError(HttpError):
    """The answer was not whole within the timeout: whether the request was carried out is unknown."""


class BadResponseError(HttpError):
    """What came is not a whole HTTP/1.1 answer."""


class ResponseTooLargeError(HttpError):
    """The answer is larger than the limit that was set."""
