"""The engines' own environments, and interpreters in which a real engine fails on purpose."""

import stat
import sys
from pathlib import Path

#: What the real llama.cpp does at its n-th forward pass, in an otherwise unchanged environment.
FAILURES = {
    "segfault": "ctypes.string_at(0)",
    "hang": "time.sleep(3600)",
    "exit": "os._exit(7)",
    "out_of_memory": "raise MemoryError('no room for the KV cache')",
}


def engine_python(engine: str) -> str:
    """Return the interpreter of an engine's environment, as ``make test`` sets it up."""
    found = sorted(Path(sys.prefix, "engines").glob(f"{engine}-*/bin/python"))
    if not found:
        raise FileNotFoundError(f"no environment for {engine}: run `make engines`")
    return str(found[-1])


def environments_of(engine: str, folder: Path, *more: str) -> Path:
    """Return a root with the environments of these engines only, made below ``folder``.

    A run that finds no reference engine puts nothing into the reference's chain: where a test does
    not ask what a swap confirms, that saves the start of an engine in each attempt.
    """
    root = folder / "engines"
    root.mkdir()
    for name in (engine, *more):
        for environment in Path(sys.prefix, "engines").glob(f"{name}-*"):
            (root / environment.name).symlink_to(environment.resolve())
    return root


def failing_llama_cpp(folder: Path, failure: str, at_forward: int) -> str:
    """Return an interpreter in which llama.cpp's n-th forward pass fails as named."""
    (folder / "sitecustomize.py").write_text(
        "import ctypes, os, time\n"
        "import llama_cpp\n"
        "real, count = llama_cpp.Llama.eval, 0\n"
        "def evaluate(self, tokens):\n"
        "    global count\n"
        "    count += 1\n"
        f"    if count == {at_forward}:\n"
        f"        {FAILURES[failure]}\n"
        "    return real(self, tokens)\n"
        "llama_cpp.Llama.eval = evaluate\n"
    )
    return _wrapper(folder)


def babbling_llama_cpp(folder: Path) -> str:
    """Return an interpreter that prints to stdout before anything of ours runs."""
    (folder / "sitecustomize.py").write_text("print('loading kernels …', flush=True)\n")
    return _wrapper(folder)


def sleeping_python(folder: Path) -> str:
    """Return an interpreter that never does anything."""
    return _script(folder / "sleeping", "sleep 3600")


def _wrapper(folder: Path) -> str:
    real = engine_python("llama_cpp")
    return _script(folder / "python", f'env PYTHONPATH="{folder}" "{real}" "$@"')


def _script(path: Path, command: str) -> str:
    path.write_text(f"#!/bin/sh\nexec {command}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
