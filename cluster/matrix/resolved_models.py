"""The matrix's models: folders and artifacts are found, digested, made where a GGUF is alone."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cluster.matrix.located import absolute, check_exists, located
from cluster.matrix.model_entry import ModelEntry, VariantEntry
from cluster.matrix.schema import Matrix
from runner.model.artifact import describe_variant, model_digests
from runner.model.computation import computation_digest
from runner.model.described import describe_gguf
from runner.model.folder import default_cache, model_folder
from runner.model.gguf_parts import gguf_parts
from runner.model.texts import tokenizer_digest
from runner.order import Model, Variant
from suites.mistakes import KeyPath
from suites.yaml_document import Document


@dataclass(frozen=True)
class ResolvedVariant:
    """A variant and the size of its artifact."""

    variant: Variant
    size: int
    """Bytes; the plan estimates times from it."""


@dataclass(frozen=True)
class ResolvedModel:
    """A model and its variants."""

    model: Model
    variants: tuple[ResolvedVariant, ...]

    @property
    def name(self) -> str:
        """The model's name in the matrix."""
        return self.model.name


def resolved_models(matrix: Matrix, document: Document, base: Path) -> tuple[ResolvedModel, ...]:
    """Return the models of a matrix; its paths are relative to ``base``.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    # All paths are checked before any file is digested: digests of large files take minutes.
    for m, entry in enumerate(matrix.models):
        _check(document, ("models", m), entry, base)
        for v, variant in enumerate(entry.variants):
            _check(document, ("models", m, "variants", v), variant, base)
    return tuple(
        _model(document, ("models", m), entry, base) for m, entry in enumerate(matrix.models)
    )


def _check(document: Document, key: KeyPath, entry: ModelEntry | VariantEntry, base: Path) -> None:
    path = base / (entry.gguf or entry.hf or "")
    check_exists(document, (*key, entry.format), path, folder=entry.format == "hf")


def _model(document: Document, key: KeyPath, entry: ModelEntry, base: Path) -> ResolvedModel:
    path = absolute(base / (entry.gguf or entry.hf or ""))
    at = (*key, entry.format)
    folder = located(document, at, model_folder, path, default_cache())
    own = None
    if folder.gguf is not None:
        own = located(document, at, _described, folder.gguf, "gguf")
    variants = tuple(
        _variant(document, (*key, "variants", v), variant, base)
        for v, variant in enumerate(entry.variants)
    )
    if own is not None and folder.gguf is not None and not variants:
        # The file itself is served, under the name of its type.
        variants = (_resolved(folder.gguf, "gguf", own, own.kind.lower(), None),)
    weights = own.weights if own else located(document, at, model_digests, folder.path)[0]
    model = Model(
        name=entry.name,
        hf=folder.path,
        weights_digest=weights,
        tokenizer_digest=located(document, at, tokenizer_digest, folder.path),
        computation_digest=located(document, at, computation_digest, folder.path),
        made_from=None if folder.path == path else path,
        gguf_digest=own.artifact if own else None,
    )
    return ResolvedModel(model, variants)


def _variant(document: Document, key: KeyPath, entry: VariantEntry, base: Path) -> ResolvedVariant:
    path = absolute(base / (entry.gguf or entry.hf or ""))
    at = (*key, entry.format)
    if entry.format == "gguf":
        # Engines open the first part of a split model and find the others.
        path = located(document, at, gguf_parts, path)[0]
    described = located(document, at, _described, path, entry.format)
    return _resolved(path, entry.format, described, entry.name, entry.margin)


class _Described(NamedTuple):
    artifact: str
    kind: str
    weights: str


def _described(path: Path, form: str) -> _Described:
    """Describe an artifact; a file that is both the model and a variant is read once."""
    if form == "hf":
        return _Described(*describe_variant(path, form))
    found = path.stat()
    return _described_gguf(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=8)
def _described_gguf(path: Path, _size: int, _changed: int) -> _Described:
    return _Described(*describe_gguf(path, default_cache()))


def _resolved(
    path: Path, form: str, described: _Described, name: str, margin: float | None
) -> ResolvedVariant:
    variant = Variant(
        name=name,
        format=form,
        path=path,
        artifact_digest=described.artifact,
        weights_type=described.kind,
        weights_digest=described.weights,
        margin=margin,
    )
    return ResolvedVariant(variant, _size(path))


def _size(artifact: Path) -> int:
    if artifact.is_file():
        return sum(part.stat().st_size for part in gguf_parts(artifact))
    return sum(p.stat().st_size for p in artifact.iterdir() if p.is_file())
