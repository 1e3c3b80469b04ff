"""BPE tokenizers: byte-level (GPT-2's) and over characters (SentencePiece's, Gemma's)."""

import base64
from typing import Any

from runner.model.folder.vocabulary.splits import NAMES, SplitRule, split_rule
from runner.model.folder.vocabulary.tables import NORMAL, Tables
from suites.errors import UserError

#: SentencePiece's mark of a space.
MARK = "▁"
Parts = dict[str, Any]


def rule_of(tables: Tables) -> SplitRule:
    """Return how a byte-level vocabulary splits text.

    Raises:
        UserError: the file does not say, or names a rule that is not known here.
    """
    fix = "give the model's Hugging Face folder, or a GGUF made by a newer converter"
    if tables.pre in (None, "default"):
        what = "it does not say how text is split before merging (tokenizer.ggml.pre)"
        raise UserError(what, where=tables.where, fix=fix)
    found = split_rule(tables.pre or "")
    if found is None:
        what = f"tokenizer.ggml.pre is {tables.pre!r:.80}, a rule that is not known"
        raise UserError(what, where=tables.where, known=", ".join(NAMES), fix=fix)
    return found


def byte_level(tables: Tables, rule: SplitRule) -> Parts:
    """Return the parts of a byte-level BPE tokenizer."""
    steps = list(rule.steps)
    return {
        "normalizer": {"type": rule.normalizer} if rule.normalizer else None,
        "pre_tokenizer": steps[0] if len(steps) == 1 else _sequence("pretokenizers", steps),
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": _bpe(tables, tables.merges, ignore_merges=rule.whole_words),
    }


def characters(tables: Tables) -> Parts:
    """Return the parts of a BPE tokenizer over characters, with bytes for what no token covers."""
    prefixed = tables.space_prefix
    if prefixed is None:
        prefixed = tables.model == "llama"
    marking = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    unmarking = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
    decoding: list[Parts] = [unmarking, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefixed:
        decoding.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    merges = tables.merges or merges_by_score(tables)
    model = _bpe(tables, merges, byte_fallback=True, fuse_unk=True, unk_token=tables.token("unk"))
    normalizer: Parts | None = marking
    spaces: Parts | None = None
    if prefixed and tables.prefix_once:
        spaces = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first"}
        spaces["split"], normalizer = False, None
    elif prefixed:
        prepending = {"type": "Prepend", "prepend": MARK}
        normalizer = _sequence("normalizers", [prepending, marking])
    if tables.charsmap:
        steps = [precompiled(tables.charsmap), *([] if normalizer is None else [normalizer])]
        normalizer = _sequence("normalizers", steps)
    return {
        "normalizer": normalizer,
        "pre_tokenizer": spaces,
        "decoder": _sequence("decoders", decoding),
        "model": model,
    }


def precompiled(charsmap: bytes) -> Parts:
    """Return the normaliser that applies SentencePiece's table of characters."""
    table = base64.b64encode(charsmap).decode()
    return {"type": "Precompiled", "precompiled_charsmap": table}


def merges_by_score(tables: Tables) -> list[tuple[str, str]]:
    """Return SentencePiece's merges: every split of a token in two tokens, the best token first.

    SentencePiece merges what makes the token of the highest score. A tokenizer.json lists merges
    in the order in which they are preferred; splits of one token are ordered by their ids.
    """
    known = {t: i for i, t in enumerate(tables.tokens) if tables.kinds[i] == NORMAL}
    ranked: list[tuple[float, int, int, str, str]] = []
    for token, index in known.items():
        for cut in range(1, len(token)):
            left, right = known.get(token[:cut]), known.get(token[cut:])
            if left is not None and right is not None:
                score = tables.scores[index]
                ranked.append((-score, left, right, token[:cut], token[cut:]))
    ranked.sort(key=lambda found: found[:3])
    return [(left, right) for *_, left, right in ranked]


def _bpe(tables: Tables, merges: list[tuple[str, str]], **settings: Any) -> Parts:
    defaults = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    vocabulary = tables.vocabulary
    for left, right in merges:
        for part in (left, right, left + right):
            if part not in vocabulary:
                merge = f"{left!r:.80} {right!r:.80}"
                what = f"the merge {merge} needs the token {part!r:.80}, which is missing"
                raise UserError(what, where=tables.where, fix="convert the model again")
    listed = [list(pair) for pair in merges]
    return {**defaults, **settings, "vocab": vocabulary, "merges": listed}


def _sequence(key: str, steps: list[Parts]) -> Parts:
    return {"type": "Sequence", key: steps}
