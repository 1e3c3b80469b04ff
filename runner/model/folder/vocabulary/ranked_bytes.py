"""Lists of byte strings in the order in which they merge: tiktoken's and Mistral's (``tekken``).

Merges follow from the ranks: each split of a token in two tokens is a merge, the lowest rank first.
"""

import base64
import binascii
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.model.folder.vocabulary.splits import split_rule
from runner.model.folder.vocabulary.tables import CONTROL, NORMAL, Tables, refuse_repeated
from suites.errors import UserError
from suites.rendering.templates import read_object

_MOST = 1 << 22
_FIX = "download the file again, or save the model with a tokenizer.json"
#: Special tokens of tekken files that do not list their own, by id.
_TEKKEN_SPECIAL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]"),
    *("[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    "[TOOL_CONTENT]",
)


def tiktoken_tables(path: Path, pre: str) -> Tables:
    """Read a tiktoken file, which has a token and its rank on each line.

    Args:
        path: the file.
        pre: GGUF's name of the rule that splits text; the file does not say it.

    Raises:
        UserError: it is damaged.
    """
    ranks: dict[bytes, int] = {}
    number = 0
    try:
        for line in path.read_bytes().splitlines():
            number += 1
            if line.strip():
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except OSError as error:
        raise UserError(error.strerror or "cannot be read", where=str(path)) from error
    except ValueError as error:
        what = "not a tiktoken file: the line is not a token in base64 and its rank"
        raise UserError(what, where=f"{path}:{number}", fix=_FIX) from error
    return _tables(path, ranks, [], pre)


def tekken_tables(path: Path) -> Tables:
    """Read a tekken file.

    Raises:
        UserError: it is damaged, or splits text by a rule that is not known.
    """
    body = read_object(path)
    try:
        config = body["config"]
        special, size = config["default_num_special_tokens"], config["default_vocab_size"]
        if not 0 <= special <= size <= _MOST:
            raise ValueError
        found = {entry["rank"]: entry["token_bytes"] for entry in body["vocab"]}
        ranks = {
            base64.b64decode(found[rank], validate=True): rank for rank in range(size - special)
        }
        named = _special(body.get("special_tokens"), special)
        pattern = config["pattern"]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise UserError("not a sound tekken file", where=str(path), fix=_FIX) from error
    rule = split_rule("tekken")
    if rule is None or pattern != rule.steps[0]["pattern"]["Regex"]:
        what = "it splits text by a pattern that is not known here"
        raise UserError(what, where=str(path), fix="save the model with a tokenizer.json")
    tables = _tables(path, ranks, named, "tekken")
    ids = {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>"}
    return replace(
        tables,
        adds_bos=True,
        special={name: named.index(token) for name, token in ids.items() if token in named},
    )


def _special(listed: Any, count: int) -> list[str]:
    found: dict[Any, Any] = dict(enumerate(_TEKKEN_SPECIAL))
    if listed is not None:
        found = {entry["rank"]: entry["token_str"] for entry in listed}
    tokens = [found.get(rank, f"<SPECIAL_{rank}>") for rank in range(count)]
    if not all(isinstance(token, str) for token in tokens):
        raise ValueError
    return tokens


def _tables(path: Path, ranks: dict[bytes, int], special: list[str], pre: str) -> Tables:
    """Return tables with the special tokens first."""
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise UserError("its ranks have gaps or repetitions", where=str(path), fix=_FIX)
    letters = _byte_letters()
    spelt = {token: "".join(letters[byte] for byte in token) for token in ranks}
    ordered = sorted(ranks, key=lambda token: ranks[token])
    merges = []
    for token in ordered:
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in splits if pair[0] in ranks and pair[1] in ranks]
        known.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [(spelt[left], spelt[right]) for left, right in known]
    found = Tables(
        where=str(path),
        model="gpt2",
        tokens=special + [spelt[token] for token in ordered],
        kinds=[CONTROL] * len(special) + [NORMAL] * len(ordered),
        merges=merges,
        pre=pre,
    )
    refuse_repeated(found)
    return found


def _byte_letters() -> list[str]:
    """Return the letter that byte-level tokenizers write for each byte (GPT-2's table)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    kept = set(shown)
    return [chr(byte) if byte in kept else chr(next(hidden)) for byte in range(256)]
