"""Each kind of vocabulary becomes a tokenizer that does what its tables say."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from runner.model.folder.vocabulary.made import tokenizer_json
from runner.model.folder.vocabulary.ranked_bytes import tekken_tables, tiktoken_tables
from runner.model.folder.vocabulary.splits import NAMES, split_rule
from runner.model.folder.vocabulary.tables import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Tables,
)
from suites.errors import UserError

_SPECIAL = {"unk": 0, "bos": 1, "eos": 2}
_BYTES = [f"<0x{n:02X}>" for n in range(256)]


def _pieces(model: str, scored: dict[str, float], **more: Any) -> Tables:
    """Return SentencePiece tables: three special tokens, all bytes, then scored pieces."""
    scores = [0.0] * 259 + list(scored.values())
    return Tables(
        where="x.gguf",
        model=model,
        tokens=["<unk>", "<s>", "</s>", *_BYTES, *scored],
        kinds=[UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(scored),
        scores=scores,
        special=_SPECIAL,
        **more,
    )


WORDS = {"▁": -9.0, "a": -5.0, "b": -6.0, "c": -7.0, "bc": -1.0, "ab": -2.0, "▁ab": -3.0}


def _tokens(tables: Tables, text: str, *, special: bool = False) -> list[str]:
    made = Tokenizer.from_str(tokenizer_json(tables))
    found: list[str] = made.encode(text, add_special_tokens=special).tokens
    return found


def test_sentencepiece_merges_the_piece_of_the_best_score_first() -> None:
    # bc scores best, so it wins over ab, although ab stands first in the text.
    assert _tokens(_pieces("llama", WORDS), "abc") == ["▁", "a", "bc"]
    assert _tokens(_pieces("llama", WORDS), "ab ab") == ["▁ab", "▁ab"]


def test_what_no_piece_covers_falls_back_to_bytes() -> None:
    assert _tokens(_pieces("llama", WORDS), "é") == ["▁", "<0xC3>", "<0xA9>"]


def test_the_space_before_a_text_is_as_the_file_says() -> None:
    tables = _pieces("llama", WORDS)
    assert _tokens(replace(tables, space_prefix=False), "ab") == ["ab"]
    once = replace(tables, prefix_once=True)
    assert _tokens(tables, "ab</s>ab") == ["▁ab", "</s>", "▁ab"]
    assert _tokens(once, "ab</s>ab") == ["▁ab", "</s>", "ab"]


@pytest.mark.parametrize(
    ("bos", "eos", "tokens"),
    [
        (None, None, ["<s>", "▁ab"]),
        (False, None, ["▁ab"]),
        (True, True, ["<s>", "▁ab", "</s>"]),
    ],
)
def test_bos_and_eos_are_as_the_file_says(
    bos: bool | None, eos: bool | None, tokens: list[str]
) -> None:
    tables = _pieces("llama", WORDS, adds_bos=bos, adds_eos=eos)
    assert _tokens(tables, "ab", special=True) == tokens


def test_a_text_comes_back_from_its_tokens() -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json(_pieces("llama", WORDS)))
    for text in ("ab abc", "é ab", "  a"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_unigram_takes_the_likeliest_pieces() -> None:
    tables = _pieces("t5", WORDS | {"▁a": -1.0})
    assert _tokens(tables, "abc") == ["▁a", "bc"]


def test_word_piece_is_spelt_as_bert_spells_it() -> None:
    tables = Tables(
        where="x.gguf",
        model="bert",
        tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁play", "ing", "[unused1]"],
        kinds=[CONTROL] * 4 + [NORMAL] * 3,
        special={"pad": 0, "unk": 1, "cls": 2, "sep": 3},
    )
    assert _tokens(tables, "Playing", special=True) == ["[CLS]", "play", "##ing", "[SEP]"]
    assert Tokenizer.from_str(tokenizer_json(tables)).id_to_token(6) == "[unused1]"


def _byte_level(**more: Any) -> Tables:
    tokens = ["a", "b", "c", "ab", "Ġ", "Ġab", "<end>", "<call>", "1", "2", "12"]
    merges = [("a", "b"), ("Ġ", "ab"), ("1", "2")]
    kinds = [NORMAL] * len(tokens)
    kinds[6], kinds[7] = CONTROL, USER_DEFINED
    tables = Tables("x.gguf", "gpt2", tokens, kinds, merges=merges, pre="gpt-2")
    return replace(tables, **more)


def test_added_tokens_are_cut_out_first_and_say_whether_they_are_special() -> None:
    tables = _byte_level()
    assert _tokens(tables, "ab<end> ab<call>c") == ["ab", "<end>", "Ġab", "<call>", "c"]
    added = json.loads(tokenizer_json(tables))["added_tokens"]
    assert [(t["content"], t["special"]) for t in added] == [("<end>", True), ("<call>", False)]


def test_digits_are_split_as_the_rule_says() -> None:
    assert _tokens(_byte_level(), "12") == ["12"]
    assert _tokens(_byte_level(pre="smollm"), "12") == ["1", "2"]


def test_without_a_table_of_kinds_the_named_tokens_are_special() -> None:
    tables = _byte_level(kinds=[NORMAL] * 11, special={"eos": 6})
    assert _tokens(tables, "a<end>") == ["a", "<end>"]
    assert json.loads(tokenizer_json(tables))["added_tokens"][0]["special"]


@pytest.mark.parametrize("name", NAMES)
def test_every_known_rule_makes_a_tokenizer(name: str) -> None:
    assert split_rule(name) is not None
    made = Tokenizer.from_str(tokenizer_json(_byte_level(pre=name)))
    assert made.decode(made.encode("ab").ids) == "ab"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre": None}, "does not say how text is split before merging"),
        ({"pre": "nobody"}, "'nobody', a rule that is not known"),
        ({"model": "rwkv"}, "a tokenizer of the kind 'rwkv', which is not known"),
        ({"merges": [("a", "c")]}, "needs the token 'ac', which is missing"),
        ({"model": "llama", "merges": []}, "without scores: nothing says what merges first"),
        ({"model": "t5"}, "a unigram tokenizer without scores"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_with_the_reason(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        tokenizer_json(_byte_level(**change))
    assert caught.value.where == "x.gguf"


# Ranked byte strings


RANKED = [bytes([n]) for n in range(256)] + [b"ab", b"bc", b"abc"]


def test_tiktoken_merges_by_rank(tmp_path: Path) -> None:
    path = tmp_path / "x.tiktoken"
    lines = [base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(RANKED)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    tables = tiktoken_tables(path, "llama-bpe")
    assert _tokens(tables, "abc abd") == ["abc", "Ġ", "ab", "d"]
    path.write_bytes(b"\n".join([*lines[:3], b"no base64"]))
    with pytest.raises(UserError, match="not a token in base64 and its rank") as caught:
        tiktoken_tables(path, "llama-bpe")
    assert caught.value.where == f"{path}:4"


def _tekken(**config: Any) -> dict[str, Any]:
    rule = split_rule("tekken")
    assert rule is not None
    stated = {
        "pattern": rule.steps[0]["pattern"]["Regex"],
        "default_vocab_size": 3 + 258,
        "default_num_special_tokens": 3,
    }
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode()}
        for rank, token in enumerate(RANKED)
    ]
    return {"config": stated | config, "vocab": vocab}


def test_tekken_has_its_special_tokens_first_and_as_many_others_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "tekken.json"
    path.write_text(json.dumps(_tekken()))
    tables = tekken_tables(path)
    assert tables.tokens[:4] == ["<unk>", "<s>", "</s>", "Ā"]
    assert len(tables.tokens) == 261
    assert _tokens(tables, "abc", special=True) == ["<s>", "ab", "c"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "not a sound tekken file"),
        (_tekken(default_vocab_size=10**12), "not a sound tekken file"),
        (_tekken(pattern="."), "a pattern that is not known here"),
        (_tekken() | {"special_tokens": [1]}, "not a sound tekken file"),
    ],
)
def test_a_tekken_file_that_cannot_be_read_is_refused(
    tmp_path: Path, body: dict[str, Any], message: str
) -> None:
    path = tmp_path / "tekken.json"
    path.write_text(json.dumps(body))
    with pytest.raises(UserError, match=message):
        tekken_tables(path)
