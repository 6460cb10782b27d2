"""The message that is being handled, for what it causes: correlation, causation, tracing."""

from __future__ import annotations

from contextvars import ContextVar

from msgbus.message import Delivery

CURRENT: ContextVar[Delivery | None] = ContextVar("msgbus_current", default=None)
"""Set in the context of each handler; None elsewhere."""
