"""Stop handling, detokenizer and parser on an output that is forced through the engine's loop."""

from collections.abc import Iterator

from runner.engines.orders import CaseInput
from runner.engines.probes.subject import Subject, request, script_value
from runner.engines.trace import Trace
from runner.stored.canonical import canonical_message


def stop(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Keep where generation ended, and why."""
    reply = subject.adapter.chat(request(case))
    yield Trace(
        "stop",
        case.id,
        "isolate",
        output_ids=reply.output_ids,
        text=reply.text,
        finish_reason=reply.finish_reason,
        value=script_value(case),
    )


def detokenize(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Keep the text, at once and as a stream."""
    for probe in ("whole", "stream"):
        reply = subject.adapter.chat(request(case, stream=probe == "stream"))
        yield Trace(
            "detokenize",
            case.id,
            probe,
            output_ids=reply.output_ids,
            text=reply.text,
            value=script_value(case),
        )


def parse(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Keep the message that the text was parsed to, at once and joined from a stream."""
    for probe in ("isolate", "stream"):
        reply = subject.adapter.chat(request(case, stream=probe == "stream"))
        yield Trace(
            "parse",
            case.id,
            probe,
            text=reply.text,
            message=None if reply.message is None else canonical_message(reply.message),
            finish_reason=reply.finish_reason,
            value=script_value(case),
        )
