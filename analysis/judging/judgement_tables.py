"""The stored judgement: one pydantic model per materialised table, in their public column order."""

from pydantic import BaseModel, ConfigDict


class Identity(BaseModel):
    """What was judged. An attempt that never loaded its engine leaves the engine's columns null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    cell_id: str
    series_id: str
    suite: str
    model: str
    variant: str
    engine: str
    """Name of the matrix entry."""
    engine_version: str | None = None
    engine_build: str | None = None
    serving: str
    backend: str
    pass_: str
    """Stored as ``pass``."""
    compute_dtype: str | None = None
    kv_dtype: str | None = None
    hardware: str | None = None
    node_id: str | None = None
    device_count: int | None = None
    driver: str | None = None
    attempt: int | None = None
    """The judged attempt; the last one when none was ok."""


class VerdictRow(Identity):
    """The verdict on one stage of a (cell, node), over all cases (``*``) or those with one tag."""

    stage: str
    case_group: str
    verdict: str
    """qualified, divergent, inconclusive, not_observed, error, expected."""
    reason: str | None = None
    """Why it is not qualified."""
    observed: str | None = None
    n: int | None = None
    """What was compared: positions for ``logits``, else probes, facts or tensors."""
    mismatches: int | None = None
    """What differs among them: for ``logits``, positions with another most probable token."""
    effect: float | None = None
    """Mean KL in nats."""
    ci_low: float | None = None
    ci_high: float | None = None
    margin: float | None = None
    p_value: float | None = None
    """Against the floor, before Benjamini–Hochberg."""
    first_case: str | None = None
    """The case to look at first; for ``logits`` the worst one."""
    explanation: str | None = None
    reference_id: str | None = None
    floor_id: str | None = None
    rules_version: str


class QualificationRow(Identity):
    """The verdict on a (cell, node) as a whole."""

    verdict: str
    """qualified, divergent, inconclusive, error; not_observed for the timed pass."""
    culprit: str | None = None
    """The earliest stage that is to blame; ``interface`` when only the chain differs. Where the
    engine hides the stages that could have made it: all of these, such as ``template/tokenize``."""
    culprits: str | None = None
    """Every isolate that diverges and every suspect of a chain symptom, in chain order."""
    confirmed: str
    """yes, no, not_applicable."""
    required: str
    """Stages that had to pass."""
    observed_stages: str
    """How many of the chain's stages were judged, such as ``8 of 11``."""
    explanation: str
