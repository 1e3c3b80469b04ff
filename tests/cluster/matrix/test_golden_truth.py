"""Golden answers are truth for the weights, or the texts, that they were written for."""

from pathlib import Path

import yaml

from cluster.matrix.resolve import GoldenTruth, resolve
from runner.order import Model
from suites.derive import derive_suite
from suites.loading import SHIPPED
from suites.model_files import texts_digest
from suites.writing import write_suite

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


def test_a_derived_suite_is_truth_for_the_model_that_it_was_derived_from(tmp_path: Path) -> None:
    write_suite(derive_suite(TINY_CHAT, name="derived"), tmp_path / "derived.yaml")
    matrix = {
        "name": "own",
        "suites": ["./derived.yaml"],
        "models": [
            {
                "name": "tiny",
                "hf": str(TINY_CHAT),
                "variants": [{"name": "f32", "hf": str(TINY_CHAT), "margin": 0.1}],
            }
        ],
        "engines": [{"engine": "transformers", "passes": ["structure"]}],
        "backends": ["cpu"],
    }
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(matrix))
    found = resolve(tmp_path / "matrix.yaml")
    (suite,), (model,) = found.suites, found.models
    assert suite.golden is not None
    assert suite.golden.applies(model.model)
    assert suite.golden.weights_of([model.model]) == model.model.weights_digest
