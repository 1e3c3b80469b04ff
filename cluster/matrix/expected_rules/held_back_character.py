"""While a character may be incomplete, llama-cpp-python looks at no limit and no stop string.

At the end of a stream it loses what it still held back.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.end_tokens import named_ends
from cluster.matrix.expected_rules.llama_cpp_loop import loop_of


def outputs(asked: Asked) -> Iterator[Any]:
    """Yield the ending, or the streamed text, where holding back changes it."""
    for ends in named_ends(asked.texts):
        loop = loop_of(asked, ends)
        if loop is None or asked.case is None:
            return
        if asked.case.stage == "detokenize":
            streamed, whole = loop.answer(stream=True), loop.answer(stream=False)
            if streamed is not None and whole is not None and streamed[0] != whole[0]:
                yield streamed[0]
            continue
        given = loop.answer(stream=False)
        other = replace(loop, holds_back=False)
        if given is not None and given != other.answer(stream=False):
            yield asked.ending(*given)


RULE = Rule(("stop", "detokenize"), outputs)
