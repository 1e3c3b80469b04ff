"""An engine applies its own sampling defaults, although the request did not ask for them."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule

PARAMETERS = ("temperature", "top_k", "top_p", "min_p")


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the sampler: the defaults, and what the request asks for instead of them."""
    case, defaults = asked.case, dict(asked.values)
    if case is None or case.measure != "draws":
        return
    order = defaults.pop("order", None)
    given = case.asked.model_dump(exclude_none=True, exclude={"logit_bias"})
    if set(given) <= set(PARAMETERS) and set(defaults) - set(given):
        yield {**defaults, **given, **({"order": order} if order else {})}


RULE = Rule(("sampling",), outputs, (*PARAMETERS, "order"))
