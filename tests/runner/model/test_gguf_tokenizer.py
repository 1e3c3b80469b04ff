"""The tokenizer tables of a GGUF file against tokenizer.json: what differs is named in words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.injections import GgufInjection
from runner.engines.shared.tokenizer_tables import TokenizerTables, tokenizer_tables
from runner.model.facts import model_facts
from runner.model.gguf_tokenizer import GgufTables, compared_tables
from runner.model.known_facts import known_facts
from tests.paths import TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
NORMAL, CONTROL, USER, UNUSED = 1, 3, 4, 5
#: a, b, ab, and two added tokens, of which one is special.
MODEL = TokenizerTables(
    tokens={0: "a", 1: "b", 2: "ab", 3: "<end>", 4: "▁add"},
    merges=["a b", "b a"],
    scores=None,
    added={3: True, 4: False},
)
FILE = GgufTables(
    model="gpt2",
    tokens=["a", "b", "ab", "<end>", "▁add"],
    types=[NORMAL, NORMAL, NORMAL, CONTROL, USER],
    merges=["a b", "b a"],
    scores=None,
)


def differences(file: GgufTables, special: dict[int, bool] | None = None) -> dict[str, str]:
    compared = compared_tables(file, MODEL, special or {})
    return {name: found.difference for name, found in compared.items() if found.difference}


def test_equal_tables_have_the_model_s_digests() -> None:
    known = known_facts(TINY_CHAT, "structure", {}, F32)
    names = ("tokens_digest", "merges_digest", "token_flags_digest")
    assert {n: known.artifact[n] for n in names} == {n: known.model[n] for n in names}
    assert differences(FILE) == {}


def test_two_swapped_merges_are_named(tmp_path: Path) -> None:
    merges = gguf.GGUFReader(F32).get_field("tokenizer.ggml.merges")
    assert merges is not None
    texts = merges.contents()
    texts[10], texts[11] = texts[11], texts[10]
    path = faulty_gguf(
        F32, tmp_path / "x.gguf", GgufInjection(fields={"tokenizer.ggml.merges": texts})
    )
    known = known_facts(TINY_CHAT, "structure", {}, path)
    value = known.value("merges_digest", None)
    assert value is not None
    assert value["seen"] != value["model"]
    told = f"merge 10 is {texts[10]!r}, the model has {texts[11]!r} (2 of {len(texts)} differ)"
    assert value["difference"] == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"merges": ["a b"]},
            {"merges_digest": "merge 1 is missing, the model has 'b a'"},
        ),
        (
            {"merges": ["a b", "b a", "a a"]},
            {"merges_digest": "merge 2 is 'a a', the model has none"},
        ),
        (
            {"tokens": ["b", "a", "ab", "<end>", "▁add"]},
            {"tokens_digest": "token 0 is 'b', the model has 'a' (2 of 5 differ)"},
        ),
        (
            {"types": [NORMAL, NORMAL, NORMAL, NORMAL, USER]},
            {
                "token_flags_digest": "token 3 ('<end>') is a plain token, the model has it as a "
                "control token"
            },
        ),
        (
            {"types": [NORMAL, CONTROL, NORMAL, CONTROL, USER]},
            {
                "token_flags_digest": "token 1 ('b') is a control token, the model has it as a "
                "plain token"
            },
        ),
    ],
)
def test_a_difference_is_named(change: dict[str, Any], told: dict[str, str]) -> None:
    assert differences(replace(FILE, **change)) == told


@pytest.mark.parametrize(
    "change",
    [
        # Ids that no token has are filled up, and a space is written as a space.
        {
            "tokens": ["a", "b", "ab", "<end>", " add", "[PAD5]"],
            "types": [NORMAL, NORMAL, NORMAL, CONTROL, USER, UNUSED],
        },
        {"merges": None},
        {"types": None},
    ],
)
def test_what_the_converter_changes_on_purpose_is_no_difference(change: dict[str, Any]) -> None:
    assert differences(replace(FILE, **change)) == {}


def test_tokenizer_config_may_call_a_token_special() -> None:
    special = replace(FILE, types=[NORMAL, NORMAL, NORMAL, CONTROL, CONTROL])
    assert set(differences(special)) == {"token_flags_digest"}
    assert differences(special, {4: True}) == {}


@pytest.mark.parametrize(("scores", "differs"), [([-1, -1, -3, 0, 0], 0), ([-1, -2, -1, 0, 0], 1)])
def test_sentencepiece_merges_in_the_order_of_its_scores(scores: list[float], differs: int) -> None:
    """The model merges ``aa`` before ``ab``; the file has no merges, but a score of each token."""
    model = replace(MODEL, tokens={0: "a", 1: "aa", 2: "ab"}, merges=["a a", "a b"], added={})
    file = GgufTables("llama", ["a", "aa", "ab"], None, None, scores)
    found = compared_tables(file, model, {})["merges_digest"].difference
    assert (found is not None) == bool(differs)
    assert not found or found.startswith("token 'ab' has a higher score than 'aa'")


def test_a_unigram_vocabulary_is_a_list_of_pieces_with_scores() -> None:
    body = {"model": {"vocab": [["<unk>", 0.0], ["▁a", -1.5], ["b", -2.25]]}, "added_tokens": []}
    tables = tokenizer_tables(body)
    assert tables.tokens == {0: "<unk>", 1: "▁a", 2: "b"}
    file = GgufTables("t5", ["<unk>", "▁a", "b"], None, None, [0.0, -1.5, -2.25])
    assert compared_tables(file, tables, {})["scores_digest"].difference is None
    other = replace(file, scores=[0.0, -2.25, -1.5])
    assert compared_tables(other, tables, {})["scores_digest"].difference == (
        "score 1 is -2.25, the model has -1.5 (2 of 3 differ)"
    )


def test_a_model_with_a_unigram_vocabulary_has_facts(tmp_path: Path) -> None:
    for file in ("config.json", "tokenizer.json"):
        (tmp_path / file).write_bytes((TINY_CHAT / file).read_bytes())
    body = json.loads((tmp_path / "tokenizer.json").read_text())
    body["model"] = {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.0]], "unk_id": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(body))
    facts = model_facts(tmp_path, "structure", {})
    assert facts["scores_digest"] is not None
    assert facts["merges_digest"] is None


def test_merges_as_texts_and_as_pairs_are_the_same() -> None:
    pairs = {"model": {"vocab": {"a": 0}, "merges": [["a", "b c"]]}}
    texts = {"model": {"vocab": {"a": 0}, "merges": ["a bĠc"]}}
    assert tokenizer_tables(pairs).merges == tokenizer_tables(texts).merges


@pytest.mark.parametrize("vocabulary", [None, 3, ["a"], {"a": "x"}, [["a"]]])
def test_tables_in_another_form_are_refused(vocabulary: Any) -> None:
    with pytest.raises(ValueError, match="its vocabulary is invalid"):
        tokenizer_tables({"model": {"vocab": vocabulary}})


def test_end_tokens_that_one_side_has_alone_have_their_texts() -> None:
    known = known_facts(TINY_CHAT, "structure", {}, F32)
    value = known.value("eos_ids", {"seen": [1531, 0, 5000]})
    assert value is not None
    first = known.tokens[0]
    assert value["extra"] == {"0": first, "5000": None}
    assert value["missing"] == {"1528": "<|document_end|>"}
