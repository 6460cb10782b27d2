"""A second look at what ActiveMQ shows as nothing: with a browser, while the message itself waits in hand.

A subscription that asks for maps would do too, but the first ObjectMessage ends its connection, and again after each
redelivery: all others would never be handled. So each is asked for by its id, on a connection that only looks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count

from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq.target import PATIENCE
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.maps import FORM, is_map
from msgbus.brokers.stomp.properties import is_hidden
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected

_TRIES = 2  # the connection may have ended of something else


class Looking(Mailbox[Frame]):
    """The mailbox of a receiver: `take` puts maps in their place. `another`: opens a connection more.

    What is still hidden then is read as such, see properties.read.
    """

    def __init__(self, clock: Clock, another: Callable[[], Awaitable[Conversation]]) -> None:
        super().__init__(clock)
        self._clock = clock
        self._another = another
        self._conversation: Conversation | None = None
        self._names = map("look{}".format, count(1))

    async def take(self, limit: int, wait: float) -> list[Frame]:
        """Raises, besides what ended or failed the mailbox, that there is no connection to look with."""
        taken = await super().take(limit, wait)
        hidden = [frame for frame in taken if not frame.body and is_hidden(frame.headers)]
        if hidden:
            await self._look(hidden, taken)
        return taken

    async def _look(self, hidden: Sequence[Frame], taken: Sequence[Frame]) -> None:
        try:
            for frame in hidden:
                await self._reveal(frame)
        except BaseException:  # whoever is cancelled, or can't connect, has taken nothing
            if self.ended is None:
                self.items.extendleft(reversed(taken))
            raise

    async def _reveal(self, frame: Frame) -> None:
        for _ in range(_TRIES):
            conversation = await self._connected()
            try:
                shown = await self._shown(conversation, frame.headers)
            except Disconnected:
                continue
            if is_map(shown):
                frame.headers, frame.body = {**frame.headers, "transformation": FORM}, shown
            return

    async def _shown(self, conversation: Conversation, native: Mapping[str, str]) -> bytes:
        """Its body in the form that was asked for; b"" where there is none, or it is not there any more."""
        mailbox: Mailbox[Frame] = Mailbox(self._clock)
        name, message_id = next(self._names), native["message-id"].replace("'", "''")
        headers = {"destination": native["destination"], "ack": "auto", "browser": "true", "transformation": FORM}
        headers["selector"] = f"JMSMessageID = '{message_id}'"
        await conversation.subscribe(name, headers, mailbox, confirmed=False)
        shown = await mailbox.take(1, PATIENCE)
        await conversation.unsubscribe(name)
        return b"" if not shown or shown[0].headers.get("browser") == "end" else shown[0].body

    async def _connected(self) -> Conversation:
        conversation = self._conversation
        if conversation is None or conversation.closed is not None:
            conversation = self._conversation = await self._another()
            if self.ended is not None:
                conversation.abandon()
                raise self.ended
        return conversation

    def end(self, error: BusError) -> None:
        """There is nothing more to look at."""
        super().end(error)
        if self._conversation is not None:
            self._conversation.abandon()
