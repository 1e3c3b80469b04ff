"""What a user gets of an engine without a parser: the raw text, as content."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked
from cluster.matrix.expected_rules.end_tokens import named_ends
from cluster.matrix.expected_rules.llama_cpp_loop import loop_of
from runner.stored.canonical import canonical_message


def raw_parse(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the whole and the streamed answer of llama-cpp-python to a forced output."""
    for ends in named_ends(asked.texts):
        loop = loop_of(asked, ends)
        for stream in (False, True):
            given = None if loop is None else loop.answer(stream=stream)
            if given is not None:
                yield asked.parsed({"content": given[0]}, given[1])


def raw_chain(text: str) -> dict[str, Any]:
    """Return the answer of a server that hides its tokens and returns this text unparsed."""
    return {
        "prompt_ids": None,
        "prompt_tokens": None,
        "output_ids": None,
        "output_tokens": None,
        "text": None,
        "finish_reason": "stop",
        "message": canonical_message({"content": text}),
    }
