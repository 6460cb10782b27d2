"""Plans of brokers on AWS, written for the tools that deploy them.

- `naming`: what is planned by all brokers together, each thing once, with a name of its own in a template
- `cloudformation`: a template in JSON
- `terraform`: a configuration in Terraform's JSON syntax
- `iam`: the rights alone, as a policy
"""

from __future__ import annotations

from collections.abc import Mapping

from msgbus.brokers.aws.templates.cloudformation import cloudformation
from msgbus.brokers.aws.templates.iam import iam
from msgbus.brokers.aws.templates.terraform import terraform
from msgbus.brokers.plan import Render

FORMATS: Mapping[str, Render] = {"cloudformation": cloudformation, "terraform": terraform, "iam": iam}
"""What a plan of a broker on AWS can be written in."""

__all__ = ["FORMATS"]
