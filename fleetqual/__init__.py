"""The front door: the command, the self-test, and the way into results for notebooks."""

from fleetqual.commands.app import main

__all__ = ["main"]
