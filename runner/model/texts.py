"""Which texts a model reads and writes: its tokenizer, templates, special tokens and ends.

Two folders with equal weights and tokenizers answer differently when one has a corrected template,
so what is frozen for one of them is no truth for the other.
"""

from pathlib import Path
from typing import Any

from suites.digest import file_digest, tagged_digest
from suites.errors import UserError
from suites.rendering.templates import ChatTemplates, read_object

#: Keys of generation_config.json that change no greedy answer.
_WITHOUT_EFFECT = frozenset(
    (
        *("transformers_version", "_from_model_config", "bos_token_id", "pad_token_id"),
        *("eos_token_id", "do_sample", "temperature", "top_k", "top_p", "max_length"),
    )
)
#: Keys of tokenizer_config.json that change ids or text; false and a missing key are the same.
_SWITCHES = ("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces")


def tokenizer_digest(hf: Path) -> str:
    """Return the digest (``t2:tokenizer-others``) of a model folder's texts.

    Its first part digests tokenizer.json alone: runs of earlier versions are found by it.

    Raises:
        UserError: a file cannot be read, or holds what no JSON file can hold.
    """
    try:
        first = tagged_digest("t2", read_object(hf / "tokenizer.json"))
        rest = tagged_digest("t2", [_templates(hf), _generation(hf), *_habits(hf)])
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON: {error}", where=str(hf / "tokenizer.json")) from error
    return f"{first}-{rest.removeprefix('t2:')}"


def _templates(hf: Path) -> list[Any]:
    """Return its templates and special tokens; the files' digests where they cannot be read."""
    try:
        found = ChatTemplates.of(hf)
    except UserError:
        files = [hf / "tokenizer_config.json", *sorted(hf.glob("chat_template.*"))]
        return [[path.name, file_digest(path)] for path in files if path.is_file()]
    return [found.sources, found.specials]


def _habits(hf: Path) -> list[Any]:
    """Return what else the tokenizer's configuration switches on; nothing where all is off."""
    stated = read_object(hf / "tokenizer_config.json")
    found = {key: stated[key] for key in _SWITCHES if stated.get(key)}
    return [found] if found else []


def _generation(hf: Path) -> list[Any]:
    """Return its EOS set, and what else changes a greedy answer."""
    stated = read_object(hf / "generation_config.json")
    ends = stated.get("eos_token_id")
    if ends is None:
        ends = read_object(hf / "config.json").get("eos_token_id")
    several = ends if isinstance(ends, list) else [ends]
    rest = {k: v for k, v in stated.items() if k not in _WITHOUT_EFFECT and v is not None}
    return [sorted(several, key=str), rest]
