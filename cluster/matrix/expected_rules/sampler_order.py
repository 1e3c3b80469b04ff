"""An engine applies the requested sampling parameters in an order of its own."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.sampler_defaults import PARAMETERS


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the sampler in its own order, where the request has several parameters."""
    case = asked.case
    if case is None or case.measure != "draws":
        return
    given = case.asked.model_dump(exclude_none=True, exclude={"logit_bias"})
    if set(given) <= set(PARAMETERS) and len(given) > 1:
        yield {**given, "order": asked.values["order"]}


RULE = Rule(("sampling",), outputs, ("order",))
