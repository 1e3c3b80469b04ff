"""What a stranger reads of ten faults: kept as files, so that a change of wording is looked at.

FLEETQUAL_REWRITE=1 writes the files anew; look at the difference before it is committed.
"""

import os
import re

import pytest

from tests.paths import ROOT
from tests.selftested import FAULTS, SelfTested

FOLDER = ROOT / "tests" / "explained"
#: Fault → what a stranger must find in the text to know which part to mend.
NAMED = {
    "tools-dropped-by-template": "template",
    "pre-tokenizer-default": "tokenize",
    "theta-of-the-old-key": "rope_theta",
    "matrix-scaled": "scale",
    "rows-mixed-in-batch": "batch",
    "hidden-repetition-penalty": "penalty",
    "one-eos-of-two": "eos_ids",
    "broken-characters-dropped-in-streams": "detokenize",
    "last-brace-eaten": "parse",
    "logprobs-depend-on-order": "instrument",
}
#: What differs from run to run and from machine to machine, and says nothing of the fault.
_CHANGING = (
    (re.compile(r"\b([crsfpk]1):[0-9a-f]+"), r"\1:…"),
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}"), "RUN"),
    (re.compile(r"/\S*/"), ".../"),
    (re.compile(r" on \S+ · "), " on NODE · "),
    (re.compile(r" · cpu · \S+ · "), " · cpu · HARDWARE · "),
    (re.compile(r"\d+\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+|\d+(?= nats)"), "N"),
    (re.compile(r"\[N?\d*, N?\d*\]"), "[N, N]"),
    (re.compile(r"\d+ of \d+ most probable"), "N of N most probable"),
    (re.compile(r"(at position|worst in \S+ at position) \d+"), r"\1 N"),
    (re.compile(r"^(logits +\S+ +\S+ ).*$", re.M), r"\1…"),
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stranger_reads_which_part_to_mend(fault: str, selftested: SelfTested) -> None:
    path, text = FOLDER / f"{fault}.txt", _steady(selftested.explained(fault))
    if os.environ.get("FLEETQUAL_REWRITE") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert NAMED[fault] in text
    assert text == path.read_text(encoding="utf-8")


def _steady(text: str) -> str:
    """Return the head of the text, up to the evidence case by case, the same on every machine."""
    head = text.split("\n\n")[0]
    for pattern, instead in _CHANGING:
        head = pattern.sub(instead, head)
    # How far a line is padded depends on what was taken out of it.
    return "\n".join(re.sub(r"[ ─]*[│╮╯]?$", "", line) for line in head.splitlines()) + "\n"
