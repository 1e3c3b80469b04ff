"""mlx-lm sets enable_thinking where the request does not: true if the vocabulary can think."""

from collections.abc import Iterator

from cluster.matrix.expected_rules.asked import Asked, Rule

_OPTION = "enable_thinking"
#: Pairs of tokens between which models think, as mlx-lm knows them.
_PAIRS = (
    ("<think>", "</think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|channel>", "<channel|>"),
)


def outputs(asked: Asked) -> Iterator[str]:
    """Yield the prompt with the option that the request does not set."""
    case = asked.case
    if case is None or _OPTION in case.template_options:
        return
    thinks = any(all(name in asked.texts.vocabulary for name in pair) for pair in _PAIRS)
    options = {**case.template_options, _OPTION: thinks}
    given = asked.texts.rendered(case.messages or (), case.tools, options)
    if given is not None and given != asked.golden.prompt_text:
        yield given


RULE = Rule(("template",), outputs)
