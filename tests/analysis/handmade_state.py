"""Hand-made evidence of the ``state`` stage: an answer alone, and the same one among others."""

import json
from typing import Any

import numpy as np

from tests.analysis.handmade import Attempt, Bench
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import digest_of, distribution, true_logits

ANSWER = [28, 29, 30, 31]
IDS = [*range(100, 177), *ANSWER]
"""The sequence of every scenario, [81]; its last id is predicted by row 79."""
POSITIONS = len(IDS) - 1
FORMS: dict[str, list[dict[str, Any]]] = {
    "batched": [{"size": 2, "row": 0}, {"size": 2, "row": 1}, {"size": 1, "row": 0}],
    "chunked": [{"size": 16}, {"size": 64}],
    "prefix": [{"cached": 48, "start": 48}],
    "reused": [{}, {}],
    "concurrent": [{"size": 2}, {"size": 3}],
}
CANARIES = ("heron-11", "otter-22", "lynx-33")


def scenario(kind: str, **more: Any) -> dict[str, Any]:
    """Return what a case of this kind asks."""
    sizes = {"batched": [2, 1], "chunked": [16, 64], "concurrent": [2, 3]}.get(kind, [])
    beside = [] if kind == "chunked" else [[{"role": "user", "content": "a"}]] * 2
    return {"scenario": {"kind": kind, "sizes": sizes, "beside": beside, "canaries": [], **more}}


def plan_state(bench: Bench, *kinds: str) -> None:
    """Plan a case for each kind, and let every attempt bring what agrees with being alone."""
    for kind in kinds:
        secret = {"canaries": CANARIES} if kind == "concurrent" else {}
        bench.more_cases[f"state/{kind}"] = scenario(kind, **secret)
    for cell in bench.cells:
        for attempt in cell.attempts:
            attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "state"]
            for kind in kinds:
                attempt.traces += clean_state(kind)


def clean_state(kind: str) -> list[Trace]:
    """Return the traces of one scenario in which nothing goes wrong."""
    case_id = f"state/{kind}"
    logits = alone_logits(kind)
    alone = {
        "prompt_ids": IDS,
        "output_ids": ANSWER,
        "value": json.dumps({"start": 0, "nonfinite": 0}),
        **distribution(logits),
    }
    if kind == "concurrent":
        alone["text"] = f"I keep {CANARIES[0]}"
        others = [[[1], f"I keep {secret}"] for secret in CANARIES[1:]]
        forms = [
            {
                "prompt_ids": IDS[: -len(ANSWER)],
                "output_ids": ANSWER,
                "text": alone["text"],
                "value": json.dumps({**form, "row": 0, "others": others}),
            }
            for form in FORMS[kind]
        ]
    else:
        forms = [among(kind, i, logits) for i in range(len(FORMS[kind]))]
    rows = [("alone", 0, alone), *((kind, i, form) for i, form in enumerate(forms))]
    return [Trace(_row(case_id, probe, repeat, columns)) for probe, repeat, columns in rows]


def alone_logits(kind: str, lead: float = 9.0) -> np.ndarray:
    """Return [80, V] logits; at the end the answer leads, its second token id 5 by ``lead``."""
    logits = true_logits(f"state/{kind}", POSITIONS)
    logits[-len(ANSWER) :, ANSWER] += 30 * np.eye(len(ANSWER))
    logits[-3, 5] = logits[-3, ANSWER[1]] - lead
    return logits


def among(kind: str, repeat: int, logits: np.ndarray, **value: Any) -> dict[str, Any]:
    """Return what one form of a scenario brings for ``logits`` [80, V]."""
    form = {"size": None, "row": None, "cached": None, "start": 0, **FORMS[kind][repeat], **value}
    start = form["start"]
    at = np.array(distribution(alone_logits(kind))["top_ids"])
    numbers = distribution(logits[start:], at[start:])
    body = json.dumps({"nonfinite": 0, **form})
    return {"prompt_ids": IDS, "output_ids": ANSWER, "value": body, **numbers}


def change(attempt: Attempt, kind: str, repeat: int, **columns: Any) -> None:
    """Change one form of a scenario."""
    for trace in attempt.find("state", f"state/{kind}", kind):
        if trace.columns["repeat"] == repeat:
            trace.columns |= columns


def _row(case_id: str, probe: str, repeat: int, columns: dict[str, Any]) -> dict[str, Any]:
    return {
        "case_id": case_id,
        "case_digest": digest_of(case_id),
        "stage": "state",
        "probe": probe,
        "repeat": repeat,
        "observed": "path",
        **columns,
    }
