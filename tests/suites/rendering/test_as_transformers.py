"""Templates are rendered as transformers renders them, byte for byte, or refused as it refuses."""

from pathlib import Path
from typing import Any

import pytest

from suites.derive.conversations import (
    Shape,
    assistant,
    plain_shapes,
    reasoning_shapes,
    tool_shapes,
    user,
)
from tests.suites.rendering.as_transformers import (
    Question,
    difference,
    own_answers,
    transformers_answers,
)

#: What published templates use, one feature each.
FEATURES = {
    "generation": "{% for m in messages %}{% generation %}{{ m }}\n{% endgeneration %}{% endfor %}",
    "scope": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "clock": "{{ strftime_now('%d %B %Y, %H:%M') }}",
    "loops": "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m }}{% endfor %}",
    "blocks": "{% if true %}\n  {%- set a = 1 %}\n  {{ a }}\n{% endif %}\n   {# note #}\nend\n",
    "tojson": "{{ {'b': 'é<&>', 'a': [1, 2.5, none, true]} | tojson }}",
    "tojson-more": "{{ {'b': 'é', 'a': 1} | tojson(ensure_ascii=true, indent=2, sort_keys=true) }}",
    "separators": "{{ {'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':')) }}",
    "raise": "{% if messages[0].role != 'tool' %}{{ raise_exception('only tools') }}{% endif %}",
    "undefined": "{{ messages[0].name }}|{{ nothing }}|{{ tools.x }}",
    "undefined-twice": "{{ messages[0].name.first }}",
    "tests": "{{ tools is none }}{{ documents is defined }}{{ messages is sequence }}",
    "namespace": "{% set n = namespace(x=0) %}{% if 1 %}{% set n.x = 2 %}{% endif %}{{ n.x }}",
    "slices": "{{ messages[1:] | length }}{{ messages[::-1][0].role }}",
    "strings": "{{ '  a b '.strip().split(' ') }}{{ 'abc'[-2:] }}{{ 'x' ~ 1 ~ none }}",
    "macros": "{%- macro m(x, y=2) -%}\n {{ x }}{{ y }}\n{%- endmacro -%}{{ m(1) }}{{ m(3, y=4) }}",
    "specials": "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}",
    "unsafe": "{{ messages.__class__ }}",
    "immutable": "{% set _ = messages.pop() %}{{ messages | length }}",
    "filters": "{{ [3, 1] | sort | join(',') }}{{ messages | map(attribute='role') | list }}",
    "syntax": "{% for m in messages %}{{ m.content }}",
    "html": "{{ '<b>' | e }}{{ '<b>' | safe }}",
}  # fmt: skip


def _variables(shape: Shape) -> dict[str, Any]:
    return {
        "messages": list(shape.messages),
        "tools": list(shape.tools) or None,
        "documents": None,
        "add_generation_prompt": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
        **shape.options,
    }


def _all_same(questions: list[Question], names: list[str]) -> dict[str, str]:
    """Return how each question is answered otherwise than by transformers."""
    pairs = zip(names, own_answers(questions), transformers_answers(questions), strict=True)
    return {name: found for name, own, other in pairs if (found := difference(own, other))}


def test_every_feature_of_templates_is_rendered_as_transformers_renders_it() -> None:
    shape = Shape("two", (user("Hé"), assistant("a"), user("b")))
    questions = [(source, _variables(shape)) for source in FEATURES.values()]
    assert _all_same(questions, list(FEATURES)) == {}


@pytest.mark.real
def test_published_templates_are_rendered_as_transformers_renders_them(
    published_templates: Path,
) -> None:
    shapes = [*plain_shapes(), *tool_shapes(), *reasoning_shapes("reasoning_content")]
    chosen = {"system-and-user", "late-system", "whitespace", "call-after-text", "parallel-calls"}
    asked = [s for s in shapes if s.name in {*chosen, "reasoning-and-call"}]
    files = sorted(published_templates.glob("*.jinja"))
    assert len(files) == 786
    assert len(asked) == 6
    questions, names = [], []
    for file in files:
        for shape in asked:
            questions.append((file.read_text(encoding="utf-8"), _variables(shape)))
            names.append(f"{file.name} · {shape.name}")
    assert _all_same(questions, names) == {}
