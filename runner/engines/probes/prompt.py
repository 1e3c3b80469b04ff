"""Messages to prompt text, and prompt text to ids: each is asked with the truth's own input."""

import contextlib
from collections.abc import Iterator

from runner.engines.base import Unseen
from runner.engines.probed import CaseInput, Probed
from runner.engines.probes.subject import Subject, request


def template(subject: Subject, case: CaseInput) -> Iterator[Probed]:
    """Render the case's messages and tools."""
    text = subject.adapter.render(request(case))
    yield Probed("template", case["id"], "isolate", prompt_text=text)


def tokenize(subject: Subject, case: CaseInput) -> Iterator[Probed]:
    """Encode raw text, or the truth's rendered prompt, and decode it again."""
    text = case.get("text")
    if text is None:
        text = case["truth"]["prompt_text"]
        ids = subject.adapter.encode_chat(text)
    else:
        ids = subject.adapter.encode_text(text)
    value = {"text": text}
    with contextlib.suppress(Unseen):
        value["round_trip"] = subject.adapter.decode_ids(ids)
    yield Probed("tokenize", case["id"], "isolate", prompt_ids=ids, value=value)
