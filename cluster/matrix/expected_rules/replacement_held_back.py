"""vLLM holds back a U+FFFD as an incomplete character, and never returns it at the end."""

from collections.abc import Iterator

from cluster.matrix.expected_rules.asked import Asked, Rule

_REPLACEMENT = "\ufffd"


def outputs(asked: Asked) -> Iterator[str]:
    """Yield the text without the replacement characters at its end."""
    right = asked.golden.text
    if right is not None and right.endswith(_REPLACEMENT):
        yield right.rstrip(_REPLACEMENT)


RULE = Rule(("detokenize",), outputs)
