"""Errors of an engine: as one line of limited length, and whether memory ran out."""


def error_line(error: BaseException) -> str:
    """Return an error's type and first line, at most 500 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:500]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, or one that torch or another library defines."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
