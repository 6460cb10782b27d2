"""The script `msgbus`. It stands beside the package since that takes half a second to import: Ctrl-C meanwhile ends the
process as it ends any other, without a traceback.
"""

from __future__ import annotations

import signal


def main() -> None:
    """The entry point."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:  # as for what a shell starts in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from msgbus.cli import command_line  # noqa: PLC0415 - this is what takes its time

    run = command_line()
    signal.signal(signal.SIGINT, handler)
    try:
        run()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
