"""How mlx_lm's own server is started."""

import importlib

from runner.engines.base import Load
from runner.engines.servers.command import HOST, ServerCommand, written

#: Where it says that it is ready.
HEALTH = "/health"


def command(load: Load, port: int) -> ServerCommand:
    """Return how mlx_lm's server is started."""
    # It takes no option for the device, and would choose in silence.
    on_metal = importlib.import_module("mlx.core").metal.is_available()
    if on_metal != (load.backend == "metal"):
        chooses = "Metal" if on_metal else "the CPU"
        raise RuntimeError(f"mlx_lm's server computes on {chooses} here, not on {load.backend}")
    arguments = ["mlx_lm", "server", "--model", load.path, "--host", HOST, "--port", str(port)]
    for name, value in load.engine.options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            # A flag stands alone, and has none that undoes it.
            arguments += [flag] if value else []
        else:
            arguments += [flag, written(value)]
    return ServerCommand(arguments)
