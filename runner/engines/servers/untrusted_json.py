"""JSON from a server that may be hostile: bounded numbers, whole characters, no API key."""

import json
import math
import re
from typing import Any

from runner.engines.redaction import Redaction

#: Integers that no JSON reader agrees on beyond this.
_LARGEST = 2**53
#: Answers above this are distributions, in which numbers are many: a function called for each
#: would cost more than all the rest, and what reads them checks them.
_MANY_NUMBERS = 64 << 10
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")


def parsed(data: bytes, redaction: Redaction) -> Any:
    """Return what JSON says, without the key, and with U+FFFD for halves of characters.

    Raises:
        ValueError: this is no JSON, or holds NaN, or (if it is short) a number beyond 2^53.
        RecursionError: it is nested too deeply.
    """
    data = redaction.raw(data)
    few = len(data) < _MANY_NUMBERS
    strict: Any = {"parse_float": _finite, "parse_int": _exact} if few else {}
    found = json.loads(data, parse_constant=_no_number, **strict)
    # Only an escape can hide the key, or be half a character.
    escaped = _HALF.search(data) or (redaction and b"\\u" in data)
    return _cleaned(found, redaction) if escaped else found


def _cleaned(value: Any, redaction: Redaction) -> Any:
    if isinstance(value, str):
        return redaction.text(_LONE.sub("\ufffd", value))
    if isinstance(value, list):
        return [_cleaned(item, redaction) for item in value]
    if isinstance(value, dict):
        return {_cleaned(k, redaction): _cleaned(v, redaction) for k, v in value.items()}
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _exact(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > _LARGEST:
        raise ValueError(f"{text[:20]} is too large a number")
    return int(text)
