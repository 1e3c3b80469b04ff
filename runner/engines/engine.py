"""One engine, as the matrix describes it and as the adapter receives it."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Engine:
    """One engine entry of a matrix, resolved. It travels unchanged from the plan to the adapter."""

    name: str
    """Name of the entry."""
    engine: str
    """The engine itself: llama_cpp, transformers, …"""
    version: str | None = None
    """Version asked for; None takes what the environment holds."""
    python: str = ""
    """Interpreter of the engine's environment; empty until the node has found it."""
    serving: Literal["in_process", "managed", "external"] = "in_process"
    base_url: str | None = None
    """Where a server answers."""
    api_key_env: str | None = None
    """Variable that holds the server's key on the node; the key itself is in no order."""
    dialect: str | None = None
    """What the server speaks; None or ``auto`` asks it."""
    options: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None
    """A known fault that the child puts into its adapter (self-test)."""
    proxy: dict[str, Any] | None = None
    """A known fault that the child puts between itself and a server (self-test)."""

    #: Pydantic reads this where a work order holds an engine: unknown keys are an error.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
