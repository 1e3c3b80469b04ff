"""An engine entry reaches plan and child: its variants, and a known fault in it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.matrix.resolve import resolve
from cluster.planning.node import Node
from cluster.planning.planner import make_plan
from suites.errors import UserError
from tests.cluster.conftest import order_of

Write = Callable[[dict[str, Any] | str], Path]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"at": "logits", "how": "softcapp"}, "engines[0].fault.how: unknown fault at logits"),
        ({"at": "weights", "how": "x"}, "engines[0].fault.at: unknown stage of a fault"),
        ({"at": "logits", "how": "softcap", "bye": 1}, "engines[0].fault.bye: unknown key 'bye'"),
    ],
)
def test_a_wrong_fault_key_of_a_matrix_is_told(
    right_matrix: dict[str, Any], write_matrix: Write, fault: dict[str, Any], told: str
) -> None:
    right_matrix["engines"][0]["fault"] = fault
    with pytest.raises(UserError, match=re.escape(told)):
        resolve(write_matrix(right_matrix))


def test_a_fault_makes_another_cell_and_reaches_the_child(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    clean = order_of(right_matrix, write_matrix)
    right_matrix["engines"][0]["fault"] = {"at": "logits", "how": "softcap", "by": 5}
    faulty = order_of(right_matrix, write_matrix)
    assert clean.order.engine.fault is None
    assert faulty.order.engine.fault is not None
    assert faulty.order.engine.fault["by"] == 5
    assert clean.order.cells[0].cell_id != faulty.order.cells[0].cell_id


def test_an_entry_serves_only_the_variants_it_names(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    (variant,) = right_matrix["models"][0]["variants"]
    right_matrix["models"][0]["variants"] = [variant, {**variant, "name": "other"}]
    right_matrix["engines"][0]["variants"] = ["other"]
    plan = make_plan(
        resolve(write_matrix(right_matrix)), (Node(id="n", hardware={"cpu": "amd-epyc"}),)
    )
    assert {p.cell.variant.variant.name for p in plan.pairs} == {"other"}
    assert not plan.skips
    right_matrix["engines"][0]["variants"] = ["othr"]
    with pytest.raises(UserError, match=r"engines\[0\]\.variants\[0\]: unknown variant 'othr'"):
        resolve(write_matrix(right_matrix))


@pytest.mark.parametrize(
    ("engine", "options", "told"),
    [
        ("llama_cpp", {"n_ctx": "lots"}, "n_ctx is 'lots', but it takes a whole number"),
        ("llama_cpp", {"n_ctx": True}, "n_ctx is True, but it takes a whole number"),
        (
            "llama_cpp",
            {"rope_freq_base": "high"},
            "rope_freq_base is 'high', but it takes a number",
        ),
        ("llama_cpp", {"flash_attn": 1}, "flash_attn is 1, but it takes true or false"),
        ("llama_cpp", {"n_ctxx": 1}, "did you mean 'n_ctx'?"),
        ("transformers", {"dtype": 32}, "dtype is 32, but it takes a text"),
        ("vllm", {"max_model_len": 1.5}, "max_model_len is 1.5, but it takes a whole number"),
    ],
)
def test_an_option_that_the_engine_cannot_take_is_told_with_its_key(
    right_matrix: dict[str, Any],
    write_matrix: Write,
    engine: str,
    options: dict[str, Any],
    told: str,
) -> None:
    right_matrix["engines"] = [{"engine": engine, "options": options}]
    (name,) = options
    with pytest.raises(UserError) as error:
        resolve(write_matrix(right_matrix))
    assert told in str(error.value)
    assert f"engines[0].options.{name}" in str(error.value)


def test_a_whole_number_is_a_number_and_an_option_may_be_null(
    right_matrix: dict[str, Any], write_matrix: Write
) -> None:
    right_matrix["engines"][0]["options"] = {"rope_freq_base": 10000, "chat_format": None}
    assert resolve(write_matrix(right_matrix)).matrix.engines[0].options["rope_freq_base"] == 10000
