"""What a model's own files say, and what is told of files that say it wrongly."""

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.engines.shared.tokenizer_json import canonical_pre, normalizer, pre_tokenizer
from runner.model.facts import model_facts
from suites.errors import UserError
from tests.paths import TINY_CHAT

_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def _model(folder: Path, name: str = "config.json", **values: Any) -> Path:
    """Copy the shipped model's small files with other values in one of them."""
    for file in _FILES:
        shutil.copy(TINY_CHAT / file, folder)
    body = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps(body))
    return folder


def _facts(folder: Path, pass_: str = "deployed", **options: Any) -> dict[str, Any]:
    return model_facts(folder, pass_, options)


def test_the_shipped_model_says() -> None:
    facts = _facts(TINY_CHAT, "structure")
    assert facts["rope_theta"] == 500000.0
    assert facts["eos_ids"] == [1528, 1531]
    assert facts["add_bos"] is True
    assert (facts["heads"], facts["kv_heads"]) == (4, 2)
    assert facts["compute_dtype"] == facts["kv_dtype"] == "f32"
    assert (facts["pre_tokenizer"], facts["normalizer"]) == ("llama-bpe", "NFC")
    assert facts["sampling_defaults"] == {}
    assert _facts(TINY_CHAT)["kv_dtype"] is None
    assert _facts(TINY_CHAT, n_ctx=300)["context_length"] == 300


def test_without_grouped_queries_there_are_as_many_key_heads(tmp_path: Path) -> None:
    assert _facts(_model(tmp_path, num_key_value_heads=None))["kv_heads"] == 4


@pytest.mark.parametrize(
    ("values", "theta"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, 7.0),
        ({"rope_parameters": None, "rope_theta": 9}, 9.0),
        ({"rope_parameters": None, "rope_scaling": {"factor": 8.0}, "rope_theta": 9}, 9.0),
        ({"rope_parameters": None, "rope_theta": None}, 10000.0),
        (
            {
                "rope_theta": None,
                "rope_parameters": {
                    "full_attention": {"rope_theta": 1e6},
                    "sliding_attention": {"rope_theta": 1e4},
                },
            },
            1e6,
        ),
    ],
)
def test_rope_theta_is_the_base_of_layers_that_see_everything(
    tmp_path: Path, values: dict[str, Any], theta: float | None
) -> None:
    assert _facts(_model(tmp_path, **values))["rope_theta"] == theta


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bos_token_id": "1"}, "bos_token_id is '1', expected an integer"),
        ({"num_hidden_layers": [4]}, "num_hidden_layers is"),
        ({"rope_theta": "big", "rope_parameters": None}, "rope_theta is 'big', expected a number"),
        ({"rope_parameters": [1]}, "rope_parameters is"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta is"),
        ({"rms_norm_eps": {}}, "rms_norm_eps is"),
        ({"sliding_window": True}, "sliding_window is True, expected an integer"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=r"config\.json") as caught:
        _facts(_model(tmp_path, **values))
    assert message in str(caught.value)


def test_wrong_end_tokens_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generation_config\.json: eos_token_id is .*, expected"):
        _facts(_model(tmp_path, "generation_config.json", eos_token_id=[1, "2"]))


@pytest.mark.parametrize(
    ("stated", "defaults"),
    [
        ({"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1, "min_p": None}, {}),
        (
            {"top_p": 0.8, "top_k": 20, "temperature": 1, "do_sample": True},
            {"do_sample": True, "top_k": 20, "top_p": 0.8},
        ),
        ({"repetition_penalty": 1.05, "max_length": 99}, {"repetition_penalty": 1.05}),
        ({"do_sample": "yes", "temperature": float("inf")}, {}),
    ],
)
def test_sampling_defaults_are_what_changes_the_distribution(
    tmp_path: Path, stated: dict[str, Any], defaults: dict[str, Any]
) -> None:
    found = _facts(_model(tmp_path, "generation_config.json", **stated))["sampling_defaults"]
    assert json.dumps(found) == json.dumps(defaults)


def test_a_model_without_a_generation_config_states_no_sampling(tmp_path: Path) -> None:
    (_model(tmp_path) / "generation_config.json").unlink()
    facts = _facts(tmp_path)
    assert facts["sampling_defaults"] == {}
    assert facts["eos_ids"] == [1528, 1531]


def test_sampling_defaults_of_the_wrong_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"generation_config\.json: top_p is 'high', expected a num"
    ):
        _facts(_model(tmp_path, "generation_config.json", top_p="high"))


@settings(deadline=None, max_examples=60)  # files are written: slow now and then
@given(
    st.sampled_from(_FILES),
    st.sampled_from(
        [
            *("model_type", "vocab_size", "bos_token_id", "eos_token_id", "rope_parameters"),
            *("rope_scaling", "rope_theta", "rms_norm_eps", "max_position_embeddings"),
            *("sliding_window", "num_hidden_layers", "num_attention_heads", "chat_template"),
            *("num_key_value_heads", "use_sliding_window", "post_processor", "model"),
            *("added_tokens", "pre_tokenizer", "normalizer", "temperature", "top_k", "do_sample"),
        ]
    ),
    _JSON,
)
def test_files_of_any_shape_give_facts_or_a_user_s_error(file: str, key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _model(Path(folder), file, **{key: value})
        with suppress(UserError):
            json.dumps(_facts(Path(folder)))


# What comes before merging

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(regex: str) -> dict[str, Any]:
    steps = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"},
        {"type": "ByteLevel", "use_regex": False},
    ]
    return {"type": "Sequence", "pretokenizers": steps}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (_split(_QWEN2), "qwen2"),
        (_split(_QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")), "llama-bpe"),
        ({"type": "ByteLevel", "add_prefix_space": False}, "gpt-2"),
        (_split(r"\s+"), None),
        ({"type": "Metaspace"}, None),
        (None, None),
    ],
)
def test_a_known_pre_tokenizer_has_llama_cpp_s_name(part: Any, name: str | None) -> None:
    assert pre_tokenizer({"pre_tokenizer": part}) == name


def test_synonyms_of_a_pre_tokenizer_are_one_name() -> None:
    assert canonical_pre("llama-v3") == "llama-bpe"
    assert canonical_pre("tekken") == "tekken"


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (None, "none"),
        ({"type": "NFC"}, "NFC"),
        (
            {"type": "Sequence", "normalizers": [{"type": "Prepend"}, {"type": "Replace"}]},
            "Prepend+Replace",
        ),
    ],
)
def test_a_normalizer_is_named_by_its_steps(part: Any, name: str) -> None:
    assert normalizer({"normalizer": part}) == name
