"""The publish path of one topic, queue or reply address: payload to Outgoing, through the middlewares, to the link."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from msgbus import headers as h
from msgbus.broker import Capabilities, Result
from msgbus.codecs import TEXT, Coder
from msgbus.envelope.claim import BodyStore
from msgbus.envelope.fitting import fitter
from msgbus.errors import BusError, PublishFailed, Refused, said, shown
from msgbus.handlers.context import CURRENT
from msgbus.headers import CORRELATION, ID, KEY, TIME
from msgbus.message import Address, Delivery, Outgoing, Receipt, Source
from msgbus.options import SendOptions
from msgbus.publishing.checks import LONGEST_EXPIRY, checked_id, own_headers, vetting
from msgbus.publishing.chunks import wire_size
from msgbus.publishing.ids import Stamps
from msgbus.publishing.link import Link
from msgbus.publishing.middleware import PublishMiddleware, SendNext, around
from msgbus.publishing.payloads import Payloads
from msgbus.topic import Queue, Topic, key_text

log = logging.getLogger("msgbus.publish")

_HEADER_ROOM = 4096  # bodies closer than this to the broker's limit are measured with their headers


class Outlet:
    """Everything about publishing to one address that can be known beforehand."""

    def __init__(
        self,
        address: Address,
        payloads: Payloads,
        link: Link,
        stamps: Stamps,
        *,
        service: str,
        declared: Topic[Any] | Queue[Any] | None = None,
        store: BodyStore | None = None,
    ) -> None:
        self.address = address
        self.link = link
        self.send: SendNext = link.send
        self._payloads = payloads
        self._stamps = stamps
        self._key_of = declared.key_of if declared is not None else None
        self.ordered = declared is not None and declared.ordered
        target = Source(address.kind, address.name, address.group, self.ordered)
        self._capabilities = capabilities = link.broker.capabilities(target)
        self._heads = {
            type_: (coder, self._head(coder, name, service)) for type_, (coder, name) in payloads.coders.items()
        }
        self._service = service
        self.mandatory = isinstance(declared, Topic) and declared.require_subscriber  # Refused where nobody subscribes
        self.unrouted = 0
        filter_on = declared.filter_on if declared is not None else ()
        if len(payloads.coders) > 1 and capabilities.headers:
            filter_on = (*filter_on, h.TYPE)  # `Topic.only` filters on it
        bare = isinstance(declared, Topic) and declared.bare and capabilities.headers == 0
        coders = [coder for coder, _ in (*payloads.coders.values(), payloads.fallback)]
        fit = fitter(str(address), capabilities, filter_on, valid_json=all(coder.valid_json for coder in coders))
        self._fit = None if bare else fit
        self._shared = False  # whether a middleware sees what is sent
        self._near_limit = min(_room(capabilities), *(coder.max_bytes for coder in coders))
        self._store = None if bare else store  # where a body is would be told in a header
        if self._fit is not None or self._store is not None:
            self.send = self._send_fitted

    def through(self, middlewares: Sequence[PublishMiddleware]) -> Outlet:
        """Put middlewares before the wire, the first one outermost."""
        self._shared = bool(middlewares)
        if middlewares:
            self.send = around(middlewares, vetting(self.send))
        return self

    def prepare(
        self,
        payload: Any,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        options: SendOptions | None = None,
        *,
        checked: bool = False,
    ) -> Outgoing:
        """Encode one payload. Raises Refused where it is of the wrong type, too large or asks what can't be done.

        `checked`: the headers are known to be good, and are the user's own.
        """
        coder, head = self._heads.get(payload.__class__) or self._lookup(payload)
        try:
            body = coder.encode(payload)
        except Exception as error:
            raise Refused(f"{self.address}: the payload can't be encoded: {said(error)}") from error
        fitted = head.copy()  # has every name already: filling it in never resizes it
        message_id, fitted[TIME] = self._stamps.next()
        fitted[ID] = message_id
        current = CURRENT.get()
        fitted[CORRELATION] = message_id if current is None else _correlate(fitted, message_id, current)
        if key is None:
            key = None if self._key_of is None else self._key_of(payload)
        elif key.__class__ is not str or not key.isascii():
            key = key_text(key, f"{self.address}: key")
        if key is None:
            del fitted[KEY]
        else:
            fitted[KEY] = key
        out = Outgoing(self.address, message_id, body, fitted, key)
        if headers or delay or options is not None or self.ordered or self.mandatory:
            self._apply(out, headers, delay, options, checked=checked)
        if len(body) > self._near_limit:
            self._check_size(out, coder)
        return out

    def prepare_many(
        self, payloads: Iterable[Any], headers: Mapping[str, str] | None
    ) -> tuple[list[Outgoing], dict[int, Refused]]:
        """Those that can be sent, and the errors of the others by their place."""
        batch: list[Outgoing] = []
        refused: dict[int, Refused] = {}
        prepare = self.prepare
        try:
            own = own_headers(headers or {}, self.address)
        except Refused as error:
            return [], {place: error for place, _ in enumerate(payloads)}
        for place, payload in enumerate(payloads):
            try:
                batch.append(prepare(payload, None, own, checked=True))
            except Refused as error:
                refused[place] = error
            except Exception as error:  # a function that gives the key, say
                refused[place] = Refused(f"{self.address}: entry {place}: {shown(error)}")
                refused[place].__cause__ = error
        return batch, refused

    def prepare_error(self, text: str) -> Outgoing:
        """A reply that says why there is none."""
        message_id, time = self._stamps.next()
        headers = {h.SPEC: "1.0", h.TYPE: "error", h.SOURCE: self._service, h.CONTENT_TYPE: TEXT}
        headers[h.ID], headers[h.TIME] = message_id, time
        return Outgoing(self.address, message_id, text.encode(errors="replace"), headers)

    def _lookup(self, payload: Any) -> tuple[Coder, dict[str, str]]:
        try:
            coder, name = self._payloads.coder_for(payload)
        except TypeError as error:
            raise Refused(f"{self.address}: {error}") from error
        return coder, self._head(coder, name, self._service)

    @staticmethod
    def _head(coder: Coder, name: str, service: str) -> dict[str, str]:
        known = {h.SPEC: "1.0", h.TYPE: name, h.SOURCE: service, h.CONTENT_TYPE: coder.content_type}
        return known | dict.fromkeys((ID, TIME, CORRELATION, KEY), "")

    def _apply(
        self,
        out: Outgoing,
        headers: Mapping[str, str] | None,
        delay: float,
        options: SendOptions | None,
        *,
        checked: bool,
    ) -> None:
        if headers:
            out.headers.update(headers if checked else own_headers(headers, self.address))
        out.lane = out.key if self.ordered else None
        out.mandatory = self.mandatory
        out.delay = delay
        longest = self._capabilities.send_delay
        if not 0 <= delay <= (longest or 0.0):  # neither is NaN
            most = "no delays" if longest is None else f"delays of 0 to {longest:.10g} s"
            raise Refused(f"{self.address}: delay={delay:g} s, this broker has {most}")
        if options is None:
            return
        out.native = options.native
        if options.dedup_id is not None:
            out.dedup_id = checked_id(options.dedup_id, f"{self.address}: SendOptions.dedup_id")
        if options.id is not None:
            message_id = checked_id(options.id, f"{self.address}: SendOptions.id")
            if out.headers[CORRELATION] == out.id:
                out.headers[CORRELATION] = message_id
            out.id = out.headers[ID] = message_id
        if options.expires_in is not None:
            self.expire(out, options.expires_in)

    def expire(self, out: Outgoing, seconds: float) -> None:
        """Have the message dropped, by the broker or by its consumer, `seconds` from now. Raises Refused."""
        if not 0 < seconds <= LONGEST_EXPIRY:
            raise Refused(f"{self.address}: expires_in={seconds!r}: give seconds, from above 0 to {LONGEST_EXPIRY:g}")
        out.expires_at = self._stamps.now() + seconds
        out.headers[h.EXPIRES] = h.rfc3339(out.expires_at)

    def _check_size(self, out: Outgoing, coder: Coder) -> None:
        if self._store is None and self._is_too_large(out):
            raise Refused(
                f"{self.address}: the message has {self._size(out):,} bytes with its headers, this broker takes"
                f" {self._capabilities.message_bytes:,}: give the Bus a store for large bodies"
            )
        if len(out.body) > coder.max_bytes:
            raise Refused(f"{self.address}: the body has {len(out.body):,} bytes, the codec allows {coder.max_bytes:,}")

    def _is_too_large(self, out: Outgoing) -> bool:
        limit = self._capabilities.message_bytes
        return limit is not None and self._size(out) > limit

    def _size(self, out: Outgoing) -> int:
        """On the wire; a body that is no text grows by a third where it must be."""
        is_text = self._capabilities.binary or "json" in out.headers.get(h.CONTENT_TYPE, "")
        return wire_size(out) + (0 if is_text else len(out.body) // 3 + 4)

    def receipt(self, result: Result) -> Receipt:
        """The receipt of an entry, or its error raised; a topic that nobody subscribes to is logged once."""
        if not isinstance(result, Receipt):
            raise result
        if result.unrouted:
            if not self.unrouted:
                log.warning("%s: nobody subscribes to it (said once)", self.address)
            self.unrouted += 1
        return result

    def receipts(self, results: Sequence[Result], refused: Mapping[int, Refused]) -> Sequence[Receipt]:
        """The receipts of a batch. Raises PublishFailed where an entry was not accepted.

        `refused`: those that could not be sent, by their place among all.
        """
        if refused:
            results = list(results)
            for place, error in refused.items():
                results.insert(place, error)
        failed = [result for result in results if result.__class__ is not Receipt and isinstance(result, BusError)]
        if failed:
            raise PublishFailed(
                f"{self.address}: {len(failed)} of {len(results)} entries failed, the first: {failed[0]}", results
            ) from failed[0]
        receipts = cast(Sequence[Receipt], results)
        if receipts and receipts[0].unrouted:
            self.receipt(receipts[0])
        return receipts

    async def _send_fitted(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        if self._shared:  # a middleware may send it twice
            batch = [copy_of(out) for out in batch]
        for out in batch:
            if self._store is not None and len(out.body) > self._near_limit and self._is_too_large(out):
                await self._store.put(out)
            if self._fit is not None:
                self._fit(out)
        return await self.link.send(batch)


def _room(capabilities: Capabilities) -> int:
    """Bytes of a body that surely fits."""
    limit = (capabilities.message_bytes or 1 << 62) * (4 if capabilities.binary else 3) // 4
    return limit - _HEADER_ROOM


def copy_of(out: Outgoing) -> Outgoing:
    """A message of its own, to be fitted; written out, since `dataclasses.replace` costs more than the fitting."""
    return Outgoing(
        out.address,
        out.id,
        out.body,
        dict(out.headers),
        out.key,
        out.delay,
        out.dedup_id,
        out.expires_at,
        out.mandatory,
        out.native,
        out.lane,
    )


def _correlate(headers: dict[str, str], message_id: str, current: Delivery) -> str:
    """What a handler publishes belongs to what it handles: its correlation."""
    cause = current.headers.get(h.ID, "")
    if cause:
        headers[h.CAUSATION] = cause
    return current.headers.get(h.CORRELATION) or cause or message_id
