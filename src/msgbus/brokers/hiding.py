"""What of a URL may be shown: its account and its options may be secrets, in errors, logs and `repr`s.

A password is often pasted as it is: `/`, `?`, `#` and `@` in it then end the account too early for every parser. So
what is shown is found without one, and such a URL is refused with the remedy, before anything quotes a part of it.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from msgbus.errors import ConfigError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_PLACE = re.compile(r"[^:]*(?::\d*)?|\[[0-9A-Fa-f:.%]*\](?::\d*)?")
_END = re.compile(r"[/?#]")
_IS_OPTION = re.compile(r"\?\w+=")
_WORD = re.compile(r"\S+")
_BARE = re.compile(r"(?i)\b(?:amqps?|stomp(?:\+ssl)?|sqs|kinesis|memory|https?|postgres\w*|mysql\w*)(?:\+\w+)?:(?!//)")
_BEGINNINGS = (("://", "@"), ("%3A%2F%2F", "%40"))
_OPTION = re.compile(r"([?&])([^=&?\s]*)=([^&\s]*)")
_SECRET = re.compile(r"(?i)secret|password|passwd|passphrase|token|key|credential|signature")


def parts_of(url: str) -> SplitResult:
    """The parts of a broker's URL. Raises ConfigError, without a secret, where it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text may have the password in it
        raise ConfigError(f"{shown(url)!r} is no URL: an IPv6 address is written in brackets, [::1]") from None
    scheme, rest = _split(url)
    if "#" in rest or _is_broken(rest):
        raise ConfigError(
            f"{shown(url)!r}: the user name and the password in a URL are percent-encoded:"
            " / is %2F, ? is %3F, # is %23, @ is %40"
        )
    if scheme and "@" in rest and not url[len(scheme) :].startswith("://"):
        raise ConfigError(f"{shown(url)!r}: write {scheme}://, with both slashes")
    return parts


def shown(url: str) -> str:
    """A URL as logs and errors may show it: without account and options, whatever is wrong with it. Never raises."""
    scheme, rest = _split(url)
    if "://" in url and not _is_broken(rest):
        rest = re.split("[?#]", rest, maxsplit=1)[0]
    place = re.split("[?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme}://{place}" if scheme else place


def scrub(text: str) -> str:
    """The text without the accounts of URLs in it, percent-encoded ones too, and without options that are secrets."""
    if "@" in text or "%40" in text:
        text = _WORD.sub(_without_account, text)
    return _OPTION.sub(_without_secret, text) if "=" in text else text


def _split(url: str) -> tuple[str, str]:
    match = _SCHEME.match(url)
    scheme = match[0] if match else ""
    return scheme, url[len(scheme) :].removeprefix(":").removeprefix("//")


def _is_broken(rest: str) -> bool:
    """Whether an account goes on where a parser sees a path, a query or a fragment."""
    end = _END.search(rest)
    if end is None or "@" not in rest[end.start() :]:
        return False
    authority, after = rest[: end.start()], rest[end.start() : rest.rindex("@")]
    if "@" in authority:  # the account has ended there, or its password has an @ as well
        return "?" not in after
    return "#" in after or _PLACE.fullmatch(authority) is None or (after[0] == "?" and not _IS_OPTION.match(after))


def _without_account(match: re.Match[str]) -> str:
    word = match[0]
    for beginning, ending in _BEGINNINGS:
        start, end = word.upper().find(beginning), word.rfind(ending)
        if 0 <= start < end:
            return f"{word[: start + len(beginning)]}***{word[end:]}"
    bare, end = _BARE.search(word), word.rfind("@")
    return f"{word[: bare.end()]}***{word[end:]}" if bare and bare.end() <= end else word


def _without_secret(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}=***" if _SECRET.search(match[2]) else match[0]
