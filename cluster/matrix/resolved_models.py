"""The matrix's models: folders and artifacts are found, digested, made where a GGUF is alone."""

from dataclasses import dataclass
from pathlib import Path

from cluster.matrix.located import absolute, check_exists, located
from cluster.matrix.model_entry import ModelEntry, VariantEntry
from cluster.matrix.schema import Matrix
from runner.model.artifact import describe_variant, gguf_digest, model_digests
from runner.model.computation import computation_digest
from runner.model.folder import default_cache, model_folder
from runner.model.gguf_parts import gguf_parts
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
    weights, tokenizer = located(document, at, model_digests, folder.path)
    variants = tuple(
        _variant(document, (*key, "variants", v), variant, base)
        for v, variant in enumerate(entry.variants)
    )
    if not variants and folder.gguf is not None:
        variants = (_itself(document, at, folder.gguf),)
    model = Model(
        name=entry.name,
        hf=folder.path,
        weights_digest=weights,
        tokenizer_digest=tokenizer,
        computation_digest=located(document, at, computation_digest, folder.path),
        made_from=None if folder.path == path else path,
        gguf_digest=None if folder.gguf is None else gguf_digest(folder.gguf),
    )
    return ResolvedModel(model, variants)


def _variant(document: Document, key: KeyPath, entry: VariantEntry, base: Path) -> ResolvedVariant:
    path = absolute(base / (entry.gguf or entry.hf or ""))
    digests = located(document, (*key, entry.format), describe_variant, path, entry.format)
    return _resolved(path, entry.format, digests, entry.name, entry.margin)


def _itself(document: Document, key: KeyPath, gguf: Path) -> ResolvedVariant:
    """Return the GGUF that was taken as the model as a variant, by the name of its type."""
    digests = located(document, key, describe_variant, gguf, "gguf")
    return _resolved(gguf, "gguf", digests, digests[1].lower(), None)


def _resolved(
    path: Path, form: str, digests: tuple[str, str, str], name: str, margin: float | None
) -> ResolvedVariant:
    artifact, kind, weights = digests
    variant = Variant(
        name=name,
        format=form,
        path=path,
        artifact_digest=artifact,
        weights_type=kind,
        weights_digest=weights,
        margin=margin,
    )
    return ResolvedVariant(variant, _size(path))


def _size(artifact: Path) -> int:
    if artifact.is_file():
        return sum(part.stat().st_size for part in gguf_parts(artifact))
    return sum(p.stat().st_size for p in artifact.iterdir() if p.is_file())
