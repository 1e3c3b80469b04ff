"""The cache of made model folders: each is made once, whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from suites.errors import UserError

#: Takes one line for the user.
Say = Callable[[str], None]
#: Free space that stays beside a made folder.
_SPARE = 256 << 20


def default_cache() -> Path:
    """Return the folder for made models: FLEETQUAL_CACHE, else one in the user's cache folder."""
    own = os.environ.get("FLEETQUAL_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fleetqual" / "models"


def silent(_: str) -> None:
    """Say nothing."""


def made_once(
    cache: Path, name: str, size: int, make: Callable[[Path], None], say: Say = silent
) -> Path:
    """Return the folder ``name`` of the cache; ``make`` fills it if it is not there.

    It is filled under a temporary name and then renamed, so another process never sees half of it.

    Args:
        cache: is made if it is missing.
        name: says what is in it: the digest of what it is made from.
        size: bytes that it will take, about.
        make: writes into an empty folder.
        say: is told that something is made, before it is.

    Raises:
        UserError: the cache cannot be written, or has too little space.
    """
    done = cache / name
    if done.is_dir():
        return done
    fix = "set FLEETQUAL_CACHE to a folder on a larger disk that can be written"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        if free < size + _SPARE:
            what = f"the model takes {_gigabytes(size)} here, {_gigabytes(free)} are free"
            raise UserError(what, where=str(cache), fix=fix)
        large = f" ({_gigabytes(size)})" if size else ""
        say(f"making a model folder, once: {done}{large}")
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as unfinished:
            body = Path(unfinished) / "made"
            body.mkdir()
            make(body)
            try:
                body.rename(done)
            except OSError:
                # Another process was faster, and made the same.
                if not done.is_dir():
                    raise
    except OSError as error:
        raise UserError(error.strerror or str(error), where=str(cache), fix=fix) from error
    return done


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
