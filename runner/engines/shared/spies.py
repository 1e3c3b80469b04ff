"""How a spy ends a call of an engine as soon as it has seen what was asked for."""

from collections.abc import Callable
from typing import Any


class Seen(Exception):
    """Ends a call; carries what the spy saw."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def until_seen(call: Callable[[], Any]) -> Any:
    """Return what a spy saw during a call.

    Raises:
        RuntimeError: the call did not pass through the part that is watched.
    """
    try:
        call()
    except Seen as seen:
        return seen.value
    raise RuntimeError("the chat path did not pass through the part that was watched")
