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
    """Two rows (swap_rows), else first row and the one after the last."""
    columns: tuple[int, int] | None = None
    """First column and the one after the last."""
    of: str | None = None
    """The tensor whose values are taken."""
    block: int | None = Field(default=None, ge=0)
    """First quantised block."""
    count: int = Field(default=1, ge=1)
    """Number of blocks."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for key in _OPERANDS[self.op]:
            if getattr(self, key) is None:
                raise Mistake((), f"{self.op} needs {key!r}", fix=f"add `{key}:`").raised()
        if self.op == "shuffle_blocks" and self.count < 2:
            what = "shuffle_blocks reverses groups of blocks, and one block has no order"
            raise Mistake((), what, fix="add `count:`, 2 or more").raised()
        return self


class GgufInjection(Frozen):
    """A faulty copy of a GGUF file."""

    fields: dict[str, Any] = Field(default_factory=dict)
    """Metadata key → its value there."""
    without: tuple[str, ...] = ()
    """Metadata keys that are left out."""
    template: tuple[str, str] | None = None
    """A piece of the chat template and what stands in its place."""
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
    """File → paths that are left out."""
    insert: dict[str, dict[str, tuple[int, Any]]] = Field(default_factory=dict)
    """File → path of a list → index and value."""
    reverse: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """File → paths of lists that are turned round."""
    tensors: tuple[TensorEdit, ...] = ()


class Injection(Frozen):
    """Where the fault is put; nothing at all for a control."""

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
                f"injected at {len(given)} depths: {' and '.join(given)}",
                ", ".join(type(self).model_fields),
                "make it one fault for each",
            ).raised()
        return self
