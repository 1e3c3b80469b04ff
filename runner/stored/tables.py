"""The tables of a run: one pydantic model per table, from which its Arrow schema is derived.

Every table has the same keys, so any two tables can be joined; a key that has no meaning for a row
is null. Lists are stored as LIST columns: one row per probe of a case, not one per token.
"""

import datetime as dt
import types
import typing
from typing import Annotated, Any, ClassVar, Union

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31), pa.int32()]
Float32 = Annotated[float, pa.float32()]
Json = Annotated[str, pa.string()]


class Row(BaseModel):
    """The keys of every table."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ADDED_LATER: ClassVar[tuple[str, ...]] = ()
    """Columns that files of earlier versions lack: they are read as null there."""

    schema_version: Int32 = SCHEMA_VERSION
    """Version of these table definitions."""
    run_id: str
    """One execution of one plan."""
    cell_id: str | None = None
    """``c1:…``: suite × model variant × engine × backend × pass, everything resolved."""
    node_id: str | None = None
    """The machine."""
    attempt: Int32 | None = None
    """1 for the first try at a cell on a node."""


class RunRow(Row):
    """A run. Written when it starts and again, with ``finished``, when it ends."""

    config: Json
    """The resolved matrix."""
    code_version: str
    """Version and source digest of fleetqual."""
    started: dt.datetime
    finished: dt.datetime | None = None


class CaseRow(Row):
    """A case of a suite of the run, so that results explain themselves without the suite file."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("golden_refusal",)

    suite: str
    suite_version: Int32
    suite_digest: str
    golden_weights_digest: str | None = None
    """Golden text is truth for the model with these weights, and for no other; several with spaces
    between them, where the suite was written for all models with the same texts."""
    case_id: str
    case_digest: str
    stage: str
    tags: list[str]
    input: Json
    """Everything that is asked."""
    golden_prompt_text: str | None = None
    golden_refusal: str | None = None
    """What the template says when it refuses the conversation; then there is no prompt."""
    golden_prompt_ids: list[Int32] | None = None
    golden_script_ids: list[Int32] | None = None
    golden_text: str | None = None
    golden_message: Json | None = None
    golden_finish_reason: str | None = None


class PlanRow(Row):
    """A (cell, node) pair to run, or a pair that is skipped and why."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("function_digest",)

    series_id: str
    """``s1:…``: the names only, so that history survives an upgrade."""
    suite: str
    suite_version: Int32
    model: str
    variant: str
    engine: str
    """Name of the matrix entry."""
    engine_kind: str
    """The engine itself: llama_cpp, transformers, …"""
    serving: str
    backend: str
    pass_: str
    """Stored as ``pass``."""
    hardware: str | None = None
    reason: str | None = None
    """Why the pair is skipped; null when it is to run."""
    margin: float | None = None
    """δ: largest mean KL that counts as equal; null when none is declared."""
    required: list[str]
    """Stages that must be qualified."""
    weights_type: str | None = None
    """f32, f16, bf16, Q8_0, …"""
    weights_digest: str | None = None
    """Weights that the logits reference must have been made over."""
    function_digest: str | None = None
    """``fn1:…``: the function that the reference must have computed; null in earlier runs."""
    tokenizer_digest: str | None = None
    model_weights_digest: str | None = None
    """The model's own weights, for golden text."""
    estimate_s: float | None = None


class NodeRow(Row):
    """A machine's facts, as found by the attempt's supervisor or the plan's probe."""

    hardware: str
    """Normalised slug of the device that computes."""
    devices: list[str]
    """Device uuids."""
    cpu: str
    cpu_count: Int32
    memory: int
    """Bytes."""
    driver: str | None = None
    runtime_versions: Json = "{}"
    power_limit: float | None = None
    """Watts."""
    clocks: Json = "{}"
    temperature: float | None = None
    """Degrees Celsius."""
    labels: Json = "{}"


