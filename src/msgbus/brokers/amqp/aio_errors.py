"""What aiormq says when things end, as errors of msgbus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiormq import exceptions as aiormq

from msgbus.brokers.amqp.errors import INTERNAL_ERROR, NOT_ALLOWED, connection_end, told
from msgbus.brokers.mq.errors import ServerSaid, caused
from msgbus.errors import BusError, Disconnected

T = TypeVar("T")

_CODES: dict[type[object], int] = {
    aiormq.ChannelAccessRefused: 403,
    aiormq.ChannelNotFoundEntity: 404,
    aiormq.ChannelLockedResource: 405,
    aiormq.ChannelPreconditionFailed: 406,
}

_ENDS: dict[type[object], int] = {  # of connections
    aiormq.ConnectionFrameError: 501,
    aiormq.ConnectionSyntaxError: 502,
    aiormq.ConnectionCommandInvalid: 503,
    aiormq.ConnectionChannelError: 504,
    aiormq.ConnectionUnexpectedFrame: 505,
    aiormq.ConnectionResourceError: 506,
    aiormq.ConnectionNotAllowed: NOT_ALLOWED,
    aiormq.ConnectionNotImplemented: 540,
    aiormq.ConnectionInternalError: INTERNAL_ERROR,
}


async def unhurt(work: Awaitable[T]) -> T:
    """Await aiormq. Where a connection ends it cancels its own tasks, and lets whoever waits take that for their own
    cancellation; where it is closed softly, unconfirmed publications get a bare Exception. Both are ConnectionErrors.
    """
    try:
        return await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("aiormq cancelled what was awaited: the connection or channel is gone") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ConnectionError("aiormq gave up what was awaited: the connection or channel is closed") from error


def gone(error: BaseException | None) -> BusError:
    """The connection's end."""
    code = _ENDS.get(type(error))
    if error is None or code is None:
        return caused(Disconnected(f"the connection is lost: {error!r}"), error)
    end = connection_end(code, str(error.args[0]), opening=False)
    if end.__cause__ is not None:
        end.__cause__.__cause__ = error
    return end


def spoken(error: BaseException | None) -> ServerSaid | None:
    """What the server said when it closed the channel."""
    code = _CODES.get(type(error))
    if code is not None:
        return told(code, str(error))
    if isinstance(error, aiormq.ChannelClosed) and error.args and isinstance(error.args[0], int):
        return told(error.args[0], str(error.args[-1]))
    return None
