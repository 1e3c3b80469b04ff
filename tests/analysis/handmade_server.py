"""Hand-made evidence of servers: chats and counts, and stages that cannot be seen."""

import json
from typing import Any

from tests.analysis.handmade import Attempt, Bench, Cell
from tests.analysis.handmade_state import CANARIES, scenario
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import chain_answer, digest_of

ISOLATES = (
    "instrument",
    "config",
    "weights",
    "template",
    "tokenize",
    "logits",
    "state",
    "sampling",
    "stop",
    "detokenize",
    "parse",
)
CHAINS = ("chain/plain", "chain/nfd", "chain/tools")
SURE = [[-0.01, -5.0, -6.0, -7.0]] * 4
"""The reference's numbers behind an answer of four tokens, none of them nearly another."""


def served(name: str, *shown: str, required: tuple[str, ...] = ("chain",)) -> Cell:
    """Return a cell of a server that agrees everywhere and shows only these isolates."""
    cell = Cell(f"c1:{name}", serving="managed", required=list(required))
    attempt = cell.only
    attempt.compute_dtype = "unknown"
    kept = {*shown, "chain"}
    attempt.traces = [t for t in attempt.traces if t.columns["stage"] in kept]
    for stage in ISOLATES:
        if stage not in shown:
            star = {"case_id": "*", "stage": stage, "probe": "none", "observed": "hidden"}
            attempt.traces.append(Trace({**star, "error": "it does not show it"}))
    for case in CHAINS:
        hide(attempt, case)
    return cell


def hide(attempt: Attempt, case: str) -> None:
    """Leave of an answer what a chat shows: its text and message, and how many tokens it had."""
    attempt.change("chain", case, None, observed="endpoint")
    attempt.change("chain", case, "whole", prompt_ids=None, output_ids=None)
    count(attempt, case, prompt=2, output=3)


def count(attempt: Attempt, case: str, *, prompt: int | None = 2, output: int | None = 3) -> None:
    """Let the server tell these counts, as JSON with nulls where it tells none."""
    told = json.dumps({"prompt_tokens": prompt, "output_tokens": output})
    attempt.change("chain", case, "whole", value=told)


def say(attempt: Attempt, case: str, text: str, **message: Any) -> None:
    """Let a case be answered so, streamed too."""
    body = json.dumps({"content": text, "tool_calls": [], **message})
    attempt.change("chain", case, "whole", text=text, message=body)
    attempt.change("chain", case, "stream", text=text)


def sure(bench: Bench, *, but: int | None = None) -> None:
    """Let the reference be sure of all its tokens, but of one (from 1), by 0.1 nats."""
    rows = [list(row) for row in SURE]
    if but is not None:
        rows[but - 1][1] = rows[but - 1][0] - 0.1
    for case in CHAINS:
        bench.answers[case] = {**bench.answers.get(case, {}), "ref_topk_logprobs": rows}


def true_text(case: str) -> str:
    return str(chain_answer(case)["text"])


def plan_chats(bench: Bench, **more: Any) -> None:
    """Plan one case of chats at once, and let every cell answer each as when alone."""
    asked = scenario("concurrent", canaries=CANARIES, **more)
    bench.more_cases["state/concurrent"] = {
        "messages": [{"role": "user", "content": "own"}]
    } | asked
    for cell in bench.cells:
        attempt = cell.only
        attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "state"]
        attempt.traces.append(_chat("alone", 0, {"chat": True}))
        others = [[[], f"I keep {secret}"] for secret in CANARIES[1:]]
        for repeat, size in enumerate((2, 3)):
            value = {"chat": True, "size": size, "row": 0, "others": others}
            attempt.traces.append(_chat("concurrent", repeat, value))


def _chat(probe: str, repeat: int, value: dict[str, Any]) -> Trace:
    return Trace(
        {
            "case_id": "state/concurrent",
            "case_digest": digest_of("state/concurrent"),
            "stage": "state",
            "probe": probe,
            "repeat": repeat,
            "observed": "endpoint",
            "text": f"I keep {CANARIES[0]}",
            "value": json.dumps(value),
        }
    )
