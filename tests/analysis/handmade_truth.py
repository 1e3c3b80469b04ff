"""What is right in the hand-made run: its cases, facts and numbers."""

import json
from typing import Any

import numpy as np

from suites.digest import tagged_digest

LOGITS = tuple(f"logits/l{i}" for i in range(6))
POSITIONS, TOP_K, VOCABULARY = 12, 4, 32

CASES: dict[str, dict[str, Any]] = {
    "template/plain": {"golden_prompt_text": "<s>user: hi</s>"},
    "template/system": {"golden_prompt_text": "<s>system: be kind</s>", "tags": ["system"]},
    "tokenize/ascii": {"golden_prompt_ids": [1, 5, 6]},
    "tokenize/nfd": {"golden_prompt_ids": [1, 7, 8], "tags": ["nfd"]},
    **{case: {"tags": ["short" if i < 3 else "long"]} for i, case in enumerate(LOGITS)},
    "stop/eos": {"golden_text": "done", "golden_finish_reason": "stop"},
    "detokenize/emoji": {"golden_text": "ok 🙂"},
    "parse/call": {
        "golden_message": json.dumps(
            {"content": "", "tool_calls": [{"name": "f", "arguments": '{"b":1,"a":2}'}]}
        ),
        "tags": ["tools"],
    },
    "chain/plain": {"tags": ["plain"]},
    "chain/nfd": {"tags": ["nfd"]},
    "chain/tools": {"tags": ["tools"]},
}
FACTS: dict[str, Any] = {
    "bos_id": 1,
    "eos_ids": [2, 3],
    "rope_theta": 50000.0,
    "rms_eps": 1e-5,
    "compute_dtype": "f32",
    "template_digest": "aa",
    "model_name": "tiny",
}


def digest_of(case_id: str) -> str:
    return tagged_digest("k1", case_id)


def stage_of(case_id: str) -> str:
    return case_id.split("/")[0]


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def true_logits(case_id: str, positions: int = POSITIONS) -> np.ndarray:
    seed = int.from_bytes(case_id.encode(), "little") % 2**32
    return np.random.default_rng(seed).normal(0, 3, (positions, VOCABULARY))


def distribution(logits: np.ndarray, at: np.ndarray | None = None, own: int = 5) -> dict[str, Any]:
    """The numeric payload of ``logits`` [n, V] at ids ``at`` [n, k] (its own best when None)."""
    logp = log_softmax(logits.astype(np.float64))
    order = np.argsort(-logp, axis=1, kind="stable")
    ids = order[:, :TOP_K] if at is None else at
    kept = np.take_along_axis(logp, ids, axis=1)
    rest = logp.copy()
    np.put_along_axis(rest, ids, -np.inf, axis=1)
    return {
        "ref_topk_logprobs": kept.astype(np.float32).tolist(),
        "tail_logprob": np.log(np.exp(rest).sum(axis=1)).astype(np.float32).tolist(),
        "top_ids": (order[:, :own] if at is not None else ids).tolist(),
        "logprobs": kept[:, 0].astype(np.float32).tolist(),
    }


def true_ids(case_id: str) -> np.ndarray:
    return np.array(distribution(true_logits(case_id))["top_ids"])


def aligned_answer(case_id: str, shift: int = 0) -> dict[str, Any]:
    """A greedy answer beside rows that predict it, one row more on each side; or shifted ones."""
    best = true_ids(case_id)
    answer = best[1 + shift : POSITIONS - 1 + shift, 0].tolist()
    return {"output_ids": answer, "top_ids": best.tolist(), "value": json.dumps({"first": 1})}


def chain_answer(case_id: str) -> dict[str, Any]:
    return {
        "prompt_ids": [1, 9],
        "output_ids": [4, 5, 6, 2],
        "text": f"answer to {case_id}",
        "message": json.dumps({"content": f"answer to {case_id}", "tool_calls": []}),
        "finish_reason": "stop",
    }


def chain_logits(case_id: str) -> np.ndarray:
    """The reference's logits behind its answer, whose tokens are its most probable ones."""
    z = true_logits(case_id, 4)
    for row, token in zip(z, chain_answer(case_id)["output_ids"], strict=True):
        best = row.argmax()
        row[[best, token]] = row[[token, best]]
    return z


def runner_up(case_id: str, position: int) -> tuple[int, float]:
    """The reference's second choice at a position of its answer, and how far behind it lies."""
    numbers = distribution(chain_logits(case_id))
    first, second = numbers["ref_topk_logprobs"][position][:2]
    return numbers["top_ids"][position][1], first - second
