"""The HTTP side of the fast data plane: one pool for each endpoint and lane."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

from msgbus.brokers.aws.pool import Pool
from msgbus.brokers.aws.settings import AwsSettings
from msgbus.clock import Clock

Lane = Literal["call", "poll"]


class HttpClient:
    """Pools, made when first asked for. `tls` makes the TLS context, only if an endpoint needs one."""

    def __init__(self, settings: AwsSettings, clock: Clock, tls: Callable[[], ssl.SSLContext]) -> None:
        self._settings = settings
        self._clock = clock
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._pools: dict[tuple[str, Lane], Pool] = {}

    def pool(self, url: str, lane: Lane = "call") -> Pool:
        """The pool for a URL's scheme, host and port.

        Long polls have a lane of their own: they hold a connection for up to 20 seconds, and a send must not
        wait behind them. Raises ValueError for a URL that is not http or https.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url!r}")
        key = (f"{parts.scheme}://{parts.netloc}", lane)
        pool = self._pools.get(key)
        if pool is None:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            tls = self._context() if parts.scheme == "https" else None
            pool = self._pools[key] = Pool(parts.hostname, port, tls, self._settings, self._clock)
        return pool

    async def close(self) -> None:
        """Drop every connection and wait until they are gone."""
        pools = list(self._pools.values())
        self._pools.clear()
        await asyncio.gather(*(pool.close() for pool in pools))

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
        return self._tls
