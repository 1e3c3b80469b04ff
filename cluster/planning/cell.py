"""Cell: what is qualified, with its two identities."""

from dataclasses import dataclass, replace
from typing import Any

from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.resolve import Resolved, ResolvedSuite
from cluster.matrix.resolved_models import ResolvedModel, ResolvedVariant
from cluster.planning.node import Node
from suites.digest import tagged_digest
from suites.stages import Backend, Pass


@dataclass(frozen=True)
class Cell:
    """Suite × model variant × engine × backend × pass, everything resolved."""

    suite: ResolvedSuite
    model: ResolvedModel
    variant: ResolvedVariant
    entry: EngineEntry
    backend: Backend
    pass_: Pass
    version: str | None = None
    """Engine version: the one asked for, else the one found on the node, else unknown. For an
    interpreter that the matrix names, the version that it reports."""
    stored_id: str | None = None
    """The id in a stored run, where the engine's version can no longer be read."""

    @property
    def names(self) -> dict[str, Any]:
        """The names of what the cell consists of, without versions and digests."""
        return {
            "suite": self.suite.suite.name,
            "model": self.model.model.name,
            "variant": self.variant.variant.name,
            "engine": self.entry.label,
            "kind": self.entry.engine,
            "serving": self.entry.served,
            "backend": self.backend,
            "pass": self.pass_,
        }

    @property
    def series_id(self) -> str:
        """``s1:…`` over the names only, so that history survives an upgrade."""
        return tagged_digest("s1", self.names)

    @property
    def cell_id(self) -> str:
        """``c1:…`` over names, versions, digests and options; the node is not in it."""
        if self.stored_id is not None:
            return self.stored_id
        resolved = {
            "suite_digest": self.suite.suite.digest,
            "model_weights": self.model.model.weights_digest,
            "computation": self.model.model.computation_digest,
            "tokenizer": self.model.model.tokenizer_digest,
            "artifact": self.variant.variant.artifact_digest,
            "version": self.version,
            "options": self.entry.options,
            "base_url": self.entry.base_url,
            "dialect": self.entry.dialect,
        }
        if self.model.model.gguf_digest is not None:
            # Another question: nothing is asked of conversion.
            resolved["taken_as_model"] = self.model.model.gguf_digest
        for name in ("fault", "proxy"):
            if (put := getattr(self.entry, name)) is not None:
                resolved[name] = put.model_dump(mode="json")
        return tagged_digest("c1", {**self.names, **resolved})

    @property
    def child(self) -> tuple[str, str, str, Backend, Pass]:
        """Cells with the same value share one engine child."""
        return (
            self.model.model.name,
            self.variant.variant.name,
            self.entry.label,
            self.backend,
            self.pass_,
        )


def placed_on(cell: Cell, node: Node, resolved: Resolved) -> Cell:
    """Return the cell as it is on a node: with the version of the engine there."""
    entry = cell.entry
    version = node.version(entry.engine, resolved.python(entry), entry.version)
    return replace(cell, version=version, stored_id=None)
