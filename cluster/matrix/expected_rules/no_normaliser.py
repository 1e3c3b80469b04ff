"""llama.cpp has no Unicode normaliser: it encodes the text as it came."""

from collections.abc import Iterator

from cluster.matrix.expected_rules.asked import Asked, Rule


def outputs(asked: Asked) -> Iterator[list[int]]:
    """Yield the ids of the text that was not normalised."""
    case, texts = asked.case, asked.texts
    if case is None:
        return
    if case.text is not None:
        text, add_special = case.text, True
    else:
        rendered = texts.rendered(case.messages or (), case.tools, case.template_options)
        text, add_special = asked.golden.prompt_text or rendered or "", False
    right = asked.golden.prompt_ids or texts.ids(text, add_special=add_special)
    raw = texts.raw_ids(text, add_special=add_special)
    if raw != list(right):
        yield raw


RULE = Rule(("tokenize",), outputs)
