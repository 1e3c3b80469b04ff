"""Frozen truth, read for the probes: what goes into each stage must be the truth's own."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from runner.order import WorkOrder
from runner.stored.store import Store
from runner.stored.tables import ReferenceRow, arrow_schema
from suites.errors import UserError
from suites.suite import Case, Golden

Key = tuple[str, str, str]


def frozen_table(store: Store, path: str, row: type[BaseModel] = ReferenceRow) -> pa.Table:
    """Read one file of a reference root, with exactly the declared columns.

    Raises:
        UserError: the file is damaged, or something else than ``row`` is stored in it.
    """
    table, schema = store.read_file(path), arrow_schema(row)
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise UserError(
            f"no {row.__name__.removesuffix('Row').lower()} file: column {missing[0]!r} is missing",
            where=store.path(path.lstrip("/")),
            fix="keep only what `fleetqual reference` wrote in a reference root",
        )
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        what = f"its columns hold something else: {error}"
        raise UserError(what, where=store.path(path.lstrip("/"))) from error


class References:
    """Reference traces for one model's weights and tokenizer, by (case digest, stage, probe)."""

    def __init__(self, roots: tuple[str, ...], weights_digest: str, tokenizer_digest: str) -> None:
        self._rows: dict[Key, dict[str, Any]] = {}
        for root in roots:
            store = Store(root)
            for path in store.parquet_files(""):
                table = frozen_table(store, path)
                fits = pc.and_(
                    pc.equal(table["weights_digest"], weights_digest),
                    pc.equal(table["tokenizer_digest"], tokenizer_digest),
                )
                for row in table.filter(fits).to_pylist():
                    key = (row["case_digest"], row["stage"], row["probe"])
                    self._rows.setdefault(key, row)

    def find(self, case: Case, stage: str, probe: str) -> dict[str, Any]:
        """Return the frozen trace of a case's probe; empty when there is none."""
        return self._rows.get((case.digest, stage, probe), {})


def child_case(case: Case, order: WorkOrder, references: References) -> dict[str, Any]:
    """Return a case as the child gets it, with the truth's input to its stage."""
    body = case.model_dump(mode="json", exclude={"golden", "tags"}, exclude_none=True)
    return {**body, "truth": _truth(case, order, references)}


def lacks_truth(case: dict[str, Any]) -> str | None:
    """Say which input to its stage a child case still needs; None when it is complete."""
    truth, stage = case["truth"], case["stage"]
    if stage == "tokenize" and case.get("text") is None and "prompt_text" not in truth:
        return "the rendered prompt"
    if stage == "logits" and "top_ids_prefill" not in truth:
        return "the reference's token ids and distribution"
    if stage == "state":
        beside = case["scenario"].get("beside", ())
        if "prompt_ids" not in truth or len(truth.get("beside_ids", ())) != len(beside):
            return "the token ids of its conversations"
    if stage == "sampling":
        if "prompt_ids" not in truth:
            return "the prompt's token ids"
        if set(case["asked"].get("logit_bias", {})) - set(truth.get("bias_ids", {})):
            return "the token id of a biased text"
    if case.get("script") and "script_ids" not in truth:
        return "the token ids of the scripted output"
    return None


def _truth(case: Case, order: WorkOrder, references: References) -> dict[str, Any]:
    golden = case.golden if order.golden_model else Golden()
    found: dict[str, Any] = {}
    if case.stage == "tokenize" and case.text is None:
        # The prompt is the template's output: golden here, or frozen beside this very case.
        frozen = references.find(case, "tokenize", "isolate").get("value")
        found["prompt_text"] = golden.prompt_text or (_json(frozen).get("text"))
    if case.script is not None:
        frozen = references.find(case, case.stage, _first_probe(case.stage)).get("value")
        ids = golden.script_ids
        found["script_ids"] = _json(frozen).get("script_ids") if ids is None else list(ids)
    if case.stage == "logits":
        found |= _distribution(case, references)
    if case.stage == "state":
        found |= _sequences(references.find(case, "state", "alone"))
    if case.stage == "sampling":
        found |= _sampled(references.find(case, "sampling", "inputs"))
    if case.stage == "chain":
        found |= _answer(references.find(case, "chain", "whole"))
    return {name: value for name, value in found.items() if value is not None}


def _distribution(case: Case, references: References) -> dict[str, Any]:
    return {
        **_forced(references.find(case, "logits", "prefill")),
        "top_ids_decode": references.find(case, "logits", "decode").get("top_ids"),
    }


def _sequences(alone: dict[str, Any]) -> dict[str, Any]:
    return {**_forced(alone), "beside_ids": _json(alone.get("value")).get("beside_ids")}


def _sampled(inputs: dict[str, Any]) -> dict[str, Any]:
    return {**_forced(inputs), "bias_ids": _json(inputs.get("value")).get("bias_ids")}


def _answer(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the whole chain's outputs; a chain's golden text is an outcome, not its truth."""
    names = ("prompt_text", "prompt_ids", "output_ids", "text", "finish_reason")
    found = {name: whole.get(name) for name in names}
    found["message"] = _json(whole.get("message")) or None
    return found


def _forced(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a frozen sequence as prompt and output, and what was most probable at its positions.

    A trace keeps both as the one sequence that was forced.
    """
    if not trace:
        return {}
    ids, output = trace["prompt_ids"], trace["output_ids"] or []
    return {
        "prompt_ids": ids[: len(ids) - len(output)],
        "output_ids": output,
        "top_ids_prefill": trace["top_ids"],
    }


def _first_probe(stage: str) -> str:
    return "whole" if stage in ("detokenize", "chain") else "isolate"


def _json(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text else {}
