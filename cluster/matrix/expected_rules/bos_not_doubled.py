"""mlx-lm adds no BOS to raw text that already begins with one."""

from collections.abc import Iterator

from cluster.matrix.expected_rules.asked import Asked, Rule


def outputs(asked: Asked) -> Iterator[list[int]]:
    """Yield the ids of the text alone."""
    case, texts = asked.case, asked.texts
    if case is None or case.text is None or not texts.bos_text:
        return
    right = asked.golden.prompt_ids or texts.ids(case.text, add_special=True)
    given = texts.ids(case.text, add_special=False)
    if case.text.startswith(texts.bos_text) and given != list(right):
        yield given


RULE = Rule(("tokenize",), outputs)
