"""An engine applies the requested sampling parameters in an order of its own."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.sampler_defaults import PARAMETERS

#: Values that change nothing.
_NEUTRAL = {"temperature": 1, "top_p": 1, "min_p": 0}


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the sampler in its own order, where a share is cut and something else is changed."""
    case = asked.case
    if case is None or case.measure != "draws":
        return
    given = case.asked.model_dump(exclude_none=True, exclude={"logit_bias"})
    active = {name for name, value in given.items() if value != _NEUTRAL.get(name)}
    if set(given) <= set(PARAMETERS) and len(active) > 1 and active & {"top_p", "min_p"}:
        yield {**given, "order": asked.values["order"]}


RULE = Rule(("sampling",), outputs, ("order",))
