"""What every adapter promises, on the real engine with the shipped model.

The adapters run where the engine lives, so each check is a short program for that interpreter.
"""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from runner.engines.abilities import ABILITIES, Scenarios
from runner.engines.registry import DECLARATIONS
from suites.stages import CHAIN, STAGES
from tests.engines import engine_python
from tests.paths import ROOT
from tests.runner.asking import ARTIFACTS, ENGINES, ask


@ENGINES
def test_prefill_and_decode_agree_with_each_other(engine: str) -> None:
    worst = ask(
        engine,
        "ids = adapter.tokenizer.encode_chat(adapter.template.render(Request(USER)))\n"
        "whole = adapter.distribution.prefill(ids)\n"
        "steps = adapter.distribution.decode(ids[:6], ids[6:])\n"
        "answer = float(np.abs(whole[5:-1] - steps).max())\n",
    )
    assert worst < 1e-3


@ENGINES
def test_asking_cold_changes_nothing_that_matters(engine: str) -> None:
    worst = ask(
        engine,
        "ids = adapter.tokenizer.encode_text('The river leaves the hill')\n"
        "prefill = adapter.distribution.prefill\n"
        "answer = float(np.abs(prefill(ids) - prefill(ids, cold=True)).max())\n",
    )
    assert worst < 1e-3


@ENGINES
def test_a_script_goes_through_the_engine_s_own_loop_and_stops_there(engine: str) -> None:
    text, reason, output, wanted = ask(
        engine,
        "until = adapter.vocabulary.ids_of('Hello there') + [adapter.vocabulary.eos_ids()[1]]\n"
        "script = until + adapter.vocabulary.ids_of(' never')\n"
        "reply = adapter.chat(Request(USER, max_tokens=len(script), script=script))\n"
        "answer = [reply.text, reply.finish_reason, reply.output_ids, until]\n",
    )
    assert (text, reason) == ("Hello there", "stop")
    assert output == wanted, "nothing of the script comes out behind its EOS"


@ENGINES
def test_streamed_and_whole_replies_are_the_same_and_arrivals_ascend(engine: str) -> None:
    whole, streamed, arrivals = ask(
        engine,
        "a = adapter.chat(Request(USER)); b = adapter.chat(Request(USER, stream=True))\n"
        "answer = [a.text, b.text, b.arrivals_s]\n",
    )
    assert whole == streamed == "7"
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 0


@ENGINES
def test_the_model_s_facts_are_loaded(engine: str) -> None:
    facts, eos = ask(engine, "answer = [adapter.facts(), adapter.vocabulary.eos_ids()]")
    assert facts["rope_theta"] == 500000.0
    assert facts["rms_eps"] == 1e-5
    assert facts["add_bos"] is True
    assert len(eos) == 2
    assert facts["eos_ids"] == eos


@ENGINES
def test_an_accelerator_that_is_not_there_is_refused_not_replaced(engine: str) -> None:
    message = ask(
        engine,
        "try:\n"
        f"    load_adapter(Load("
        f"        path={str(ARTIFACTS[engine])!r}, backend='metal',\n"
        f"        pass_='structure', weights_type='f32', engine=Engine('e', {engine!r})))\n"
        "    answer = 'it loaded'\n"
        "except RuntimeError as error:\n"
        "    answer = str(error)\n",
    )
    assert "metal" in message


def test_transformers_options_that_make_floors_are_benign() -> None:
    worst = ask(
        "transformers",
        "ids = adapter.tokenizer.encode_text('The river leaves the hill at dawn')\n"
        "forced = adapter.distribution\n"
        "truth, steps = forced.prefill(ids), forced.decode(ids[:4], ids[4:])\n"
        "answer = []\n"
        "for options in ({'padding': 5}, {'prefill_chunk': 3}, {'attn_implementation': 'eager'},\n"
        "                {'mkldnn': False}, {'threads': 1}):\n"
        "    other = make(**options).distribution\n"
        "    answer.append(float(np.abs(other.prefill(ids) - truth).max()))\n"
        "    answer.append(float(np.abs(other.decode(ids[:4], ids[4:]) - steps).max()))\n",
    )
    assert max(worst) < 1e-3


def test_rounded_activations_are_close_to_the_exact_ones_but_not_equal() -> None:
    worst = ask(
        "transformers",
        "ids = adapter.tokenizer.encode_text('The river leaves the hill at dawn')\n"
        "truth = adapter.distribution.prefill(ids)\n"
        "other = make(activations='q8_0').distribution\n"
        "answer = float(np.abs(other.prefill(ids) - truth).max())\n",
    )
    assert 1e-4 < worst < 5


