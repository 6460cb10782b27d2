"""`python -m tests.node`: install the clients from npm, so that no test waits for it."""

import sys

from tests.node.peer import NEEDS
from tests.servers.errors import ServerError
from tests.servers.install import ensure

if __name__ == "__main__":
    try:
        ensure(NEEDS)
        sys.stdout.write("# the clients in Node are installed\n")
    except ServerError as error:
        raise SystemExit(str(error)) from error
