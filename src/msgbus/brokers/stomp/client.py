"""The stomp.py wire, `?client=stomp.py`: its connection and its receiver thread behind the same seam.

What its thread hears is handed over in batches: one wake-up of the loop for all that came meanwhile. What is written
goes through a thread of ours, since its socket blocks. Reconnecting is the core's, so stomp.py tries once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import stomp
from stomp import utils
from stomp.exception import StompException

from msgbus.brokers.mq.errors import lost, not_opened
from msgbus.brokers.mq.protocol import HIGH, Gate
from msgbus.brokers.stomp.codec import CONTENT_LENGTH, TRANSFORMATION, Frame
from msgbus.brokers.stomp.errors import connect_error
from msgbus.brokers.stomp.settings import Target
from msgbus.brokers.stomp.wire import Ear
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected

_ENDING = 1.0  # seconds that a thread may take to end
_NAMES = str.maketrans({"\\": "\\\\", ":": "\\c", "\n": "\\n", "\r": "\\r"})


class ClientLine(Gate):
    """See wire.Line; STOMP 1.2 only. The methods `on_...` are stomp.py's listener, called in its thread."""

    def __init__(self, target: Target, host: tuple[str, int], clock: Clock) -> None:
        super().__init__(asyncio.get_running_loop())
        self._target = target
        self._host = host
        self._ear: Ear | None = None
        self._answer: Frame | None = None
        self._heard: deque[Frame] = deque()
        self._waking = False
        self._opened = self._lost = False
        self._gathered: list[bytes] = []
        self._out: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._queued = self._sent = 0  # bytes; each is counted by one thread alone
        self._connection = _connection(target, host)
        self._connection.set_listener("msgbus", self)
        self._form = utils.Frame("")
        self._escape: Callable[[dict[str, Any]], None] = self._connection._escape_headers
        self._transport = self._connection.transport
        self._writer = threading.Thread(target=self._write_all, name="msgbus-stomp-writer", daemon=True)

    # -- opening and closing

    async def open(self, ear: Ear) -> Mapping[str, str]:
        """Connect and say who we are, in a thread: stomp.py waits."""
        target, place = self._target, f"{self._host[0]}:{self._host[1]}"
        self._ear = ear
        try:
            async with asyncio.timeout(target.options.timeout):
                await asyncio.to_thread(self._connect)
            self._opened = True
        except TimeoutError as error:
            raise Disconnected(f"{place} did not answer in {target.options.timeout:g} s") from error
        except (StompException, OSError) as error:
            raise await self._refusal(place, error) from error
        finally:
            if not self._opened:
                self._lost = True  # before the look of the other thread, which may still be connecting
                self.loop.run_in_executor(None, self._disconnect)
        self._writer.start()
        return self._answer.headers if self._answer is not None else {}

    def _connect(self) -> None:
        target = self._target
        target.context()  # raises ConfigError for files that can't be read
        try:
            self._connection.connect(target.user or None, target.password or None, wait=True)
            self._transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # we gather by ourselves
        except AttributeError as error:
            raise ConnectionError("the connection was closed as it was opened") from error
        finally:
            if self._lost:  # nobody waits any more
                self._disconnect()

    def _disconnect(self) -> None:
        """Close the socket, which ends stomp.py's thread."""
        with contextlib.suppress(Exception):  # it may be gone, or going in another thread
            self._transport.disconnect_socket()

    async def _refusal(self, place: str, error: Exception) -> BusError:
        """stomp.py says that it failed, and not why."""
        if self._answer is not None:
            return connect_error(self._answer)
        context = self._target.context()
        try:
            await asyncio.to_thread(_reach, context, self._host, self._target.options.timeout)
        except OSError as reason:
            return not_opened(place, reason)
        return Disconnected(f"{place}: {error!r}")

    async def end(self) -> None:
        """Let what was written go out, then close the socket, which ends the threads."""
        self._flush()
        self._lost = True
        self.hold(False)
        self._out.put(b"")
        await asyncio.shield(self.loop.run_in_executor(None, self._end))

    def _end(self) -> None:
        if self._writer.is_alive():
            self._writer.join(_ENDING)
        self._disconnect()
        if self._transport.io_thread is not None:
            self._transport.io_thread.join(_ENDING)

    # -- writing

    def encode(self, frame: Frame, name: str = "", value: str = "") -> bytes:
        """By stomp.py, but for the names of headers, which it does not escape."""
        headers: dict[str, Any] = {_escaped_name(each): text for each, text in frame.headers.items()}
        if name:
            headers[name] = value
        self._escape(headers)
        if frame.body and TRANSFORMATION not in headers:
            headers[CONTENT_LENGTH] = len(frame.body)
        form = self._form  # one for all: a new one copies its headers
        form.cmd, form.headers, form.body = frame.command, headers, frame.body
        packed: bytes = utils.pack(utils.convert_frame(form))
        return packed

    def encode_ids(self, command: str, ids: Collection[str]) -> bytes:
        """See wire.Line."""
        return b"".join([self.encode(Frame(command, {"id": each})) for each in ids])

    def write(self, data: bytes) -> None:
        """Hand it to the thread at the end of this turn of the loop."""
        if not self._gathered:
            self.loop.call_soon(self._flush)
        self._gathered.append(data)

    def _flush(self) -> None:
        if not self._gathered or self._lost:
            return
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._queued += len(data)
        self._out.put(data)
        self.held = True  # before looking: the other thread looks at it after it has counted
        self._look()

    def _look(self) -> None:
        if self._lost or self._queued - self._sent < HIGH:
            self.hold(False)

    def _write_all(self) -> None:
        """The writer's thread."""
        try:
            while data := self._out.get():
                if self._transport.blocking:
                    self._transport.send(data)
                else:  # TLS: its own thread writes
                    self._transport.send_queue.put(data)
                self._sent += len(data)
                if self.held:
                    self._tell(self._look)
        except Exception as error:  # whatever its socket raises ends it
            self._tell(self._break, error)

    # -- reading, in the receiver's thread

    def on_connected(self, frame: Any) -> None:
        """CONNECT is answered."""
        self._answer = Frame(frame.cmd, frame.headers, frame.body)

    def on_message(self, frame: Any) -> None:
        """Something came."""
        self._heard.append(Frame(frame.cmd, frame.headers, frame.body or b""))
        if not self._waking:
            self._waking = True
            self._tell(self._hand_over)

    on_receipt = on_message

    def on_error(self, frame: Any) -> None:
        """The server complains."""
        if self._answer is None:
            self._answer = Frame(frame.cmd, frame.headers, frame.body or b"")
        else:
            self.on_message(frame)

    def on_disconnected(self) -> None:
        """The socket is gone, or silent."""
        self._tell(self._break, None)

    on_heartbeat_timeout = on_disconnected

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self.loop.call_soon_threadsafe(what, *arguments)

    # -- in the loop again

    def _hand_over(self) -> None:
        self._waking = False
        heard, frames = self._heard, []
        while heard:
            frames.append(heard.popleft())
        if self._ear is not None and not self._lost:
            self._ear.heard(frames)

    def _break(self, error: Exception | None) -> None:
        if self._lost or not self._opened:
            return
        self._hand_over()
        self._lost = True
        self.hold(False)
        if self._ear is not None:
            self._ear.lost(lost(error, opening=False))


@functools.lru_cache(10_000)
def _escaped_name(name: str) -> str:
    return name.translate(_NAMES)


def _connection(target: Target, host: tuple[str, int]) -> Any:
    options, beat = target.options, target.options.beat
    connection = stomp.StompConnection12(
        [host],
        try_loopback_connect=False,
        reconnect_attempts_max=1,
        heartbeats=(beat, beat),
        heart_beat_receive_scale=2.0,
        vhost=target.vhost,
        auto_decode=False,
        auto_content_length=False,
    )
    if target.tls:
        connection.set_ssl(
            [host], key_file=options.key or None, cert_file=options.cert or None, ca_certs=options.ca or None
        )
    return connection


def _reach(context: ssl.SSLContext | None, host: tuple[str, int], timeout: float) -> None:
    """Connect as stomp.py does, to see why it can't."""
    with socket.create_connection(host, timeout) as plain:
        if context is not None:
            context.wrap_socket(plain, server_hostname=host[0]).close()
