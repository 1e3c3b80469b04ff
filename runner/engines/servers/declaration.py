"""The engine ``openai``: whatever answers at a base URL."""

from runner.engines.declaration import Declaration
from runner.engines.servers.plain import Plain

DECLARATION = Declaration(
    engine="openai",
    module="",
    packages=(),
    formats=("hf", "gguf"),
    backends=("cuda", "rocm", "metal", "vulkan", "xpu", "cpu"),
    servings=("external",),
    structure_types=(),
    shown=Plain.shown,
    option_names=("model", "request_timeout_s"),
    option_types={"model": str, "request_timeout_s": float},
)
