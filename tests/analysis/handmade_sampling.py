"""Hand-made evidence of the ``sampling`` stage: a sampler that obeys, or does something else."""

import json
from collections import Counter
from typing import Any

import numpy as np

from tests.analysis.handmade import Attempt, Bench
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import digest_of, distribution, log_softmax

PROMPT = [1, 2, 3, 4, 5]
VOCABULARY = 200
STEPS = 40
KEPT = 20


def first_logits(seed: int = 1, spread: float = 2.0) -> np.ndarray:
    """Return the logits [V] of a first token."""
    return np.random.default_rng(seed).normal(3, spread, VOCABULARY)


def sampled(logits: np.ndarray, applied: dict[str, Any], *, late: bool = False) -> np.ndarray:
    """Return the probabilities [V] of a sampler that applies ``applied`` to ``logits``.

    Args:
        late: whether the temperature comes after the cuts, as in llama.cpp.
    """
    z = logits.astype(np.float64).copy()
    for token, by in applied.get("bias", {}).items():
        z[token] += by
    if r := applied.get("repetition_penalty"):
        at = np.array(PROMPT)
        z[at] = np.where(z[at] > 0, z[at] / r, z[at] * r)
    warmth = applied.get("temperature", 1.0)
    if warmth == 0:
        return np.eye(len(z))[z.argmax()]
    order = np.argsort(-z, kind="stable")
    w = np.exp((z[order] - z.max()) / (1.0 if late else warmth))
    kept = np.arange(len(z)) < applied.get("top_k", len(z))
    before = np.cumsum(w * kept) - w * kept
    kept &= before < applied.get("top_p", 1.1) * (w * kept).sum()
    kept &= w >= applied.get("min_p", 0.0)
    p = np.zeros(len(z))
    p[order] = np.exp((z[order] - z.max()) / warmth) * kept
    return p / p.sum()


def plan_sampling(bench: Bench, name: str, measure: str, **asked: Any) -> str:
    """Plan a sampling case; the engine shows the stage from now on."""
    case_id = f"sampling/{name}"
    bench.more_cases[case_id] = {"measure": measure, "draws": 100, "asked": asked}
    for cell in bench.cells:
        for attempt in cell.attempts:
            attempt.traces = [
                t
                for t in attempt.traces
                if (t.columns["stage"], t.columns["case_id"]) != ("sampling", "*")
            ]
    return case_id


def draws(
    attempt: Attempt,
    case_id: str,
    p: np.ndarray,
    logits: np.ndarray,
    *,
    n: int = 500,
    seed: int = 7,
    kept: int = VOCABULARY,
    bias: dict[int, float] | None = None,
) -> dict[str, Any]:
    """Let an engine with these logits [V] draw ``n`` times from ``p`` [V]."""
    found = np.random.default_rng(seed).choice(len(p), n, p=p)
    logp = log_softmax(logits)
    order = np.argsort(-logp, kind="stable")
    with np.errstate(divide="ignore"):
        tail = np.log(np.exp(logp[order[kept:]]).sum())
    value: dict[str, Any] = {
        "counts": {str(k): int(v) for k, v in Counter(found.tolist()).items()},
        "draws": n,
        "seed": seed,
        "lse": float(np.log(np.exp(logits).sum())),
        "nonfinite": 0,
    }
    if bias:
        value["bias"] = {str(k): v for k, v in bias.items()}
    columns = {
        "prompt_ids": PROMPT,
        "value": json.dumps(value),
        "top_ids": [order[:kept].tolist()],
        "ref_topk_logprobs": [logp[order[:kept]].astype(np.float32).tolist()],
        "tail_logprob": [float(tail)],
    }
    return bring(attempt, case_id, "draws", **columns)


def greedy(
    attempt: Attempt,
    case_id: str,
    *,
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
    prompt_too: bool = False,
    reach: int | None = None,
    bias: dict[int, float] | None = None,
    prompt: list[int] | None = None,
    spread: float = 0.4,
) -> dict[str, Any]:
    """Let an engine answer greedily with these penalties; it likes to repeat itself.

    Args:
        reach: the penalties see so many of the last tokens, or with 0 the answer only.
    """
    prompt = PROMPT if prompt is None else prompt
    random = np.random.default_rng(5)
    liked = random.normal(3, 2.0, 64)
    output: list[int] = []
    rows = []
    for _ in range(STEPS):
        z = liked + random.normal(0, spread, 64)
        rows.append(z)
        y = z.copy()
        for token, by in (bias or {}).items():
            y[token] += by
        before = [*prompt, *output]
        near = before if reach is None else before[-reach:] if reach else output
        for token in set(near):
            y[token] = y[token] / repetition if y[token] > 0 else y[token] * repetition
        counted = Counter(near if prompt_too or reach is not None else output)
        for token, times in counted.items():
            y[token] -= presence + frequency * times
        output.append(int(y.argmax()))
    return bring(attempt, case_id, "greedy", **forced(np.array(rows), output, prompt, bias))


def forced(
    rows: np.ndarray, output: list[int], prompt: list[int], bias: dict[int, float] | None = None
) -> dict[str, Any]:
    """Return the columns of an answer beside the engine's own logits [n, V]."""
    logp = log_softmax(rows)
    order = np.argsort(-logp, axis=1, kind="stable")[:, :KEPT]
    numbers = distribution(rows, order)
    value: dict[str, Any] = {"lse": np.log(np.exp(rows).sum(axis=1)).tolist(), "nonfinite": 0}
    if bias:
        value["bias"] = {str(k): v for k, v in bias.items()}
    return {
        **numbers,
        "prompt_ids": prompt,
        "output_ids": output,
        "top_ids": order.tolist(),
        "logprobs": logp[np.arange(len(output)), output].astype(np.float32).tolist(),
        "value": json.dumps(value),
    }


def seeds(attempt: Attempt, case_id: str, answers: list[list[int]], logprob: float | None) -> None:
    """Let an engine answer to the same seed twice and to two others."""
    for repeat, answer in enumerate(answers):
        columns: dict[str, Any] = {"prompt_ids": PROMPT, "output_ids": answer}
        if repeat == 0 and logprob is not None:
            columns["logprobs"] = [logprob] * len(answer)
        bring(attempt, case_id, "seed", repeat=repeat, **columns)


def bring(attempt: Attempt, case_id: str, probe: str, **columns: Any) -> dict[str, Any]:
    """Add a trace to an attempt; return its columns, to be changed."""
    row = {
        "case_id": case_id,
        "case_digest": digest_of(case_id),
        "stage": "sampling",
        "probe": probe,
        "observed": "path",
        **columns,
    }
    attempt.traces.append(Trace(row))
    return row
