"""An expected failure of the matrix: a known difference that does not fail a cell."""

from typing import Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import Field, field_validator, model_validator

from suites.mistakes import Mistake
from suites.stages import Serving, Stage
from suites.suite import Frozen


class Expected(Frozen):
    """An expected failure: it does not fail a cell; its absence is an unexpected pass."""

    engine: str
    """Name of an entry, or an engine."""
    serving: Serving | None = None
    """The serving that has the difference; every serving by default."""
    versions: str | None = None
    """Version range such as ``>=0.3,<0.4``."""
    stage: Stage
    cases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    signature: str | dict[str, str] | None = None
    """Digest of the engine's output: one for all cases, or one for each case."""
    bound: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Largest effect that is expected, for numeric stages."""
    reason: str = Field(min_length=1)

    @field_validator("versions")
    @classmethod
    def _is_a_range(cls, value: str | None) -> str | None:
        try:
            SpecifierSet(value or "")
        except InvalidSpecifier:
            raise Mistake(
                (), f"{value!r} is not a range of versions", fix="write e.g. '>=0.3,<0.4'"
            ).pydantic_error() from None
        return value

    @model_validator(mode="after")
    def _says_what_is_expected(self) -> Self:
        if self.signature is None and self.bound is None:
            raise Mistake(
                (),
                "an expected failure without a signature would excuse every difference",
                "signature (digest of the engine's output), bound (largest effect)",
                "copy the signature that `fleetqual explain` prints",
            ).pydantic_error()
        return self
