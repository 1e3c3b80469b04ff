"""Golden answers are truth for the weights, or the texts, that they were written for."""

from pathlib import Path

from cluster.matrix.resolve import GoldenTruth
from runner.order import Model
from suites.loading import SHIPPED
from suites.model_files import texts_digest

TINY_CHAT = SHIPPED / "models" / "tiny-chat"
DIGESTS = {"weights_digest": "w1:0", "tokenizer_digest": "t1:0", "computation_digest": "cp1:0"}


def test_golden_texts_are_truth_for_the_same_weights_under_any_name_and_nothing_else() -> None:
    model = Model(name="renamed", hf=Path("/x"), **DIGESTS)
    assert GoldenTruth("w1:0").applies(model)
    assert not GoldenTruth("other").applies(model), "a fine-tune or a namesake"
    assert not GoldenTruth(None).applies(model), "its own files are not here"


def test_golden_answers_for_texts_are_truth_for_every_model_that_has_them() -> None:
    tiny = Model(name="mine", hf=TINY_CHAT, **DIGESTS)
    truth = GoldenTruth(None, texts_digest=texts_digest(TINY_CHAT))
    twin = tiny.model_copy(update={"name": "twin", "weights_digest": "w1:1"})
    gone = tiny.model_copy(update={"name": "gone", "hf": Path("/x"), "weights_digest": "w1:2"})
    assert [truth.applies(model) for model in (tiny, twin, gone)] == [True, True, False]
    assert truth.weights_of([tiny, twin, gone]) == "w1:0 w1:1"
    assert truth.weights_of([gone]) is None
    assert GoldenTruth("w1:0").weights_of([gone]) == "w1:0"
