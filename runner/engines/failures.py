"""What an engine raised, in one bounded line, and whether it ran out of memory."""


def error_line(error: BaseException) -> str:
    """Return an error's type and first line, bounded."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:500]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's error or an engine's own (torch and its kin name it so)."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
