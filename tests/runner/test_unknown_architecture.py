"""A model whose architecture nobody here knows: what is not compared is said, the rest is asked."""

import json
import shutil
from pathlib import Path

from runner.model.artifact import model_digests
from runner.order import Model
from runner.stored.store import Store
from runner.supervisor import execute
from suites.suite import Suite
from tests.paths import TINY_CHAT
from tests.runner.conftest import OrderMaker


def test_config_names_its_keys_and_weights_says_why_it_compares_nothing(
    make_order: OrderMaker, small_suite: Suite, tmp_path: Path
) -> None:
    hf = tmp_path / "novel"
    shutil.copytree(TINY_CHAT, hf, ignore=shutil.ignore_patterns("*.gguf", "*.py"))
    config = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(config | {"model_type": "novel", "twist": 3}))
    cases = tuple(case for case in small_suite.cases if case.id == "tokenize/plain")
    order = make_order(suite=small_suite.model_copy(update={"cases": cases}))
    weights, tokenizer = model_digests(hf)
    model = Model(
        name="novel",
        hf=hf,
        weights_digest=weights,
        computation_digest="",
        tokenizer_digest=tokenizer,
    )
    (outcome,) = execute(order.model_copy(update={"model": model}), str(tmp_path / "results"))
    assert outcome.status == "ok"
    traces = Store(str(tmp_path / "results")).read(order.run_id, "traces")
    (unknown,) = [row for row in traces if row["stage"] == "weights"]
    assert (unknown["case_id"], unknown["observed"]) == ("*", "not_probed")
    assert "the architecture novel is not known" in str(unknown["error"])
    facts = {
        row["case_id"]: json.loads(row["value"])
        for row in traces
        if row["value"] and row["stage"] == "config"
    }
    assert facts["config/not_compared"]["model"] == ["head_dim", "hidden_act", "twist"]
    assert facts["config/rope_theta"]["model"] == 500000.0
    assert any(row["case_id"] == "tokenize/plain" and row["prompt_ids"] for row in traces)
