"""Edits of a tensor's values, or of the bytes of its quantised blocks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetqual.selftest.injections import TensorEdit
from suites.errors import UserError

Values = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
UntouchedValues = Callable[[str], Values]
"""Returns the untouched values of a tensor, by name."""

#: Type → bytes of a block, and how many of them are its f16 scale and offset, which stand first.
BLOCKS = {"Q4_0": (18, 2), "Q4_1": (20, 4), "Q5_0": (22, 2), "Q5_1": (24, 4), "Q8_0": (34, 2)}


@dataclass(frozen=True)
class EditContext:
    """What an edit can read besides the values."""

    untouched: UntouchedValues
    heads: Mapping[str, int]
    """Tensor → number of heads among which its rows are interleaved."""


def edits_of(
    edits: tuple[TensorEdit, ...], names: list[str], where: str
) -> dict[str, list[TensorEdit]]:
    """Return tensor → its edits, in order.

    Raises:
        UserError: an edit's name matches no tensor.
    """
    found: dict[str, list[TensorEdit]] = {}
    for edit in edits:
        matching = [name for name in names if fnmatchcase(name, edit.name)]
        if not matching:
            raise UserError(f"no tensor is called {edit.name!r}", where=where)
        for name in matching:
            found.setdefault(name, []).append(edit)
    return found


def refuse_edits_without_effect(edits: Sequence[TensorEdit], where: str) -> None:
    """Raise UserError if edits changed no byte: a fault that changes nothing tests nothing."""
    for edit in edits:
        said = edit.model_dump_json(exclude_defaults=True)
        raise UserError(f"the edit {said} changes nothing", where=where)


def edited(name: str, values: Values, edit: TensorEdit, context: EditContext) -> Values:
    """Return the values of a tensor after one edit, as float32.

    Raises:
        UserError: the edit does not fit the tensor.
    """
    change = _CHANGES.get(edit.op)
    if change is None:
        raise UserError(f"{edit.op} needs quantised blocks, and {name} has plain numbers")
    if edit.op == "unpermute" and name not in context.heads:
        raise UserError(f"unpermute needs interleaved rows; those of {name} are not")
    if edit.op == "transpose" and (values.ndim != 2 or values.shape[0] != values.shape[1]):
        raise UserError(f"transpose needs a square matrix, and {name} is not square")
    found = change(values.copy(), edit, name, context)
    if found.shape != values.shape:
        raise UserError(f"{edit.op} would change the shape of {name}")
    return np.ascontiguousarray(found, np.float32)


def edited_blocks(name: str, stored: Bytes, edit: TensorEdit, kind: str) -> Bytes:
    """Return the bytes [rows, bytes of a row] of a tensor of type ``kind`` (a key of ``BLOCKS``)
    after one edit of its blocks."""
    change = _BLOCK_CHANGES.get(edit.op)
    if change is None:
        raise UserError(f"{edit.op} needs plain numbers, and {name} has quantised blocks")
    size, head = BLOCKS[kind]
    blocks = stored.copy().reshape(-1, size)
    change(blocks, edit, stored.shape[0], head)
    return np.asarray(blocks.reshape(stored.shape), np.uint8)


def _by(edit: TensorEdit) -> float:
    if edit.by is None:
        raise ValueError(f"{edit.op} without a strength")
    return edit.by


def _noise(values: Values, edit: TensorEdit, _name: str, _context: EditContext) -> Values:
    size = _by(edit) * float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    drawn = np.random.default_rng(edit.seed).standard_normal(values.shape)
    return (values + size * drawn).astype(np.float32)


def _round(values: Values, edit: TensorEdit, _name: str, _context: EditContext) -> Values:
    mantissa, exponent = np.frexp(values)
    steps = 2.0 ** (_by(edit) + 1)
    return np.asarray(np.ldexp(np.round(mantissa * steps) / steps, exponent), np.float32)


def _permuted(axis: int) -> Callable[[Values, TensorEdit, str, EditContext], Values]:
    def change(values: Values, edit: TensorEdit, _name: str, _context: EditContext) -> Values:
        order = np.random.default_rng(edit.seed).permutation(values.shape[axis])
        return np.take(values, order, axis)

    return change


def _unpermuted(values: Values, _edit: TensorEdit, name: str, context: EditContext) -> Values:
    heads = context.heads[name]
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _swapped(values: Values, edit: TensorEdit, _name: str, _context: EditContext) -> Values:
    rows = list(edit.rows or ())
    values[rows] = values[rows[::-1]]
    return values


def _zeroed(values: Values, edit: TensorEdit, _name: str, _context: EditContext) -> Values:
    block = values[slice(*edit.rows)] if edit.rows else values
    if edit.columns:
        block = block[:, slice(*edit.columns)]
    block[...] = 0.0
    return values


def _nan(values: Values, edit: TensorEdit, _name: str, _context: EditContext) -> Values:
    values.reshape(-1)[: int(_by(edit))] = np.nan
    return values


def _shifted(values: Values, edit: TensorEdit, _name: str, _context: EditContext) -> Values:
    return np.roll(values, int(_by(edit)), axis=0)


_CHANGES: dict[str, Callable[[Values, TensorEdit, str, EditContext], Values]] = {
    "scale": lambda values, edit, _name, _place: values * np.float32(_by(edit)),
    "add": lambda values, edit, _name, _place: values + np.float32(_by(edit)),
    "noise": _noise,
    "round": _round,
    "transpose": lambda values, _edit, _name, _place: values.T,
    "permute_rows": _permuted(0),
    "permute_columns": _permuted(1),
    "shift_rows": _shifted,
    "unpermute": _unpermuted,
    "swap_rows": _swapped,
    "zero_block": _zeroed,
    "nan": _nan,
    "copy": lambda _values, edit, _name, context: context.untouched(edit.of or ""),
}


def _scaled_blocks(blocks: Bytes, edit: TensorEdit, rows: int, head: int) -> None:
    per_row = len(blocks) // rows
    first, end = edit.rows or (0, rows)
    chosen = blocks[first * per_row : end * per_row]
    scales = np.ascontiguousarray(chosen[:, :head]).view(np.float16)
    chosen[:, :head] = (scales * np.float16(_by(edit))).view(np.uint8)


def _flipped_blocks(blocks: Bytes, edit: TensorEdit, _rows: int, head: int) -> None:
    first = edit.block or 0
    blocks[first : first + edit.count, head:] ^= 0xFF


def _shuffled_blocks(blocks: Bytes, edit: TensorEdit, _rows: int, _head: int) -> None:
    whole = len(blocks) // edit.count * edit.count
    size = blocks.shape[1]
    groups = blocks[:whole].reshape(-1, edit.count, size)
    blocks[:whole] = groups[:, ::-1].reshape(whole, size)


_BLOCK_CHANGES: dict[str, Callable[[Bytes, TensorEdit, int, int], Any]] = {
    "scale_blocks": _scaled_blocks,
    "flip_block": _flipped_blocks,
    "shuffle_blocks": _shuffled_blocks,
}
