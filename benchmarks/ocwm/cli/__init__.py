"""The command line. Every command imports what it needs when it is called, so that `list` and `--help` are quick."""

from ocwm.cli.app import main

__all__ = ["main"]
