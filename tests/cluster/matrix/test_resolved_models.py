"""A model of the matrix is a folder, or a GGUF that is taken as the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.matrix.resolve import resolve
from cluster.planning.node import Node
from cluster.planning.planner import make_plan
from runner.model.artifact import describe_variant
from tests.paths import TINY_CHAT
from tests.runner.model.split_gguf import split_gguf

Q8 = TINY_CHAT / "tiny-chat-q8_0.gguf"
Write = Callable[[dict[str, Any] | str], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEETQUAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gguf_alone_is_the_model_and_its_only_variant(
    right_matrix: dict[str, Any], write_matrix: Write, cache: Path
) -> None:
    right_matrix["models"] = [{"name": "mine", "gguf": str(Q8)}]
    (found,) = resolve(write_matrix(right_matrix)).models
    (variant,) = (v.variant for v in found.variants)
    assert found.model.hf.is_relative_to(cache)
    assert found.model.made_from == Q8
    assert (variant.name, variant.path, variant.weights_type) == ("q8_0", Q8, "Q8_0")
    assert variant.is_model(found.model)
    assert variant.weights_digest == found.model.weights_digest == describe_variant(Q8, "gguf")[2]


def test_other_variants_of_a_gguf_are_compared_with_it(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    f32 = str(TINY_CHAT / "tiny-chat-f32.gguf")
    variants = [{"name": "whole", "gguf": f32}, {"name": "small", "gguf": str(Q8)}]
    right_matrix["models"] = [{"name": "mine", "gguf": f32, "variants": variants}]
    (found,) = resolve(write_matrix(right_matrix)).models
    assert [v.variant.is_model(found.model) for v in found.variants] == [True, False]


def test_a_folder_of_its_own_is_the_model_as_it_is(
    right_matrix: dict[str, Any], write_matrix: Write, cache: Path
) -> None:
    (found,) = resolve(write_matrix(right_matrix)).models
    assert (found.model.hf, found.model.made_from) == (TINY_CHAT, None)
    assert not cache.exists()


def test_any_part_of_a_split_gguf_is_the_model_and_the_first_is_served(
    right_matrix: dict[str, Any], write_matrix: Write, tmp_path: Path
) -> None:
    first, second = split_gguf(TINY_CHAT / "tiny-chat-f32.gguf", tmp_path, 2)
    variants = [{"name": "split", "gguf": str(second)}]
    right_matrix["models"] = [{"name": "mine", "gguf": str(second), "variants": variants}]
    (found,) = resolve(write_matrix(right_matrix)).models
    (split,) = found.variants
    assert split.variant.path == first
    assert split.variant.is_model(found.model)
    assert split.size == first.stat().st_size + second.stat().st_size


def test_a_gguf_taken_as_the_model_has_no_weights_to_be_compared_with(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    f32 = str(TINY_CHAT / "tiny-chat-f32.gguf")
    variants = [{"name": "whole", "gguf": f32}, {"name": "small", "gguf": str(Q8), "margin": 1}]
    right_matrix["require"] = ["weights", "tokenize"]
    right_matrix["models"] = [{"name": "mine", "gguf": f32, "variants": variants}]
    here = Node(id="a", hardware={"cpu": "amd-epyc"}, cpus=4)
    rows = make_plan(resolve(write_matrix(right_matrix)), [here]).rows("r")
    required = {row.variant: row.required for row in rows if row.reason is None}
    assert required == {"whole": ["tokenize"], "small": ["weights", "tokenize"]}


def test_a_cell_of_a_made_folder_is_another_than_of_the_model_s_own(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    here = Node(id="a", hardware={"cpu": "amd-epyc"}, cpus=4)
    own = make_plan(resolve(write_matrix(right_matrix)), [here])
    (entry,) = right_matrix["models"]
    entry["gguf"] = entry["variants"][0]["gguf"]
    del entry["hf"]
    made = make_plan(resolve(write_matrix(right_matrix)), [here])
    assert {p.cell.cell_id for p in own.pairs}.isdisjoint(p.cell.cell_id for p in made.pairs)
