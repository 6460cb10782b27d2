"""What a newcomer does on a machine without the repository's environment: `make newcomer`.

`environment` makes a fresh environment of the wheel, not editable, and runs commands in it. `pages` does README,
tutorial, how-tos and examples there. `brokers` sends through each broker by its URL, on uvloop and on asyncio's loop,
with the service in `service`. `commands` types each command of the command line, `stops` sends SIGTERM in each state.
`__main__` is the order of it.
"""
