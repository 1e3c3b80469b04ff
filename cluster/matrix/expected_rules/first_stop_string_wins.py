"""With several stop strings, llama-cpp-python cuts at the first in the list, not the earliest."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.end_tokens import named_ends
from cluster.matrix.expected_rules.llama_cpp_loop import loop_of


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the ending at the first string of the list where another one comes earlier."""
    for ends in named_ends(asked.texts):
        loop = loop_of(asked, ends)
        if loop is None:
            return
        given = loop.answer(stream=False)
        other = replace(loop, first_listed=False)
        if given is not None and given != other.answer(stream=False):
            yield asked.ending(*given)


RULE = Rule(("stop",), outputs)
