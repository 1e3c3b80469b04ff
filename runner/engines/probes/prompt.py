"""Messages to prompt text, and prompt text to ids: each is asked with the truth's own input."""

import contextlib
from collections.abc import Iterator

from runner.engines.abilities import template_of, tokenizer_of, vocabulary_of
from runner.engines.base import Unseen
from runner.engines.orders import CaseInput
from runner.engines.probes.subject import Subject, request
from runner.engines.trace import Trace


def template(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Render the case's messages and tools."""
    text = template_of(subject.adapter).render(request(case))
    yield Trace("template", case.id, "isolate", prompt_text=text)


def tokenize(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Encode raw text, or the truth's rendered prompt, and decode it again."""
    if case.text is None:
        text = case.truth.rendered
        ids = tokenizer_of(subject.adapter).encode_chat(text)
    else:
        text = case.text
        ids = tokenizer_of(subject.adapter).encode_text(text)
    value = {"text": text}
    with contextlib.suppress(Unseen):
        value["round_trip"] = vocabulary_of(subject.adapter).text_of(ids)
    yield Trace("tokenize", case.id, "isolate", prompt_ids=ids, value=value)
