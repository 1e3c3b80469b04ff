"""A repetition penalty counts the tokens of the answer only, not those of the prompt."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.sampler_defaults import PARAMETERS

#: The name of this definition in the relation ``numeric.greedy_tokens``.
_OVER_ANSWER = "over the answer only"


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the sampler of a greedy answer, or of a first token, which then meets no penalty."""
    case = asked.case
    if case is None or case.asked.repetition_penalty in (None, 1):
        return
    given = case.asked.model_dump(exclude_none=True, exclude={"logit_bias", "repetition_penalty"})
    if not set(given) <= set(PARAMETERS):
        return
    if case.measure == "greedy":
        yield {"penalty": _OVER_ANSWER}
    elif case.measure == "draws":
        yield given


RULE = Rule(("sampling",), outputs)
