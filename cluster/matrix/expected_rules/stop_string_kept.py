"""transformers ends at a stop string, but leaves it and the rest of its token in the text."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the text up to the token that completes a stop string."""
    case, ids, texts = asked.case, asked.script_ids, asked.texts
    if case is None or ids is None:
        return
    made = b""
    for count, token in enumerate(ids[: case.max_tokens], start=1):
        if token in texts.eos_ids:
            return
        made += texts.bytes_of(token)
        if any(stop.encode() in made for stop in case.stop):
            given = asked.ending(texts.visible(ids[:count]), "stop")
            if given["text"] != asked.golden.text:
                yield given
            return


RULE = Rule(("stop",), outputs)
