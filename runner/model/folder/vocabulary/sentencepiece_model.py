"""A SentencePiece file (``tokenizer.model``) as vocabulary tables.

It is a plain protobuf message of which seven fields matter, so it is read here: the sentencepiece
library would be native code that parses a foreign file.
Format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from runner.model.folder.vocabulary.tables import NORMAL, Tables, refuse_repeated
from suites.errors import UserError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Fields of the messages, by their numbers in the published format.
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _KIND = 1, 2, 3
_MODEL_TYPE, _IDS = 3, {40: "unk", 41: "bos", 42: "eos", 43: "pad"}
_CHARSMAP, _DUMMY_PREFIX, _JOINS_SPACES = 2, 3, 4
_MODELS = {1: "t5", 2: "llama"}
_MOST_PIECES = 1 << 22
_FIX = "download the file again, or save the model with a tokenizer.json"

Field = tuple[int, int | bytes]


def sentencepiece_tables(path: Path) -> Tables:
    """Read a SentencePiece file.

    Raises:
        UserError: it is damaged, or of a kind that is not known.
    """
    try:
        return _tables(path, list(_fields(path.read_bytes())))
    except OSError as error:
        raise UserError(error.strerror or "cannot be read", where=str(path)) from error
    except ValueError as error:
        what = f"not a sound SentencePiece file: {error}"
        raise UserError(what, where=str(path), fix=_FIX) from error


def is_sentencepiece(path: Path) -> bool:
    """Whether the file begins like a SentencePiece model, not like a list of ranked tokens."""
    with path.open("rb") as file:
        return file.read(1) == b"\x0a"


def _tables(path: Path, message: list[Field]) -> Tables:
    pieces = [dict(_fields(_body(value))) for number, value in message if number == _PIECE]
    if not 0 < len(pieces) <= _MOST_PIECES:
        raise ValueError(f"it has {len(pieces)} pieces")
    trainer = _message(message, _TRAINER)
    normalizer = _message(message, _NORMALIZER)
    kind = _number(trainer.get(_MODEL_TYPE, 1))
    if kind not in _MODELS:
        raise UserError(
            f"SentencePiece's model type {kind} is not known",
            where=str(path),
            known="1 (unigram), 2 (BPE)",
            fix=_FIX,
        )
    special = {"unk": 0, "bos": 1, "eos": 2}
    for number, name in _IDS.items():
        if number in trainer:
            special[name] = _signed(trainer[number])
    found = Tables(
        where=str(path),
        model=_MODELS[kind],
        tokens=[_text(number, piece) for number, piece in enumerate(pieces)],
        kinds=[_number(piece.get(_KIND, NORMAL)) for piece in pieces],
        scores=[_score(piece.get(_SCORE, b"\0\0\0\0")) for piece in pieces],
        special={name: i for name, i in special.items() if 0 <= i < len(pieces)},
        space_prefix=bool(normalizer.get(_DUMMY_PREFIX, 1)),
        joins_spaces=bool(normalizer.get(_JOINS_SPACES, 1)),
        charsmap=_body(normalizer.get(_CHARSMAP, b"")),
    )
    refuse_repeated(found)
    return found


def _message(message: list[Field], wanted: int) -> dict[int, int | bytes]:
    bodies = [value for number, value in message if number == wanted]
    return dict(_fields(_body(bodies[-1]))) if bodies else {}


def _fields(data: bytes) -> Iterator[Field]:
    """Yield (number, value) of each field of a protobuf message; fixed32 values as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at} has the wire type {wire}, which is not known")
        if at + size > len(data):
            raise ValueError(f"truncated: field {number} ends {at + size - len(data)} bytes later")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("truncated within a number")
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
    raise ValueError(f"a number at byte {at} is too long")


def _body(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a text is expected")
    return value


def _text(number: int, piece: dict[int, int | bytes]) -> str:
    try:
        return _body(piece.get(_TEXT, b"")).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"piece {number} is not UTF-8") from error


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a text stands where a number is expected")
    return value


def _signed(value: int | bytes) -> int:
    """Return a protobuf int32: -1, which means that there is no such token, has ten bytes."""
    found = _number(value)
    return found - (1 << 64) if found >= 1 << 63 else found


def _score(value: int | bytes) -> float:
    body = _body(value)
    if len(body) != 4:
        raise ValueError("a score is not a float")
    (found,) = struct.unpack("<f", body)
    if found != found or abs(found) == float("inf"):
        raise ValueError("a score is NaN or infinite")
    return float(found)
