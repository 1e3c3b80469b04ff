"""How a known fault is put into a model's files, an engine's options, its adapter or its server."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from cluster.matrix.injected_faults import AdapterFault, ProxyFault
from suites.mistakes import Mistake
from suites.suite import Frozen

#: What an edit of a tensor needs beside its name.
_OPERANDS: dict[str, tuple[str, ...]] = {
    "scale": ("by",),
    "add": ("by",),
    "noise": ("by",),
    "round": ("by",),
    "transpose": (),
    "permute_rows": (),
    "permute_columns": (),
    "shift_rows": ("by",),
    "unpermute": (),
    "swap_rows": ("rows",),
    "zero_block": (),
    "nan": ("by",),
    "copy": ("of",),
    "drop": (),
    "scale_blocks": ("by",),
    "flip_block": ("block",),
    "shuffle_blocks": (),
}


class TensorEdit(Frozen):
    """One change of the tensors whose names match."""

    name: str = Field(min_length=1)
    """Name as the format writes it; ``*`` and ``[ab]`` match as in file names."""
    op: Literal[
        "scale",
        "add",
        "noise",
        "round",
        "transpose",
        "permute_rows",
        "permute_columns",
        "shift_rows",
        "unpermute",
        "swap_rows",
        "zero_block",
        "nan",
        "copy",
        "drop",
        "scale_blocks",
        "flip_block",
        "shuffle_blocks",
    ]
    by: float | None = None
    """Strength: factor, summand, relative rms of noise, mantissa bits, number of elements."""
    seed: int = 0
    rows: tuple[int, int] | None = None
    """Two rows (swap_rows); else the first row, and the one after the last."""
    columns: tuple[int, int] | None = None
    """First column, and the one after the last."""
    of: str | None = None
    """The tensor whose values are copied."""
    block: int | None = Field(default=None, ge=0)
    """First quantised block."""
    count: int = Field(default=1, ge=1)
    """Number of blocks."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for key in _OPERANDS[self.op]:
            if getattr(self, key) is None:
                raise Mistake((), f"{self.op} needs {key!r}", fix=f"add `{key}:`").pydantic_error()
        if self.op == "shuffle_blocks" and self.count < 2:
            what = "shuffle_blocks reverses groups of blocks, and one block cannot be reversed"
            raise Mistake((), what, fix="add `count:`, 2 or more").pydantic_error()
        return self


class GgufInjection(Frozen):
    """A faulty copy of a GGUF file."""

    fields: dict[str, Any] = Field(default_factory=dict)
    """Metadata key → its new value."""
    without: tuple[str, ...] = ()
    """Metadata keys to remove."""
    template: tuple[str, str] | None = None
    """A part of the chat template and its replacement."""
    whole_template: str | None = None
    tensors: tuple[TensorEdit, ...] = ()


class HfInjection(Frozen):
    """A faulty copy of a model folder in Hugging Face's layout.

    Paths within a JSON file are dotted; numbers index lists.
    """

    template: tuple[str, str] | None = None
    whole_template: str | None = None
    edits: dict[str, dict[str, Any]] = Field(default_factory=dict, alias="json")
    """File → path → value."""
    without: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """File → paths to remove."""
    insert: dict[str, dict[str, tuple[int, Any]]] = Field(default_factory=dict)
    """File → path of a list → index and value to insert."""
    reverse: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """File → paths of lists to reverse."""
    tensors: tuple[TensorEdit, ...] = ()


class Injection(Frozen):
    """Where a fault is injected; nothing for some controls."""

    gguf: GgufInjection | None = None
    hf: HfInjection | None = None
    options: dict[str, Any] | None = None
    """Options of the engine."""
    wrap: AdapterFault | None = None
    proxy: ProxyFault | None = None

    @property
    def depth(self) -> str:
        """``gguf``, ``hf``, ``options``, ``wrap``, ``proxy``, or ``nothing``."""
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        return given[0] if given else "nothing"

    @model_validator(mode="after")
    def _has_one_depth(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) > 1:
            raise Mistake(
                (given[1],),
                f"one fault is injected at {len(given)} depths: {' and '.join(given)}",
                ", ".join(type(self).model_fields),
                "write one fault for each",
            ).pydantic_error()
        return self
