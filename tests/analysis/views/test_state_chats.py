"""Chats alone and at once, where a server shows nothing but their texts."""

import json
from typing import Any

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Attempt, Bench
from tests.analysis.handmade_server import plan_chats, served
from tests.analysis.handmade_state import CANARIES

LONG = "the ship leaves the harbour at dawn"


def at_once(attempt: Attempt, text: str | None, others: list[str] | None = None) -> None:
    """Let the chat, asked with one other at once, be answered so."""
    trace = next(
        t
        for t in attempt.find("state", "state/concurrent", "concurrent")
        if not t.columns["repeat"]
    )
    trace.columns["text"] = text
    if others is not None:
        value = {"chat": True, "size": 2, "row": 0, "others": [[[], other] for other in others]}
        trace.columns["value"] = json.dumps(value)


def state_of(bench: Bench, found: Judged) -> dict[str, dict[str, Any]]:
    return {c.cell_id[3:]: found.stage("state", cell=c.cell_id) for c in bench.cells}


@arranged
def test_chats_that_others_do_not_change_are_qualified_without_an_instrument(
    bench: Bench,
) -> Halves:
    bench.cells = [served("one", required=("state",))]
    plan_chats(bench)
    found = yield
    assert found.verdict("state", "c1:one") == "qualified"
    assert found.cell("c1:one")["verdict"] == "qualified"
    assert found.cell("c1:one")["observed_stages"] == "1 of 11"


@arranged
def test_anothers_secret_or_whole_answer_is_a_leak_and_other_words_may_be_a_tie(
    bench: Bench,
) -> Halves:
    names = ("secret", "other-way", "swapped", "short", "words", "silent")
    bench.cells = [served(name) for name in names]
    plan_chats(bench)
    secret, other_way, swapped, short, words, silent = (cell.only for cell in bench.cells)
    keeps = [f"I keep {c}" for c in CANARIES[1:]]
    at_once(secret, f"I keep {CANARIES[1]}")
    at_once(other_way, f"I keep {CANARIES[0]}", [f"I keep {CANARIES[0]}", keeps[1]])
    at_once(swapped, f"He said: {LONG}.", [LONG, keeps[1]])
    at_once(short, "Yes.", ["Yes.", keeps[1]])
    at_once(words, "I have a bird")
    at_once(silent, None)
    found = yield
    rows = state_of(bench, found)
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert verdicts == {
        "secret": "divergent",
        "other-way": "divergent",
        "swapped": "divergent",
        "short": "inconclusive",
        "words": "inconclusive",
        "silent": "inconclusive",
    }
    assert "secret of conversation 2" in rows["secret"]["explanation"]
    assert "the answer is that to conversation 2" in rows["swapped"]["explanation"]
    assert "with hidden ids this may be a tie" in rows["words"]["reason"]
    assert "returned no answer" in rows["silent"]["reason"]


@arranged
def test_an_equal_question_may_have_an_equal_answer(bench: Bench) -> Halves:
    bench.cells = [served("one")]
    own = [{"role": "user", "content": "own"}]
    plan_chats(bench, beside=[own, [{"role": "user", "content": "a"}]])
    at_once(bench.attempt, LONG, [LONG, f"I keep {CANARIES[2]}"])
    found = yield
    assert state_of(bench, found)["one"]["verdict"] == "inconclusive"
