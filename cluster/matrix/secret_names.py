"""Which options look like a secret: a matrix is stored with the results, so none may be in it."""

import re
from collections.abc import Iterator
from typing import Any

from suites.mistakes import KeyPath

#: Words that mark any name as secret: ``auth_header``, ``proxyPassword``.
_ANYWHERE = re.compile(
    r"(?:api|access|private|secret)keys?|secrets?|passwords?|passwd|passphrases?"
    r"|auth|authorization|authentication|bearer|credentials?"
)
#: Words that mark a name as secret at its end: ``hf_token``, but not ``token_ids``.
_AT_THE_END = re.compile(r"keys?|token")
#: Special tokens of a tokenizer are not secret.
_SPECIAL = re.compile(r"(?:bos|eos|pad|unk|sep|cls|mask|stop|image|audio|video)_?token", re.I)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def secret_names(options: Any, key: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key path of each option whose name looks secret, and the name.

    Names in nested mappings count too, and flags in lists (``--api-key=…``).
    """
    if isinstance(options, dict):
        for name, value in options.items():
            if is_secret_name(str(name)):
                yield (*key, name), str(name)
            yield from secret_names(value, (*key, name))
    elif isinstance(options, list | tuple):
        for index, value in enumerate(options):
            yield from secret_names(value, (*key, index))
    elif isinstance(options, str) and options.startswith("--"):
        name = options.partition("=")[0].split()[0]
        if is_secret_name(name):
            yield key, name


def is_secret_name(name: str) -> bool:
    """Whether an option of this name would hold a key, a token, a password or the like."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or _SPECIAL.fullmatch(name):
        return False
    return any(_ANYWHERE.fullmatch(word) for word in words) or bool(
        _AT_THE_END.fullmatch(words[-1])
    )
