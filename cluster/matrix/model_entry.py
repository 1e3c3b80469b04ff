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

    @model_validator(mode="after")
    def _has_one_artifact(self) -> Self:
        if (self.gguf is None) == (self.hf is None):
            both = self.gguf is not None
            raise Mistake(
                ("hf",) if both else (),
                f"variant {self.name!r} names {'both' if both else 'neither'} of gguf and hf",
                "gguf (a file), hf (a folder)",
                "give exactly one",
            ).pydantic_error()
        return self


class ModelEntry(Frozen):
    """One model and the variants in which it is served."""

    name: str = Field(pattern=NAME)
    hf: str
    """Folder with config.json, tokenizer and safetensors, relative to the matrix."""
    variants: tuple[VariantEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        refuse_duplicates("variant", "variants", [v.name for v in self.variants])
        return self
