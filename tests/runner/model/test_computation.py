"""The function digest: one for all spellings, another for every fact that has an effect."""

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model.artifact import model_digests
from runner.model.computation import computation, computation_digest, function_digest
from runner.model.computation_tables import DEFAULTS, WITHOUT_EFFECT
from runner.model.folder import model_folder
from suites.digest import canonical_json
from suites.errors import UserError
from tests.engines import engine_python
from tests.paths import TINY_CHAT

#: What has no default: every file states it.
SIZES = {
    **{"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4},
    **{"num_attention_heads": 4, "max_position_embeddings": 512},
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
LLAMA_3 = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 128,
}
SCALINGS = [
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0},
    YARN,
    {**LONGROPE, "original_max_position_embeddings": 128},
    LLAMA_3,
]
kinds = st.sampled_from(sorted(DEFAULTS))
scalings = st.sampled_from([None, *SCALINGS])


def form(kind: str = "llama", **stated: Any) -> str:
    """Return the canonical form of a file that states the sizes and these keys."""
    return canonical_json(computation({"model_type": kind, **SIZES, **stated}))


# Spellings of one computation


@given(kind=kinds, scaling=scalings, order=st.randoms())
def test_the_order_of_keys_is_nothing(kind: str, scaling: Any, order: Any) -> None:
    stated = list({"model_type": kind, **SIZES, "rope_scaling": scaling}.items())
    order.shuffle(stated)
    assert canonical_json(computation(dict(stated))) == form(kind, rope_scaling=scaling)


@given(kind=kinds, data=st.data())
def test_a_written_default_is_a_missing_key(kind: str, data: Any) -> None:
    defaults = DEFAULTS[kind]
    chosen = data.draw(st.lists(st.sampled_from(sorted(defaults)), unique=True))
    assert form(kind, **{name: defaults[name] for name in chosen}) == form(kind)


@given(
    kind=kinds, key=st.sampled_from(["rope_scaling", "layer_types", "some_new_key", "num_heads"])
)
def test_null_is_a_missing_key(kind: str, key: str) -> None:
    assert form(kind, **{key: None}) == form(kind)


@given(kind=kinds, key=st.sampled_from(sorted(WITHOUT_EFFECT)), value=st.integers() | st.text())
def test_keys_without_effect_are_left_out(kind: str, key: str, value: Any) -> None:
    assert form(kind, **{key: value}) == form(kind)


@given(theta=st.integers(2, 2_000_000), scaling=scalings)
def test_the_rope_base_may_stand_in_any_of_three_places(theta: int, scaling: Any) -> None:
    whole = {**(scaling or {}), "rope_theta": theta}
    assert form(rope_theta=theta, rope_scaling=scaling) == form(rope_parameters=whole)
    assert form(rope_theta=float(theta), rope_parameters=scaling) == form(rope_parameters=whole)
    assert form(rope_scaling=whole) == form(rope_parameters=whole)


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["rope_type"])
def test_scaling_may_have_its_name_of_before(scaling: dict[str, Any]) -> None:
    old = {("type" if key == "rope_type" else key): value for key, value in scaling.items()}
    assert form(rope_scaling=old) == form(rope_scaling=scaling)
    assert form(rope_scaling={**scaling, **old}) == form(rope_scaling=scaling)


def test_scaling_of_type_default_is_none() -> None:
    assert form(rope_scaling={"type": "default"}) == form(rope_theta=10000.0) == form()