@ENGINES
def test_what_comes_before_merging_is_stated(engine: str) -> None:
    facts = ask(engine, "answer = adapter.facts()")
    assert facts["pre_tokenizer"] == "llama-bpe"
    assert facts["normalizer"] == {"llama_cpp": "none", "transformers": "NFC"}[engine]


def test_llama_cpp_states_the_types_that_it_loaded_not_those_that_were_ordered() -> None:
    """The order claims q8_0 weights; the cache of quantised values needs flash attention."""
    found = ask(
        "llama_cpp",
        "load = Load(path=sys.argv[1], backend='cpu', pass_='deployed', weights_type='Q8_0',\n"
        "            engine=Engine('e', 'llama_cpp', options={'type_k': 8, 'type_v': 1,\n"
        "                          'flash_attn': True, 'n_ctx': 300}))\n"
        "other = load_adapter(load)\n"
        "answer = [[a.facts()[k] for k in ('compute_dtype', 'kv_dtype')] for a in (adapter, other)]"
        "\nanswer.append(other.facts()['context_length'])\n",
    )
    assert found == [["f32", "f32"], ["f32", "q8_0/f16"], 512]


def test_packed_weights_load_in_the_dtype_of_their_checkpoint() -> None:
    found = ask(
        "transformers",
        "load = Load(path=sys.argv[1], backend='cpu', pass_='deployed', weights_type='awq',\n"
        "            engine=Engine('e', 'transformers'))\n"
        "answer = load_adapter(load).loaded.compute_dtype\n",
    )
    assert found == "f32"


def test_an_unknown_dtype_is_refused_with_the_choices() -> None:
    message = ask(
        "transformers",
        "try:\n"
        "    answer = make(dtype='fp32').loaded.compute_dtype\n"
        "except ValueError as error:\n"
        "    answer = str(error)\n",
    )
    assert message == "option dtype is 'fp32'; choose one of bf16, f16, f32"


@ENGINES
def test_a_loaded_engine_has_the_abilities_that_it_declares(engine: str) -> None:
    """A matrix is checked against the declaration, before any engine is loaded."""
    names = [*ABILITIES, *(field.name for field in fields(Scenarios))]
    has = ask(engine, f"answer = [adapter.has(name) for name in {names}]")
    assert has == [DECLARATIONS[engine].shown.has(name) for name in names]


def test_every_declaration_names_every_stage() -> None:
    for declaration in DECLARATIONS.values():
        assert set(declaration.shown.stages) == {*STAGES, CHAIN}


def test_the_child_needs_nothing_but_numpy_and_the_engine() -> None:
    program = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "import runner.engines.child, runner.engines.registry\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'pydantic', 'pyarrow', 'ray',"
        " 'duckdb', 'psutil', 'suites', 'torch', 'llama_cpp'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_child_is_not_shadowed_by_a_foreign_runner(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("raise SystemExit('the foreign runner was imported')")
    done = subprocess.run(
        [engine_python("llama_cpp"), str(ROOT / "runner" / "engines")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        input=b"",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"no order on stdin" in done.stderr


def test_a_folder_of_an_engine_does_not_shadow_the_engine(tmp_path: Path) -> None:
    """Folders are named like the engines, so their parent must not be on the child's path."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, importlib.util, sys\n"
        "def report():\n"
        "    print('PATH', sys.path)\n"
        "    for name in ('llama_cpp', 'transformers', 'mlx', 'vllm', 'servers', 'shared'):\n"
        "        found = importlib.util.find_spec(name)\n"
        "        places = found and found.submodule_search_locations\n"
        "        print('FOUND', name, places and list(places))\n"
        "atexit.register(report)\n"
    )
    engines = ROOT / "runner" / "engines"
    done = subprocess.run(
        [engine_python("llama_cpp"), str(engines)],
        cwd=engines.parent,
        env={"PYTHONPATH": str(tmp_path)},
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    reported = [line for line in done.stderr.splitlines() if line.startswith(("PATH", "FOUND"))]
    assert len(reported) == 7, done.stderr
    assert str(engines) not in "\n".join(reported)
    assert "site-packages" in next(line for line in reported if " llama_cpp " in line)


def test_distribution_payloads_keep_all_of_the_probability() -> None:
    from runner.engines.probes.distribution import distribution_payload, mass_error

    logits = np.random.default_rng(0).normal(0, 5, (40, 300)).astype(np.float32)
    reference = distribution_payload(logits, np.zeros(40, np.int32), None)
    candidate = distribution_payload(logits, np.zeros(40, np.int32), reference["top_ids"])
    assert mass_error(reference) < 1e-6
    np.testing.assert_array_equal(candidate["ref_topk_logprobs"], reference["ref_topk_logprobs"])
    assert reference["top_ids"].shape == (40, 20)
    assert (np.diff(reference["ref_topk_logprobs"], axis=1) <= 0).all()
