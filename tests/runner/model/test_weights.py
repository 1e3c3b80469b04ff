"""A GGUF that was taken as the model has its own tensors to the last bit, also quantised ones."""

from pathlib import Path

import pytest

from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.injections import GgufInjection, TensorEdit
from runner.model.folder import model_folder
from runner.model.weights import tensor_facts
from runner.order import Model, Variant
from tests.paths import TINY_CHAT

Q8 = TINY_CHAT / "tiny-chat-q8_0.gguf"
DOWN = "blk.1.ffn_down.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    made = model_folder(Q8, tmp_path_factory.mktemp("cache")).path
    return Model(
        name="own",
        hf=made,
        weights_digest="",
        tokenizer_digest="",
        computation_digest="",
        made_from=Q8,
        gguf_digest="1",
    )


def _mismatched(model: Model, path: Path) -> set[str]:
    """Return the tensors with an element that is not the model's."""
    variant = Variant(
        name="served",
        format="gguf",
        path=path,
        artifact_digest="",
        weights_type="Q8_0",
        weights_digest="",
    )
    facts = dict(tensor_facts(model, variant))
    assert all(one["mismatched"] is not None for one in facts.values())
    return {name for name, one in facts.items() if one["mismatched"]}


def test_the_file_itself_differs_nowhere(model: Model) -> None:
    assert _mismatched(model, Q8) == set()


@pytest.mark.parametrize(
    "edit",
    [
        TensorEdit(name=DOWN, op="scale_blocks", by=1.002),
        TensorEdit(name=DOWN, op="flip_block", block=5),
    ],
    ids=lambda edit: edit.op,
)
def test_a_change_within_what_the_type_costs_is_found(
    model: Model, edit: TensorEdit, tmp_path: Path
) -> None:
    changed = faulty_gguf(Q8, tmp_path / "x.gguf", GgufInjection(tensors=(edit,)))
    assert len(_mismatched(model, changed)) == 1
