"""What the truth of a case is: a rule whose output is the truth declares nothing."""

import json
from typing import Any

from cluster.matrix.expected_rules.asked import Asked
from runner.stored.canonical import canonical_message


def right_outputs(asked: Asked) -> list[Any]:
    """Return the right outputs of a case in the compared form, one for each probe and reference.

    The golden answer wins, then the reference's; empty where neither is known.
    """
    case, golden = asked.case, asked.golden
    if case is None:
        return []
    stage = case.stage
    if stage == "template" and golden.prompt_text is not None:
        return [golden.prompt_text]
    if stage == "tokenize" and golden.prompt_ids is not None:
        return [list(golden.prompt_ids)]
    if stage == "detokenize" and golden.text is not None:
        return [golden.text]
    if stage == "stop" and (golden.text is not None or golden.finish_reason is not None):
        return [{"text": golden.text, "finish_reason": golden.finish_reason}]
    if stage == "parse" and golden.message is not None:
        return [{"message": asked.right_message, "finish_reason": golden.finish_reason}]
    probes = {"detokenize": ("whole", "stream"), "parse": ("isolate", "stream")}
    traces = [t for p in probes.get(stage, ("isolate",)) for t in asked.frozen(stage, p)]
    return [_frozen(stage, trace) for trace in traces]


def _frozen(stage: str, trace: dict[str, Any]) -> Any:
    if stage == "template":
        return trace["prompt_text"]
    if stage == "tokenize":
        return list(trace["prompt_ids"] or ())
    if stage == "detokenize":
        return trace["text"]
    if stage == "stop":
        return {"text": trace["text"], "finish_reason": trace["finish_reason"]}
    message = json.loads(trace["message"] or "{}")
    return {"message": canonical_message(message), "finish_reason": trace["finish_reason"]}
