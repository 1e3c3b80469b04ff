"""The device on which torch computes."""

from typing import Any

_DEVICES = {"cuda": "cuda", "rocm": "cuda", "metal": "mps", "xpu": "xpu", "cpu": "cpu"}


def device_of(torch: Any, backend: str) -> str:
    """Return the torch device of a backend; refuse rather than fall back to the CPU."""
    device = _DEVICES[backend]
    present = {
        "cuda": torch.cuda.is_available() and bool(torch.version.hip) == (backend == "rocm"),
        "mps": torch.backends.mps.is_available(),
        "xpu": hasattr(torch, "xpu") and torch.xpu.is_available(),
        "cpu": True,
    }
    if not present[device]:
        raise RuntimeError(f"this build of torch ({torch.__version__}) finds no {backend} device")
    return device


def described(torch: Any, backend: str) -> dict[str, str]:
    """Return what computes, and the runtime that torch was built for."""
    if backend in ("cuda", "rocm"):
        runtime = torch.version.hip if backend == "rocm" else torch.version.cuda
        name = torch.cuda.get_device_name(torch.cuda.current_device())
        return {"device": backend, "device_name": str(name), "runtime": str(runtime)}
    return {"device": _DEVICES[backend]}


def uuids(torch: Any, backend: str) -> list[str]:
    if backend not in ("cuda", "rocm"):
        return []
    return [str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)]
