"""ARNs of what may not be there yet, wherever it will be."""

from __future__ import annotations

from typing import NamedTuple


class Arn(NamedTuple):
    """The ARN of something. `region`, `account`: "" where it is deployed; None: an ARN of its service has none.

    `resource` may end with `*` where it stands in a policy.
    """

    service: str
    resource: str
    region: str | None = ""
    account: str | None = ""

    def text(self, region: str, account: str) -> str:
        """Where it is deployed in this region of this account."""
        own_region = region if self.region == "" else self.region or ""
        own_account = account if self.account == "" else self.account or ""
        partition = partition_of(own_region or region)
        return f"arn:{partition}:{self.service}:{own_region}:{own_account}:{self.resource}"


class Home(NamedTuple):
    """Where a broker's URL says that its things are; "": where it is deployed."""

    region: str = ""
    account: str = ""

    def arn(self, service: str, resource: str) -> Arn:
        """Of something there."""
        return Arn(service, resource, self.region, self.account)


def partition_of(region: str) -> str:
    """The partition that a region is in."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
