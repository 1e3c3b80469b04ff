"""An expected failure of the matrix: a known difference that does not fail a cell."""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import Field, field_validator, model_validator

from cluster.matrix.expected_rules.registry import RULES
from suites.mistakes import Mistake
from suites.stages import Serving, Stage
from suites.suite import Case, Frozen


class Expected(Frozen):
    """An expected failure: it does not fail a cell; its absence is an unexpected pass.

    A rule computes what the engine gives for every case, from the files of the model. A signature
    or a bound was measured, and holds only for the model that it was measured with.
    """

    engine: str
    """Name of an entry, or an engine."""
    serving: Serving | None = None
    """The serving that has the difference; every serving by default."""
    versions: str | None = None
    """Version range such as ``>=0.3,<0.4``."""
    stage: Stage
    cases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    rule: str | None = None
    """Name of the rule that computes what the engine gives: a file in ``expected_rules/``."""
    values: dict[str, Any] = Field(default_factory=dict)
    """Values for the rule, such as the sampling defaults of the engine."""
    signature: str | dict[str, str] | None = None
    """Digest of the engine's output: one for all cases, or one for each case."""
    bound: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Largest effect that is expected, for numeric stages."""
    written_for: str | None = None
    """The model with which signatures or a bound were measured, as in ``golden_for`` of a suite;
    every model of the matrix by default."""
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

    @field_validator("rule")
    @classmethod
    def _is_a_rule(cls, value: str | None) -> str | None:
        if value is not None and value not in RULES:
            raise Mistake.unknown((), "rule", value, tuple(RULES)).pydantic_error()
        return value

    @model_validator(mode="after")
    def _says_what_is_expected(self) -> Self:
        mistake = self._without_output() if self.rule is None else self._misused_rule(self.rule)
        if mistake is not None:
            raise mistake.pydantic_error()
        return self

    def _without_output(self) -> Mistake | None:
        if self.values:
            return Mistake(
                ("values",), "values without a rule have no effect", ", ".join(RULES), "add `rule:`"
            )
        if self.signature is None and self.bound is None:
            return Mistake(
                (),
                "an expected failure without a signature would excuse every difference",
                "rule (computes the output), signature (digest of the engine's output), "
                "bound (largest effect)",
                "copy the signature that `fleetqual explain` prints",
            )
        return None

    def _misused_rule(self, name: str) -> Mistake | None:
        rule = RULES[name]
        for key in ("signature", "bound", "written_for"):
            if getattr(self, key) is not None:
                what = f"a rule computes the output, so {key} has no effect"
                return Mistake((key,), what, fix=f"remove rule: or {key}:")
        if self.stage not in rule.stages:
            return Mistake.unknown(("stage",), f"stage of the rule {name}", self.stage, rule.stages)
        for key in self.values:
            if key not in rule.values:
                kind = f"value of the rule {name}"
                return Mistake.unknown(("values", key), kind, key, rule.values)
        return None

    def covers(self, case: Case) -> bool:
        """Whether an entry's keys about cases all hold for a case; SQL decides in the same way."""
        return (
            case.stage == self.stage
            and (not self.cases or any(fnmatchcase(case.id, p) for p in self.cases))
            and (not self.tags or bool(set(self.tags) & set(case.tags)))
        )


def fits_any(pattern: str, ids: Collection[str]) -> bool:
    """Whether an id matches the pattern; the analysis matches in the same way (SQL's GLOB)."""
    return any(fnmatchcase(case_id, pattern) for case_id in ids)
