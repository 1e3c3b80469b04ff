"""Hand-made traces: what an engine brings that agrees with the truth everywhere."""

import json
from dataclasses import dataclass
from typing import Any

from runner.stored.tables import (
    TraceRow,
)
from suites.digest import tagged_digest
from tests.analysis.handmade_truth import (
    CASES,
    FACTS,
    LOGITS,
    aligned_answer,
    chain_answer,
    digest_of,
    distribution,
    stage_of,
    true_ids,
    true_logits,
)


@dataclass
class Trace:
    """One trace as its columns; ``payload_digest`` follows from them unless it is given."""

    columns: dict[str, Any]

    @property
    def payload_digest(self) -> str | None:
        """The digest of what was seen; None where nothing was."""
        seen = {
            k: v
            for k, v in self.columns.items()
            if k not in ("case_id", "case_digest", "tags", "stage", "probe", "observed", "error")
        }
        return "p1:" + tagged_digest("x", repr(sorted(seen.items())))[2:] if seen else None

    def row(self, keys: dict[str, Any]) -> TraceRow:
        return TraceRow(**{"payload_digest": self.payload_digest, **keys, **self.columns})


def clean_traces() -> list[Trace]:
    """What an engine brings that agrees with the truth everywhere."""
    rows: list[dict[str, Any]] = []
    for fact, value in FACTS.items():
        body = json.dumps({"seen": value, "model": value})
        rows.append(_row(f"config/{fact}", "config", "fact", value=body))
    for tensor in ("embed.weight", "layers.0.q_proj.weight"):
        facts = {
            "type": "F32",
            "seen_shape": [8, 8],
            "model_shape": [8, 8],
            "nonfinite": 0,
            "mismatched": 0,
            "relative_rmse": 0.0,
            "scale": 1.0,
            "max_abs": 0.0,
        }
        rows.append(_row(f"weights/{tensor}", "weights", "tensor", value=json.dumps(facts)))
    for case_id, case in CASES.items():
        rows += _case_rows(case_id, case)
    for case_id in LOGITS[:2]:
        for probe in ("first", "again", "reordered", "uncached"):
            value = json.dumps({"mass_error": 1e-7, "nonfinite": 0})
            numbers = distribution(true_logits(case_id), true_ids(case_id))
            rows.append(_row(case_id, "instrument", probe, value=value, **numbers))
        rows.append(_row(case_id, "instrument", "aligned", **aligned_answer(case_id)))
    for stage in ("state", "sampling"):
        error = "not probed yet"
        rows.append(
            {
                "case_id": "*",
                "stage": stage,
                "probe": "none",
                "observed": "not_probed",
                "error": error,
            }
        )
    return [Trace(row) for row in rows]


def _case_rows(case_id: str, case: dict[str, Any]) -> list[dict[str, Any]]:
    stage = stage_of(case_id)
    if stage == "template":
        return [_row(case_id, stage, "isolate", prompt_text=case["golden_prompt_text"])]
    if stage == "tokenize":
        return [_row(case_id, stage, "isolate", prompt_ids=case["golden_prompt_ids"])]
    if stage == "logits":
        numbers = distribution(true_logits(case_id), true_ids(case_id))
        value = json.dumps({"start": 0, "nonfinite": 0})
        return [
            _row(case_id, stage, probe, prompt_ids=[1, 2, 3], value=value, **numbers)
            for probe in ("prefill", "decode")
        ]
    if stage == "stop":
        columns = {"text": case["golden_text"], "finish_reason": case["golden_finish_reason"]}
        return [_row(case_id, stage, "isolate", **columns)]
    if stage == "detokenize":
        return [_row(case_id, stage, p, text=case["golden_text"]) for p in ("whole", "stream")]
    if stage == "parse":
        message = json.dumps(
            {
                "content": "",
                "reasoning_content": "",
                "tool_calls": [{"name": "f", "arguments": '{"b": 1, "a": 2}'}],
            }
        )
        columns = {"message": message, "text": "raw", "finish_reason": "stop"}
        return [_row(case_id, stage, probe, **columns) for probe in ("isolate", "stream")]
    answer = chain_answer(case_id)
    streamed = _row(case_id, "chain", "stream", text=answer["text"])
    return [_row(case_id, "chain", "whole", **answer), streamed]


def _row(case_id: str, stage: str, probe: str, **columns: Any) -> dict[str, Any]:
    row = {"case_id": case_id, "stage": stage, "probe": probe, "observed": "path", **columns}
    if case_id in CASES:
        row |= {"case_digest": digest_of(case_id), "tags": CASES[case_id].get("tags", [])}
    return row
