"""Digests of traces that were stored before are the digests of the same content now."""

import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from runner.engines.trace import ARRAYS, Trace
from runner.stored.references import SHIPPED_REFERENCES
from runner.trace_digest import trace_digest

_TEXTS = ("prompt_text", "prompt_ids", "output_ids", "text", "finish_reason")


def _trace(row: dict[str, Any]) -> Trace:
    arrays = {
        name: np.array(row[name], np.int32 if integers else np.float32)
        for name, (_, integers) in ARRAYS.items()
        if row[name] is not None
    }
    return Trace(
        row["stage"],
        row["case_id"],
        row["probe"],
        **{name: row[name] for name in _TEXTS},
        message=row["message"] and json.loads(row["message"]),
        value=row["value"] and json.loads(row["value"]),
        arrays=arrays,
    )


@pytest.mark.parametrize("path", sorted(SHIPPED_REFERENCES.glob("*.parquet")), ids=lambda p: p.stem)
def test_the_digest_of_a_stored_trace_is_that_of_its_content(path: Any) -> None:
    rows = pq.read_table(path).to_pylist()
    assert len(rows) > 3
    for row in rows:
        assert trace_digest(_trace(row)) == row["payload_digest"], row["case_id"]


def test_nothing_seen_has_no_digest() -> None:
    assert trace_digest(Trace("stop", "a", "isolate", error="it failed", seconds=1.0)) is None
