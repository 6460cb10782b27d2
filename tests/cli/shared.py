"""The service in a process of its own, where `spool://` is known as if an entry point had told of it."""

from tests.cli import spool
from tests.cli.service import bus, jobs

__all__ = ["bus", "jobs"]

spool.register()
