"""The files of one GGUF model: large ones are split in ``name-00001-of-00003.gguf`` and so on."""

import re
from pathlib import Path

from suites.errors import UserError

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.gguf)")
#: Most missing parts that a message names.
_NAMED = 3


def gguf_parts(path: Path) -> list[Path]:
    """Return all files of the model of which ``path`` is one, in their order.

    Raises:
        UserError: a part is missing.
    """
    found = _PART.fullmatch(path.name)
    if found is None:
        return [path]
    count, number = int(found["count"]), int(found["number"])
    if not 0 < number <= count:
        what = f"its name says part {number} of {count}"
        raise UserError(what, where=str(path), fix="give the file the name that it was made with")
    names = [f"{found['stem']}-{n:05}-of-{count:05}{found['end']}" for n in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise UserError(
            f"the model has {count} parts; missing: {', '.join(missing[:_NAMED])}{more}",
            where=str(path.parent),
            fix="put all parts in one folder",
        )
    return [path.parent / name for name in names]


def model_stem(path: Path) -> str:
    """Return the model's name: that of its file, without the number of a part."""
    found = _PART.fullmatch(path.name)
    return found["stem"] if found else path.stem
