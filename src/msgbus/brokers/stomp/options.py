"""What a sender may ask of this broker alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StompOptions:
    """`SendOptions(native=StompOptions(priority=7))`.

    `priority`: 0 to 9 as JMS has them, to 255 on RabbitMQ, whose queue must know priorities. `persistent`: False may
    lose the message with the server. `text`: a JMS TextMessage on ActiveMQ, else a BytesMessage; the body must be
    UTF-8. `headers`: native ones of the SEND, such as `AMQ_SCHEDULED_CRON`, as they are.
    """

    priority: int | None = None
    persistent: bool = True
    text: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.priority is not None and not 0 <= self.priority <= 255:
            raise ValueError(f"StompOptions.priority is {self.priority}, allowed are 0 to 255")
