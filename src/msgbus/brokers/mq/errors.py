"""Native causes of errors, and what goes wrong below a protocol: sockets and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgbus.errors import BusError, DecodeError, Disconnected, Refused, Throttled, Unavailable


class ServerSaid(Exception):
    """What a server said against a call, a message or a connection. `code`: AMQP's; STOMP has none.

    `permanent`: saying the same again would not help.
    """

    def __init__(self, text: str, code: int = 0, *, permanent: bool = False) -> None:
        super().__init__(f"{code} {text}" if code else text)
        self.text = text
        self.code = code
        self.permanent = permanent


class Hidden(DecodeError):
    """The server does not show us what is in a message: a copy would be empty, so it alone can set it aside."""


def said(error: BaseException | None) -> ServerSaid | None:
    """What the server said, if that is what caused an error."""
    cause = error.__cause__ if error is not None else None
    return cause if isinstance(cause, ServerSaid) else None


def objection(error: BusError | None) -> ServerSaid | None:
    """What the server has against some message that was under way, perhaps this one, so that its outcome is unknown."""
    cause: BaseException | None = error if isinstance(error, Disconnected | Unavailable) else None
    while cause is not None and not isinstance(cause, ServerSaid):
        cause = cause.__cause__
    return cause if cause is not None and cause.permanent else None


def caused(error: BusError, cause: BaseException | None) -> BusError:
    """`error` with its native cause, if there is one."""
    error.__cause__ = cause
    return error


def in_doubt(error: BusError, answer: str) -> BusError:
    """The connection or channel is gone before a message's `answer`."""
    return caused(Disconnected(f"no {answer} came, it may have arrived: {error}"), error)


def passing(error: BusError) -> BusError:
    """Why a copy could not be sent: never for good, since its original is still there."""
    return error if isinstance(error, Disconnected | Throttled | Unavailable) else Unavailable(str(error))


def not_opened(place: str, error: Exception) -> BusError:
    """Why no connection to `place` came about: Refused where TLS is the reason, for no other host would help."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return caused(Refused(f"{place}: its certificate is not trusted: {error.verify_message}"), error)
    if isinstance(error, ssl.SSLError):
        return caused(Refused(f"{place}: no TLS connection: {error.reason or error}"), error)
    return caused(Disconnected(f"{place}: {error}"), error)


def lost(error: Exception | None, *, opening: bool) -> BusError:
    """The end of a socket. With TLS 1.3 a server refuses the client's certificate after the handshake."""
    if opening and isinstance(error, ssl.SSLError):
        return caused(Refused(f"the TLS connection was refused: {error.reason or error}"), error)
    return caused(Disconnected(f"the connection is lost: {error or 'closed by the other side'}"), error)


@asynccontextmanager
async def connecting(host: tuple[str, int], timeout: float) -> AsyncIterator[None]:
    """Opening a connection within `timeout` seconds: what goes wrong is Disconnected, or Refused where TLS is."""
    place = f"{host[0]}:{host[1]}"
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError as error:
        raise Disconnected(f"{place} did not answer in {timeout:g} s") from error
    except OSError as error:
        raise not_opened(place, error) from error
