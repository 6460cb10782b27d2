"""A message that came, as far as every broker that pushes knows it."""

from __future__ import annotations


class Arrived:
    """The token of a delivery, and its `raw`. Brokers derive from it what else they know.

    `headers`: the sender's, those with a native place among them. `timestamp`: Unix seconds. `deliveries`: how often
    the server has handed it out, this time included. `owner`: the receiver that may settle it.
    """

    __slots__ = ("body", "deliveries", "headers", "owner", "timestamp")

    headers: dict[str, str]
    body: bytes
    timestamp: float | None
    deliveries: int
    owner: object
