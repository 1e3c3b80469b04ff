"""llama.cpp ends an answer also at tokens whose name looks like an end, whatever the model says."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.end_tokens import named_ends
from cluster.matrix.expected_rules.llama_cpp_loop import loop_of


def outputs(asked: Asked) -> Iterator[Any]:
    """Yield the set of end tokens, or the earlier end of a forced output."""
    own = asked.texts.eos_ids
    for ends in named_ends(asked.texts):
        if asked.case is None:
            if asked.fact == "eos_ids" and ends != own:
                yield sorted(ends)
            continue
        loop, other = loop_of(asked, ends), loop_of(asked, own)
        for stream in (False, True):
            given = None if loop is None else loop.answer(stream=stream)
            right = None if other is None else other.answer(stream=stream)
            if given is None or given == right:
                continue
            if asked.case.stage == "stop":
                yield asked.ending(*given)
            elif asked.case.stage == "detokenize":
                yield given[0]
            else:
                yield asked.parsed({"content": given[0]}, given[1])


RULE = Rule(("config", "stop", "detokenize", "parse"), outputs)
