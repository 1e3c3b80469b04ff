"""Content in parts reaches the template as a list; one that expects text prints the list."""

from collections.abc import Iterator

from cluster.matrix.expected_rules.asked import Asked, Rule


def outputs(asked: Asked) -> Iterator[str | None]:
    """Yield the prompt that the template makes of the list."""
    case = asked.case
    if case is None or not any(isinstance(m.get("content"), list) for m in case.messages or ()):
        return
    given = asked.texts.rendered(case.messages or (), case.tools, case.template_options)
    if given not in (None, asked.golden.prompt_text):
        yield given


RULE = Rule(("template",), outputs)