def test_the_context_length_counts_only_where_scaling_depends_on_it() -> None:
    def longer(**stated: Any) -> bool:
        return form(**stated) != form(**{**stated, "max_position_embeddings": 1024})

    assert not longer()
    assert not longer(rope_scaling={"rope_type": "linear", "factor": 2.0})
    assert not longer(rope_scaling=YARN)
    assert longer(rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    assert longer(rope_scaling={**LONGROPE, "original_max_position_embeddings": 128})
    without = {key: value for key, value in YARN.items() if not key.startswith("original")}
    assert longer(rope_scaling=without)
    assert form(rope_scaling=without) == form(
        rope_scaling={**YARN, "original_max_position_embeddings": 512}
    )


def test_defaults_of_a_scaling_may_be_written() -> None:
    written = {**YARN, "beta_fast": 32, "beta_slow": 1.0, "truncate": True}
    assert form(rope_scaling=written) == form(rope_scaling=YARN)


def test_phi_3_has_its_own_places_and_names() -> None:
    outside = form("phi3", rope_scaling=LONGROPE, original_max_position_embeddings=128)
    inside = {**LONGROPE, "original_max_position_embeddings": 128}
    assert outside == form("phi3", rope_scaling=inside, original_max_position_embeddings=128)
    for name in ("su", "yarn"):
        old = {**LONGROPE, "rope_type": name}
        assert outside == form("phi3", rope_scaling=old, original_max_position_embeddings=128)


def test_gemma_3_may_nest_its_rope_by_kind_of_layer() -> None:
    linear = {"rope_type": "linear", "factor": 8.0}
    nested = {
        "full_attention": {**linear, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    flat = {"rope_theta": 1e6, "rope_local_base_freq": 10000, "rope_scaling": linear}
    assert form("gemma3_text", **flat) == form("gemma3_text", rope_parameters=nested)
    assert form("gemma3_text", **flat) != form("gemma3_text")


@pytest.mark.parametrize(
    ("kind", "stated", "windowed"),
    [
        ("mistral", {"sliding_window": 64}, [0, 1, 2, 3]),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}, [2, 3]),
        ("gemma2", {}, [0, 2]),
        ("gemma3_text", {"sliding_window_pattern": 2}, [0, 2]),
    ],
)
def test_layers_with_a_window_may_be_listed(
    kind: str, stated: dict[str, Any], windowed: list[int]
) -> None:
    names = ["sliding_attention" if i in windowed else "full_attention" for i in range(4)]
    assert form(kind, **stated, layer_types=names) == form(kind, **stated)
    assert form(
        kind, **stated, layer_types=[names[1], names[0], *names[2:3], "full_attention"]
    ) != (form(kind, **stated))


def test_a_window_that_is_switched_off_has_no_size() -> None:
    for kind in ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe"):
        assert form(kind, sliding_window=77, max_window_layers=1) == form(kind)
        assert form(kind, use_sliding_window=True, sliding_window=None) == form(kind)


def test_a_window_of_layers_of_an_unknown_kind_counts() -> None:
    layers = ["local_attention", "full_attention"]
    one = form("strange", layer_types=layers, sliding_window=64, num_hidden_layers=2)
    assert one != form("strange", layer_types=layers, sliding_window=128, num_hidden_layers=2)


def test_null_switches_a_window_off() -> None:
    window = {"sliding_window": 64, "max_window_layers": 0}
    off = form("qwen2", use_sliding_window=None, **window)
    assert off == form("qwen2", use_sliding_window=False, **window)
    assert off != form("qwen2", use_sliding_window=True, **window)


def test_null_is_no_window_where_the_default_is_one() -> None:
    assert form("mistral", sliding_window=None) != form("mistral")


def test_other_names_of_one_key() -> None:
    assert form("gemma2", hidden_activation="silu") == form("gemma2", hidden_act="swish")
    assert form("mixtral", num_local_experts=4) == form("mixtral", num_experts=4)
    assert form("gpt_neox", rotary_pct=0.5) == form("gpt_neox", partial_rotary_factor=0.5)
    assert form("gpt_neox", rotary_emb_base=500) == form("gpt_neox", rope_theta=500)
    assert form(n_head=4, n_embd=64) == form()


def test_two_names_that_disagree_are_both_kept() -> None:
    both = {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}
    assert (
        len({form("gemma2", **both), form("gemma2", hidden_activation="gelu"), form("gemma2")}) == 3
    )


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_heads_that_follow_from_other_numbers_may_be_written(kind: str) -> None:
    given_heads = {"num_key_value_heads": 4, "head_dim": 16}
    left_out = {"num_key_value_heads": None, "head_dim": None}
    assert form(kind, **given_heads) == form(kind, **left_out)


def test_numbers_are_compared_as_engines_keep_them() -> None:
    assert form(rms_norm_eps=9.999999747378752e-06) == form(rms_norm_eps=1e-5)
    assert form(rms_norm_eps=1.1e-5) != form(rms_norm_eps=1e-5)


def test_the_text_part_of_a_model_of_several_inputs_counts() -> None:
    inner = {"model_type": "gemma3_text", **SIZES}
    outer = {"model_type": "gemma3", "text_config": inner, "vision_config": {"hidden_size": 9}}
    assert canonical_json(computation(outer)) == form("gemma3_text")


# Facts with an effect


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["rope_type"])
def test_every_number_of_a_scaling_counts(scaling: dict[str, Any]) -> None:
    base = form(rope_scaling=scaling)
    assert base != form()
    for key, value in scaling.items():
        other = [9.0, *value[1:]] if isinstance(value, list) else 3
        changed = {**scaling, key: "linear" if key == "rope_type" else other}
        if changed != scaling:
            assert form(rope_scaling=changed) != base, key


