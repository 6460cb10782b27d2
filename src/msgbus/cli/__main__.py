"""`python -m msgbus.cli`: what `msgbus run` starts its workers with."""

from msgbus.cli import main

main()
