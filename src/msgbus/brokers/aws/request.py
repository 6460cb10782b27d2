"""A signed HTTP/1.1 request as bytes, sans-IO."""

from __future__ import annotations

from urllib.parse import urlsplit

from msgbus.brokers.aws.operations import Operation
from msgbus.brokers.aws.signing import Credentials, Template, host_header


class RequestWriter:
    """Writes the requests of one operation to one endpoint.

    `url`: the endpoint; its path is used, as with a gateway that serves AWS under a prefix. Raises ValueError
    for a URL that can't be one.
    """

    def __init__(self, operation: Operation, url: str, region: str) -> None:
        path = urlsplit(url).path or "/"
        lines = [f"POST {path} HTTP/1.1", f"host: {host_header(url)}", "user-agent: msgbus"]
        lines += [f"{name}: {value}" for name, value in operation.headers.items()]
        self._template = Template("POST", url, operation.headers, region, operation.service)
        self._head = "\r\n".join(lines)

    def write(self, body: bytes, credentials: Credentials, at: float) -> bytes:
        """The whole request, signed for `at` (Unix time in seconds)."""
        signed = self._template.sign(body, credentials, at)
        token = f"\r\nx-amz-security-token: {credentials.token}" if credentials.token else ""
        head = (
            f"{self._head}\r\nx-amz-date: {signed.date}{token}\r\nauthorization: {signed.authorization}"
            f"\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body
