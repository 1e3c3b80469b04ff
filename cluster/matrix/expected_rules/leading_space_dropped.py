"""mlx-lm's detokenizer for byte-level BPE drops the space at the beginning of an answer."""

from collections.abc import Iterator

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.mlx_detokenizer import mlx_text


def outputs(asked: Asked) -> Iterator[str]:
    """Yield the text without its first space."""
    right = asked.golden.text
    if right is not None and right.startswith(" "):
        given = mlx_text(asked.texts, asked.script_ids or [])
        if given not in (None, right):
            yield given or ""


RULE = Rule(("detokenize",), outputs)