class AttemptRow(Row):
    """One try at a cell on a node. Written last: it commits the attempt's other files."""

    status: str
    """ok, error, crashed, timeout, oom, lost."""
    stage_reached: str | None = None
    error: str | None = None
    exit_code: Int32 | None = None
    signal: str | None = None
    started: dt.datetime
    load_s: float | None = None
    duration_s: float
    peak_memory: int | None = None
    """Bytes, of the child's process group."""
    engine_version: str | None = None
    engine_build: str | None = None
    device_count: Int32 | None = None
    device_uuids: list[str] = []
    compute_dtype: str | None = None
    kv_dtype: str | None = None
    probe_overrides: Json = "{}"
    """Options that the probes set for themselves (full logits, fp32 KV, …)."""
    hardware: str
    files: list[str] = []
    """The files that this row commits, relative to the run."""


class EnvironmentRow(Row):
    """A package or fact of an attempt's engine environment."""

    name: str
    version: str
    kind: str
    """package, python, variable, fact."""


class TraceRow(Row):
    """What one probe of one case saw in one attempt."""

    case_id: str
    """A suite's case, ``config/<fact>``, ``weights/<tensor>``; ``*`` for a stage not observed."""
    case_digest: str | None = None
    tags: list[str] = []
    stage: str
    probe: str
    observed: str
    """path, endpoint, reenacted; or, with no payload: hidden, absent, not_probed."""
    repeat: Int32 = 0
    prompt_text: str | None = None
    prompt_ids: list[Int32] | None = None
    output_ids: list[Int32] | None = None
    logprobs: list[Float32] | None = None
    """Per position: log p of the token that follows (natural log)."""
    ref_topk_logprobs: list[list[Float32]] | None = None
    """Per position: log p at the reference's top-k ids, in its order."""
    tail_logprob: list[Float32] | None = None
    """Per position: log of the probability outside those ids, from a log-sum-exp of the rest."""
    top_ids: list[list[Int32]] | None = None
    """Per position: this engine's own most probable ids, best first."""
    text: str | None = None
    message: Json | None = None
    finish_reason: str | None = None
    value: Json | None = None
    """Facts without a column of their own."""
    payload_digest: str | None = None
    """``p1:…`` over all that was seen; equal digests mean bitwise equal payloads."""
    error: str | None = None
    """Why a planned probe has no payload."""
    seconds: float | None = None
    """Wall time of the probe."""


class RequestRow(Row):
    """A timed request."""

    case_id: str
    load_pattern: str
    concurrency: Int32
    prompt_tokens: Int32 | None = None
    """None where the engine states no count."""
    output_tokens: Int32 | None = None
    ttft_s: float | None = None
    itl_s: list[float] = []
    e2el_s: float | None = None
    ok: bool


class PowerRow(Row):
    """A power sample."""

    t: dt.datetime
    watts: float
    source: str


#: Folder of each table below ``runs/<run>/``.
TABLES: dict[str, type[Row]] = {
    "runs": RunRow,
    "cases": CaseRow,
    "plan": PlanRow,
    "nodes": NodeRow,
    "attempts": AttemptRow,
    "environment": EnvironmentRow,
    "traces": TraceRow,
    "requests": RequestRow,
    "power": PowerRow,
}

_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    dt.datetime: pa.timestamp("us", tz="UTC"),
}


def arrow_schema(row: type[BaseModel]) -> pa.Schema:
    """Derive the Arrow schema of a stored model; a trailing ``_`` leaves the column's name."""
    hints = typing.get_type_hints(row, include_extras=True)
    return pa.schema(
        [pa.field(column_name(name), _arrow_type(hints[name])) for name in row.model_fields]
    )


def with_later_columns(table: pa.Table, row: type[BaseModel]) -> pa.Table:
    """Return a table of an earlier version with the columns that were added since, as null."""
    schema = arrow_schema(row)
    for name in getattr(row, "ADDED_LATER", ()):
        if name not in table.column_names:
            field = schema.field(name)
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def column_name(field: str) -> str:
    """Return the stored name of a field (``pass_`` is stored as ``pass``)."""
    return field.rstrip("_")


def _arrow_type(hint: Any) -> pa.DataType:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return next(a for a in arguments if isinstance(a, pa.DataType))
    if origin in (Union, types.UnionType):
        (inner,) = [a for a in arguments if a is not type(None)]
        return _arrow_type(inner)
    if origin is list:
        return pa.list_(_arrow_type(arguments[0]))
    return _ARROW[hint]