@given(kind=kinds, data=st.data())
def test_every_known_fact_counts(kind: str, data: Any) -> None:
    key = data.draw(st.sampled_from(sorted(DEFAULTS[kind])))
    switched = {"use_sliding_window": True, "max_window_layers": 2} if "qwen" in kind else {}
    base = form(kind, **switched)
    if key in switched:
        switched = {**switched, key: {"use_sliding_window": False, "max_window_layers": 3}[key]}
        if kind == "qwen3_moe" and key == "max_window_layers":
            return
        assert form(kind, **switched) != base
        return
    if key == "original_max_position_embeddings":
        return  # only with scaling, which has a test of its own
    value = DEFAULTS[kind][key]
    other = not value if isinstance(value, bool) else [1] if isinstance(value, list) else 3
    assert form(kind, **switched, **{key: other}) != base


@given(kind=kinds, key=st.text(min_size=3), value=st.integers() | st.text() | st.booleans())
def test_a_key_that_nobody_knows_counts(kind: str, key: str, value: Any) -> None:
    made_up = f"new_{key}"
    assert form(kind, **{made_up: value}) != form(kind)


@given(kind=st.text())
def test_any_architecture_has_a_form_and_another_one_has_another(kind: str) -> None:
    assert form(kind) != form(f"{kind}_2")


def test_weights_and_computation_are_both_in_the_function() -> None:
    known = {function_digest(w, c) for w in ("w1:a", "w1:b") for c in ("cp1:a", "cp1:b")}
    assert len(known) == 4
    assert all(digest.startswith("fn1:") for digest in known)


@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention", "top_k", "temperature"])
def test_a_key_with_an_effect_in_some_architectures_counts_where_it_is_set(key: str) -> None:
    assert form(**{key: True}) != form()


# Files


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
    key=st.sampled_from(
        [
            *(*SIZES, "rope_scaling", "rope_parameters", "rope_theta", "rope_local_base_freq"),
            *("layer_types", "sliding_window", "max_window_layers", "text_config", "model_type"),
            *("hidden_act", "partial_rotary_factor", "original_max_position_embeddings"),
        ]
    ),
    kind=kinds,
)
def test_values_of_any_type_have_a_digest(
    kind: str, key: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    text = json.dumps({"model_type": kind, **SIZES, key: value})
    (folder / "config.json").write_text(text)
    found = ""
    with contextlib.suppress(UserError):
        found = computation_digest(folder)
    # Only what no JSON file can hold has none.
    assert found.startswith("cp1:") or "Infinity" in text


def test_a_folder_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        computation_digest(tmp_path)


def test_a_gguf_that_is_taken_as_the_model_has_the_function_of_its_folder(tmp_path: Path) -> None:
    made = model_folder(TINY_CHAT / "tiny-chat-f32.gguf", tmp_path)
    assert computation_digest(made.path) == computation_digest(TINY_CHAT)
    assert model_digests(made.path)[0] == model_digests(TINY_CHAT)[0]


_LOAD = """
import json, sys
from transformers import AutoConfig
print(json.dumps([AutoConfig.from_pretrained(path).to_dict() for path in sys.argv[1:]]))
"""


def test_a_file_that_transformers_reads_and_writes_again_has_the_same_form(tmp_path: Path) -> None:
    asked = [{"model_type": kind, **SIZES} for kind in sorted(DEFAULTS)]
    asked += [{**asked[0], "model_type": "llama", "rope_scaling": s} for s in SCALINGS]
    asked += [{**asked[0], "model_type": "llama", "rope_theta": 500.0, "rope_scaling": YARN}]
    asked += [{**asked[0], "model_type": "llama", "rope_parameters": {**YARN, "rope_theta": 7.0}}]
    windows = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}
    asked += [{"model_type": kind, **SIZES, **windows} for kind in ("qwen2", "qwen3", "qwen3_moe")]
    phi = {"rope_scaling": LONGROPE, "original_max_position_embeddings": 128}
    asked += [{"model_type": "phi3", **SIZES, **phi}]
    gemma = {"rope_scaling": SCALINGS[0], "rope_local_base_freq": 99.0, "sliding_window_pattern": 2}
    asked += [{"model_type": "gemma3_text", **SIZES, **gemma}]
    asked += [json.loads((TINY_CHAT / "config.json").read_text())]
    folders = [tmp_path / str(index) for index in range(len(asked))]
    for folder, stated in zip(folders, asked, strict=True):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(stated))
    done = subprocess.run(
        [engine_python("transformers"), "-c", _LOAD, *map(str, folders)],
        capture_output=True,
        text=True,
        check=True,
    )
    for stated, read in zip(asked, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert computation(read) == computation(stated), stated
