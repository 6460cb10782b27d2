"""The rights that are planned, as an IAM policy."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from msgbus.brokers.aws.arns import Arn
from msgbus.brokers.aws.session import configured_region
from msgbus.brokers.aws.templates.naming import document, mapped
from msgbus.brokers.plan import Plan
from msgbus.errors import ConfigError


def iam(plans: Sequence[Plan]) -> str:
    """A policy in JSON. Raises ConfigError where nothing says the region or the account of what it is about."""
    policy = document(plans)
    arns = [each for statement in policy["Statement"] for each in statement["Resource"] if isinstance(each, Arn)]
    region = _known("region", any(arn.region == "" for arn in arns), configured_region())
    account = _known("account", any(arn.account == "" for arn in arns), os.environ.get("AWS_ACCOUNT_ID", ""))
    return json.dumps(_resolved(policy, region, account), indent=2)


def _known(what: str, is_needed: bool, found: str) -> str:
    if is_needed and not found:
        remedy = "AWS_DEFAULT_REGION, or name it in the URL" if what == "region" else "AWS_ACCOUNT_ID"
        raise ConfigError(f"iam: ARNs have the {what} in them, and nothing says it; set {remedy}")
    return found


def _resolved(policy: Any, region: str, account: str) -> Any:
    return mapped(policy, str, lambda arn: arn.text(region, account))
