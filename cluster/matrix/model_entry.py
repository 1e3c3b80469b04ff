"""A model of the matrix and the variants in which it is served."""

from typing import Self

from pydantic import Field, model_validator

from cluster.matrix.entry_checks import NAME, refuse_duplicates
from suites.mistakes import Mistake
from suites.suite import Frozen


class VariantEntry(Frozen):
    """One artifact of a model: a GGUF file or a Hugging Face folder."""

    name: str = Field(pattern=NAME)
    gguf: str | None = None
    """Path of a GGUF file, relative to the matrix."""
    hf: str | None = None
    """Path of a folder, relative to the matrix."""
    margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """δ of the deployed pass: the largest mean KL that counts as equal."""

    @property
    def format(self) -> str:
        """``gguf`` or ``hf``."""
        return "hf" if self.gguf is None else "gguf"

    @model_validator(mode="after")
    def _has_one_artifact(self) -> Self:
        _refuse_both_or_neither(f"variant {self.name!r}", self.gguf, self.hf)
        return self


class ModelEntry(Frozen):
    """One model and the variants in which it is served."""

    name: str = Field(pattern=NAME)
    hf: str | None = None
    """Folder with config.json, tokenizer and safetensors, relative to the matrix."""
    gguf: str | None = None
    """A GGUF file that is taken as the model itself, where there is no folder."""
    variants: tuple[VariantEntry, ...] = ()
    """With ``gguf`` there may be none: the file itself is served, named by its type."""

    @property
    def format(self) -> str:
        """``gguf`` or ``hf``."""
        return "hf" if self.gguf is None else "gguf"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        _refuse_both_or_neither(f"model {self.name!r}", self.gguf, self.hf)
        if self.hf is not None and not self.variants:
            raise Mistake(
                ("variants",) if "variants" in self.model_fields_set else (),
                f"'variants' of model {self.name!r} is missing or empty: nothing would be served",
                fix="add e.g. `variants: [{name: f32, hf: …}]` with the folder or a GGUF of it",
            ).pydantic_error()
        refuse_duplicates("variant", "variants", [v.name for v in self.variants])
        return self


def _refuse_both_or_neither(what: str, gguf: str | None, hf: str | None) -> None:
    if (gguf is None) == (hf is None):
        both = gguf is not None
        raise Mistake(
            ("hf",) if both else (),
            f"{what} names {'both' if both else 'neither'} of gguf and hf",
            "gguf (a file), hf (a folder)",
            "give exactly one",
        ).pydantic_error()
