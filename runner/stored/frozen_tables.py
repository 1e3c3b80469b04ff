"""The tables of a reference root: frozen traces and floors, each set known by a digest."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from runner.stored.tables import SCHEMA_VERSION, Float32, Int32, Json
from suites.digest import tagged_digest


class FloorRow(BaseModel):
    """How far one benign configuration of a trusted engine is from the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ADDED_LATER: ClassVar[tuple[str, ...]] = ("function_digest",)

    schema_version: Int32 = SCHEMA_VERSION
    floor_id: str
    """``f1:…`` over all configurations of this floor."""
    function_digest: str
    """``fn1:…``: the function whose floor this is."""
    weights_digest: str
    """The weights of that function."""
    tokenizer_digest: str
    suite: str
    compute_dtype: str
    backend: str
    probe: str
    """prefill or decode."""
    engine: str
    engine_version: str
    configuration: Json
    mean_kl: float
    max_kl: float
    positions: Int32
    flips: Int32
    """Positions where the most probable token differs."""
    max_flip_margin: float
    """Largest reference margin (nats) among those positions; 0 without a flip."""
    created: dt.datetime


class ReferenceRow(BaseModel):
    """A frozen trace taken as truth, with its provenance."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ADDED_LATER: ClassVar[tuple[str, ...]] = ("function_digest",)

    schema_version: Int32 = SCHEMA_VERSION
    reference_id: str
    """``r1:…`` over everything of one freeze."""
    function_digest: str
    """``fn1:…``: the function whose truth this is."""
    weights_digest: str
    """The weights of that function."""
    tokenizer_digest: str
    model: str
    variant: str
    suite: str
    engine: str
    engine_version: str
    compute_dtype: str
    created: dt.datetime
    case_id: str
    case_digest: str
    stage: str
    probe: str
    prompt_text: str | None = None
    prompt_ids: list[Int32] | None = None
    output_ids: list[Int32] | None = None
    logprobs: list[Float32] | None = None
    ref_topk_logprobs: list[list[Float32]] | None = None
    tail_logprob: list[Float32] | None = None
    top_ids: list[list[Int32]] | None = None
    text: str | None = None
    message: Json | None = None
    finish_reason: str | None = None
    value: Json | None = None
    payload_digest: str | None = None


#: Columns of a reference that are copied from the trace that it freezes.
FROZEN = (
    "case_id",
    "case_digest",
    "stage",
    "probe",
    "prompt_text",
    "prompt_ids",
    "output_ids",
    "logprobs",
    "ref_topk_logprobs",
    "tail_logprob",
    "top_ids",
    "text",
    "message",
    "finish_reason",
    "value",
    "payload_digest",
)
_MADE_BY = (
    "function_digest",
    "weights_digest",
    "tokenizer_digest",
    "suite",
    "engine",
    "engine_version",
    "compute_dtype",
)


def reference_id(rows: Sequence[Mapping[str, Any]]) -> str:
    """Digest what was frozen and what made it, in a fixed order of rows.

    The names of the model and its variant are left out: a new name makes no new truth.
    """
    ordered = sorted(rows, key=lambda r: (r["stage"], r["case_id"], r["probe"]))
    return tagged_digest("r1", [{n: _exact(r[n]) for n in (*_MADE_BY, *FROZEN)} for r in ordered])


def floor_id(rows: Sequence[Mapping[str, Any]]) -> str:
    """Digest all configurations of one floor, with everything but the time they were measured."""
    names = [name for name in FloorRow.model_fields if name not in ("floor_id", "created")]
    ordered = sorted(rows, key=lambda row: (str(row["configuration"]), str(row["probe"])))
    return tagged_digest("f1", [{name: row[name] for name in names} for row in ordered])


def _exact(value: Any) -> Any:
    """Return floats as the float32 bytes that are stored, in hex; other values as they are."""
    if not isinstance(value, list):
        return value
    if any(isinstance(v, list) for v in value):
        return [_exact(v) for v in value]
    if any(isinstance(v, float) for v in value):
        return np.asarray(value, "<f4").tobytes().hex()
    return value
