"""mlx-lm's streaming detokenizer, which makes all of its text, leaves control tokens in it."""

from collections.abc import Iterator

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.mlx_detokenizer import mlx_text


def outputs(asked: Asked) -> Iterator[str]:
    """Yield the text with its control tokens."""
    ids, texts = asked.script_ids or [], asked.texts
    shown = ids[: next((i for i, t in enumerate(ids) if t in texts.eos_ids), len(ids))]
    given = mlx_text(texts, ids)
    if given not in (None, asked.golden.text) and texts.specials & set(shown):
        yield given or ""


RULE = Rule(("detokenize",), outputs)
