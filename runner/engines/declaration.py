"""What an engine declares about itself: all that the program knows of it without importing it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runner.engines.base import Load
from runner.engines.shown import Shown

if TYPE_CHECKING:
    from runner.engines.servers.command import ServerCommand
    from runner.engines.servers.plain import Plain


@dataclass(frozen=True)
class OwnServer:
    """The server that an engine brings, which the runner can start."""

    dialect: "type[Plain]"
    """What it speaks beside OpenAI's API."""
    command: "Callable[[Load, int], ServerCommand]"
    """How it is started on a port."""
    health: str
    """The path that answers as soon as the server is ready."""
    option_names: tuple[str, ...] | None = None
    """Options that a matrix may give it; those of the library where left out."""


@dataclass(frozen=True)
class Declaration:
    """What an engine can be asked in process, known without importing it."""

    engine: str
    module: str
    """Python module whose presence means that the engine is installed."""
    packages: tuple[str, ...]
    """Distributions that carry the version; the first that is installed counts."""
    formats: tuple[str, ...]
    """Artifact formats: hf, gguf."""
    backends: tuple[str, ...]
    servings: tuple[Literal["in_process", "managed", "external"], ...]
    """How it can be served; the first is taken where a matrix does not say."""
    structure_types: tuple[str, ...]
    """Weights types that it can compute at fp32."""
    shown: Shown
    """What it shows in process."""
    option_names: tuple[str, ...]
    """Engine options accepted in a matrix."""
    option_types: Mapping[str, type[int | float | str]] = field(default_factory=dict)
    """Option → its type, ``bool`` among them; one that is left out takes any value."""
    adapter: str = ""
    """Module with ``make_adapter(Load) -> Adapter``, imported in the engine's environment only."""
    own_server: OwnServer | None = None
    structure_options: Mapping[str, Any] = field(default_factory=dict)
    """Options that the structure pass sets, whatever a matrix says."""
    thread_options: tuple[str, ...] = ()
    """Options that take a number of threads."""
    slow_start_s: float = 0.0
    """Least deadline in seconds of a child, where the engine is slow to start."""
    benign_options: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Options that change only the order of additions, each with values to try."""
    floors: Callable[[str], list[dict[str, Any]]] | None = None
    """Compute dtype → 20 benign configurations, from which a floor is measured."""
    few_floors: Callable[[str], list[dict[str, Any]]] | None = None
    """Compute dtype → a few of them, for a floor that a prior completes. All of one dtype differ
    only in options that a loaded model can take on."""
    rounded_types: Mapping[str, str] = field(default_factory=dict)
    """Quantisation whose kernels round activations too → the compute dtype that does the same."""

    def options(self, serving: str) -> tuple[str, ...]:
        """Return the options that a matrix may give, by how the engine is served."""
        own = self.own_server.option_names if self.own_server and serving == "managed" else None
        return self.option_names if own is None else own

    @property
    def one_thread(self) -> dict[str, int]:
        """Options under which it computes on one thread."""
        return dict.fromkeys(self.thread_options, 1)
