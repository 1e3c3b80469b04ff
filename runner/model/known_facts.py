"""What the model's files and the served artifact state, beside what the engine says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.engines.shared.tokenizer_tables import flags_digest, tokens_digest
from runner.model.architectures.gguf_metadata import gguf_facts, uncompared_metadata, with_options
from runner.model.architectures.hf_config import ARCHITECTURE_FACTS
from runner.model.architectures.table import of_gguf
from runner.model.artifact import GgufFile, read_json
from runner.model.facts import model_facts, model_tables
from runner.model.gguf_tokenizer import GgufTables, compared_tables

#: Facts of which an architecture or a tokenizer may have nothing.
_MAY_BE_ABSENT = frozenset({*ARCHITECTURE_FACTS, "merges_digest", "scores_digest"})


@dataclass(frozen=True)
class KnownFacts:
    """Facts by name, as the ``config`` stage compares them."""

    model: Mapping[str, Any]
    artifact: Mapping[str, Any] = field(default_factory=dict)
    """What the served file states: it speaks where the engine hides a fact."""
    differences: Mapping[str, str] = field(default_factory=dict)
    """Fact → how the artifact's table differs, where a digest says nothing."""
    tokens: Mapping[int, str] = field(default_factory=dict)

    def is_nothing(self, fact: str) -> bool:
        """Whether the architecture has no such thing, so that nobody need speak of it."""
        return fact in _MAY_BE_ABSENT and self.model.get(fact) in (None, [])

    def value(self, fact: str, stated: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return what is recorded of a fact; None where neither engine nor artifact states it.

        Args:
            fact: its name.
            stated: ``{"seen": …}`` as the engine says it, None if it hides the fact.
        """
        model = self.model.get(fact)
        if stated is None:
            if fact not in self.artifact:
                return None
            value = {"seen": self.artifact[fact], "model": model, "from": "artifact"}
            if fact in self.differences:
                value["difference"] = self.differences[fact]
            return value
        return {**stated, "model": model, **self._ends(fact, stated.get("seen"), model)}

    def _ends(self, fact: str, seen: Any, model: Any) -> dict[str, Any]:
        """Name the end tokens that one side has alone."""
        if fact != "eos_ids" or not (_are_ids(seen) and _are_ids(model)) or set(seen) == set(model):
            return {}
        extra, missing = sorted(set(seen) - set(model)), sorted(set(model) - set(seen))
        return {
            "extra": {str(i): self.tokens.get(i) for i in extra},
            "missing": {str(i): self.tokens.get(i) for i in missing},
        }


def known_facts(
    hf: Path, pass_: str, options: dict[str, Any], served: Path | None = None
) -> KnownFacts:
    """Read the facts of a model and of the GGUF file that is served, if there is one.

    Args:
        hf: folder of the model.
        pass_: ``structure``, ``deployed`` or ``timed``.
        options: those of the engine.
        served: the GGUF file or the folder; None where nobody knows what a server reads.

    Raises:
        UserError: a file cannot be read.
    """
    model, tables = model_facts(hf, pass_, options), model_tables(hf)
    stated: dict[str, Any] = {"not_compared": []}
    if served is None or served.is_dir():
        if served is not None and (served / "tokenizer.json").exists():
            own = model_tables(served)
            stated |= {"tokens_digest": tokens_digest(own), "token_flags_digest": flags_digest(own)}
        return KnownFacts(model, stated, {}, tables.tokens)
    gguf = GgufFile(served)
    if any(known.cut_embeddings for known in of_gguf(gguf.architecture)):
        # The converter drops the rows of the embedding that no token has.
        model["vocab_size"] = min(model["vocab_size"] or 0, len(tables.tokens)) or None
    facts = gguf_facts(with_options(gguf.field, options), gguf.factors(), model)
    facts["not_compared"] = uncompared_metadata(gguf.keys())
    if not gguf.has_head() or not model.get("tied_head"):
        facts["tied_head"] = not gguf.has_head()
    texts = _tables(gguf)
    differences = {}
    if texts is not None:
        for name, compared in compared_tables(texts, tables, _special(hf)).items():
            facts[name] = compared.seen
            if compared.difference:
                differences[name] = compared.difference
    return KnownFacts(model, facts, differences, tables.tokens)


def _tables(gguf: GgufFile) -> GgufTables | None:
    tokens = gguf.field("tokenizer.ggml.tokens")
    if not isinstance(tokens, list):
        return None
    return GgufTables(
        str(gguf.field("tokenizer.ggml.model")),
        tokens,
        gguf.field("tokenizer.ggml.token_type"),
        gguf.field("tokenizer.ggml.merges"),
        gguf.field("tokenizer.ggml.scores"),
    )


def _special(hf: Path) -> dict[int, bool]:
    """Return which added tokens tokenizer_config.json calls special."""
    path = hf / "tokenizer_config.json"
    listed = read_json(path).get("added_tokens_decoder") if path.exists() else None
    found = {}
    for index, token in listed.items() if isinstance(listed, dict) else ():
        if index.isdigit() and isinstance(token, dict):
            found[int(index)] = token.get("special") is True
    return found


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(i) is int for i in value)
