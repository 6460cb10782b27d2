"""AWS Signature Version 4, sans-IO, with everything that doesn't change between two requests worked out once.

Source: "Create a signed AWS API request" in the AWS IAM User Guide (canonical request, string to sign,
derived key). Checked in tests request by request against botocore's own signer.

A service is called with the same method, URL and headers again and again; only the time, the credentials and
the body differ. A `Template` holds the canonical request with holes for these three.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_FORBIDDEN = re.compile(r"[^\x20-\x7e\t]")  # a header value with a line break in it would be two headers
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key with its secret, and the session token of temporary ones. Its repr hides the secrets."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Signed(NamedTuple):
    """What signing adds to a request: values of `x-amz-date` and `authorization`."""

    date: str
    authorization: str


@lru_cache(maxsize=64)
def derive_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The signing key of one day (`date` is YYYYMMDD, UTC), region and service."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=8)
def amz_date(second: int) -> str:
    """A Unix time in whole seconds as `x-amz-date` wants it: YYYYMMDDTHHMMSSZ."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def host_header(url: str) -> str:
    """The `host` header of a URL: lower case, without user info, without the scheme's own port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _PORTS.get(parts.scheme):
        return f"{host}:{parts.port}"
    return host


def canonical_path(path: str) -> str:
    """The path of a URL without dot segments and empty ones, quoted once more: for every service but S3."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    trail = "/" if path.endswith("/") and kept else ""
    return quote(f"/{'/'.join(kept)}{trail}", safe="/~")


def canonical_query(query: str) -> str:
    """The query string of a URL (already percent-encoded), sorted by name, then by value."""
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _clean(name: str, value: str) -> str:
    """A header value as it is signed: outer blanks off, inner runs of blanks to one. Raises ValueError."""
    if _FORBIDDEN.search(value):
        raise ValueError(f"header {name} holds characters that a header can't carry")
    return " ".join(value.split())


class Template:
    """One kind of request (method, URL, headers), signed many times.

    `headers`: names in lower case with their values, all signed; `host` comes from the URL if missing.
    `x-amz-date`, `x-amz-security-token` and `authorization` are made here and must not be among them.
    Raises ValueError for headers that can't be sent.
    """

    def __init__(self, method: str, url: str, headers: Mapping[str, str], region: str, service: str) -> None:
        parts = urlsplit(url)
        self.region = region
        self.service = service
        self._line = f"{method}\n{canonical_path(parts.path)}\n{canonical_query(parts.query)}\n"
        self._headers = {name: _clean(name, value) for name, value in headers.items()}
        self._headers.setdefault("host", host_header(url))
        if bad := [name for name in self._headers if not _NAME.fullmatch(name)]:
            raise ValueError(f"not lower-case header names: {bad}")
        self._bound: Credentials | None = None
        self._day = ""

    def _bind(self, credentials: Credentials) -> None:
        """Lay out the canonical request for these credentials: everything before the date, and after it."""
        headers = dict(self._headers)
        if credentials.token:
            headers["x-amz-security-token"] = _clean("x-amz-security-token", credentials.token)
        names = sorted([*headers, "x-amz-date"])
        before = [f"{name}:{headers[name]}\n" for name in names if name < "x-amz-date"]
        after = [f"\n{name}:{headers[name]}" for name in names if name > "x-amz-date"]
        self._signed_names = ";".join(names)
        self._before = self._line + "".join(before) + "x-amz-date:"
        self._after = "".join(after) + f"\n\n{self._signed_names}\n"
        self._bound = credentials
        self._day = ""

    def _bind_day(self, credentials: Credentials, day: str) -> None:
        scope = f"{day}/{self.region}/{self.service}/aws4_request"
        self._scope = scope
        self._key = derive_key(credentials.secret_key, day, self.region, self.service)
        self._authorization = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={self._signed_names}, Signature="
        )
        self._day = day

    def sign(self, body: bytes, credentials: Credentials, at: float) -> Signed:
        """Sign a request with this body at `at` (Unix time in seconds, any clock offset already added).

        The caller sends `x-amz-date`, `authorization` and, with a token, `x-amz-security-token`.
        """
        if credentials is not self._bound:
            self._bind(credentials)
        date = amz_date(int(at))
        if not date.startswith(self._day) or not self._day:
            self._bind_day(credentials, date[:8])
        canonical = f"{self._before}{date}{self._after}{sha256(body).hexdigest()}"
        digest = sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{date}\n{self._scope}\n{digest}"
        return Signed(date, self._authorization + hmac.digest(self._key, text.encode(), "sha256").hex())
