"""The command that starts an engine's own server."""

import json
from dataclasses import dataclass, field
from typing import Any

#: Servers that we start answer this machine only.
HOST = "127.0.0.1"


@dataclass(frozen=True)
class ServerCommand:
    """How one server is started."""

    arguments: list[str]
    """After ``python -m``."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables, beside those of the child."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Options that the probes need and the user did not ask for."""


def written(value: Any) -> str:
    """Return an option's value as servers read it: what has parts as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
