"""The devices that a build of llama.cpp sees, so that it cannot fall back to the CPU in silence."""

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

#: How ggml's names of devices begin, by backend.
_NAMES = {
    "cuda": ("CUDA",),
    "rocm": ("ROCm",),
    "metal": ("Metal", "MTL"),
    "vulkan": ("Vulkan",),
}


class Device(NamedTuple):
    """One device, in ggml's words."""

    name: str
    """``CUDA0``."""
    description: str
    """``NVIDIA H100 80GB HBM3``."""


def devices(lib: Any) -> list[Device]:
    """Return what ggml can compute on; none where its library does not say."""
    try:
        ggml = _library(lib)
        ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
        ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
        ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
        for ask in (ggml.ggml_backend_dev_name, ggml.ggml_backend_dev_description):
            ask.restype, ask.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        found = [ggml.ggml_backend_dev_get(i) for i in range(ggml.ggml_backend_dev_count())]
        return [
            Device(
                ggml.ggml_backend_dev_name(d).decode("utf-8", "replace"),
                ggml.ggml_backend_dev_description(d).decode("utf-8", "replace"),
            )
            for d in found
        ]
    except (OSError, AttributeError):
        return []


def chosen(lib: Any, backend: str, layers: int) -> dict[str, str]:
    """Return the device that will compute, for the record.

    Raises:
        RuntimeError: it would be the CPU although another backend is asked for.
    """
    if backend == "cpu":
        return {"device": "CPU"}
    if not lib.llama_supports_gpu_offload():
        raise RuntimeError(f"this build of llama-cpp-python computes on the CPU, not on {backend}")
    if layers == 0:
        raise RuntimeError(f"n_gpu_layers 0 leaves every layer on the CPU, not on {backend}")
    seen = devices(lib)
    for device in seen:
        if device.name.startswith(_NAMES[backend]):
            return {"device": device.name, "device_name": device.description}
    names = ", ".join(device.name for device in seen) or "none"
    raise RuntimeError(f"llama.cpp sees no {backend} device (it sees: {names})")


def _library(lib: Any) -> Any:
    folder = Path(lib.__file__).parent / "lib"
    names = ("libggml.so", "libggml.dylib", "ggml.dll")
    return ctypes.CDLL(str(next((p for p in map(folder.joinpath, names) if p.exists()), folder)))
