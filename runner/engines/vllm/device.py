"""On which device vLLM computes, and what its process must say before it is imported."""

import importlib
import os
from typing import Any

_BACKENDS = ("cuda", "rocm", "xpu", "cpu")
#: What the user says counts more.
VARIABLES = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
CPU_VARIABLES = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
_IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def prepare(backend: str, *, watched: bool) -> None:
    """Set the environment variables that vLLM reads when it is imported.

    ``watched`` keeps the engine's core in the first of vLLM's two model runners, the only one that
    the watch on its logits knows.
    """
    asked = _IN_PROCESS | VARIABLES | (CPU_VARIABLES if backend == "cpu" else {})
    for name, value in asked.items():
        os.environ.setdefault(name, value)
    if watched:
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"


def refuse_other(torch: Any, vllm: Any, backend: str) -> None:
    """Raise rather than compute elsewhere: vLLM's builds and its own search decide the device."""
    # vLLM loads its parts on demand: the attribute is not there before this import.
    found = importlib.import_module("vllm.platforms").current_platform
    name = next((n for n in _BACKENDS if getattr(found, f"is_{n}")()), found.device_type)
    if name != backend:
        raise RuntimeError(
            f"vLLM {vllm.__version__} computes on {name} here, not on {backend} "
            f"(torch {torch.__version__})"
        )


def build(torch: Any) -> str:
    runtime = {"cuda": torch.version.cuda, "hip": torch.version.hip}
    return f"torch {torch.__version__}" + "".join(f", {k} {v}" for k, v in runtime.items() if v)


def uuids(torch: Any, backend: str) -> list[str]:
    if backend not in ("cuda", "rocm"):
        return []
    return [str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)]


def described(torch: Any, backend: str) -> dict[str, str]:
    """Return what computes, and the runtime that torch was built for."""
    if backend not in ("cuda", "rocm"):
        return {"device": backend}
    runtime = torch.version.hip if backend == "rocm" else torch.version.cuda
    name = torch.cuda.get_device_name(torch.cuda.current_device())
    return {"device": backend, "device_name": str(name), "runtime": str(runtime)}
