"""The work order: everything one supervisor needs to run one engine child, as plain data.

An order names no Ray and no cluster: ``python -m runner order.json`` executes it anywhere.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from runner.engines.engine import Engine
from runner.model.computation import function_digest
from suites.stages import Backend, Pass
from suites.suite import Frozen, Suite


class Model(Frozen):
    """One model identity; its files say what is true."""

    name: str
    hf: Path
    """Folder with config.json, tokenizer files and safetensors."""
    weights_digest: str
    """``w1:…`` over every tensor's fp32 values under its Hugging Face name."""
    tokenizer_digest: str
    """``t2:…`` over tokenizer.json, and over templates, special tokens and EOS set."""
    computation_digest: str
    """``cp1:…`` over all of config.json that changes the numbers."""
    made_from: Path | None = None
    """The user's own file or folder where ``hf`` was made from it; None if it is ``hf`` itself."""
    gguf_digest: str | None = None
    """sha256 of the GGUF that was taken as the model; None if a folder says what is true."""

    def function_over(self, weights: str) -> str:
        """Return the digest (``fn1:…``) of what this model computes over some weights."""
        return function_digest(weights, self.computation_digest)


class Variant(Frozen):
    """One artifact in which the model is served."""

    name: str
    format: str
    """``hf`` or ``gguf``."""
    path: Path
    artifact_digest: str
    """sha256 of the file, or of the folder's weight files."""
    weights_type: str
    """f32, f16, bf16, or the quantisation as its format names it (Q8_0, Q4_K_M, awq …)."""
    weights_digest: str
    """Like the model's, over this artifact's dequantised tensors."""
    margin: float | None = None
    """δ of the deployed pass."""

    def is_model(self, model: Model) -> bool:
        """Whether this very file was taken as the model: then no conversion can be checked."""
        return self.artifact_digest == model.gguf_digest

    @property
    def quantised(self) -> bool:
        """Whether values were lost beyond a cast."""
        return self.weights_type not in ("f32", "f16", "bf16")


class CellOrder(Frozen):
    """One suite to run in this child."""

    cell_id: str
    series_id: str
    suite: Suite
    options: dict[str, Any] = Field(default_factory=dict)
    """Benign options that the loaded engine takes on for this cell (``floor``)."""


class WorkOrder(Frozen):
    """One engine child: loads once, serves all its cells."""

    run_id: str
    node_id: str
    hardware: str
    attempt: int = Field(ge=1)
    model: Model
    variant: Variant
    engine: Engine
    backend: Backend
    pass_: Pass
    cells: tuple[CellOrder, ...] = Field(min_length=1)
    deadline_s: float = Field(gt=0)
    """The child and all its processes are killed after this many seconds."""
    golden_model: bool
    """Whether the suites' golden texts are truth for this model."""
    references: tuple[str, ...] = ()
    """Reference folders (paths or URIs), the first that has a case's truth wins."""
    only_cases: tuple[str, ...] = ()
    """Case ids to run; all when empty."""
    reference: Engine | None = None
    """The reference engine on this node, for swaps; None where it is not installed."""
    freeze: bool = False
    """Whether to make the truth: each stage takes what the engine itself made before it."""
    floor: bool = False
    """Whether its cells are benign configurations of one load: only forced logits are asked."""
    source_digest: str | None = None
    """Digest of the runner's source that must execute this order; checked when given."""

    @property
    def reference_weights(self) -> str:
        """Weights that the logits reference must have been made over."""
        return self.variant.weights_digest if self.variant.quantised else self.model.weights_digest

    @property
    def reference_function(self) -> str:
        """The function (``fn1:…``) that the reference must have computed."""
        return self.model.function_over(self.reference_weights)
