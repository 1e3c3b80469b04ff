"""The stage probes: each asks one stage of the engine for its answer to the truth's input.

The truth's input to a stage comes with the order, so an upstream fault cannot cascade into a later
stage. When a reference is frozen there is no truth yet: then each stage takes what this engine
itself made before it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from runner.engines.abilities import Adapter
from runner.engines.orders import CaseInput
from runner.engines.probes import logits as forced
from runner.engines.probes import prompt as prompts
from runner.engines.probes import scripted
from runner.engines.probes.chain import chain
from runner.engines.probes.cures import cures
from runner.engines.probes.freezing import make_answers, with_own_truth
from runner.engines.probes.sampling import sampling
from runner.engines.probes.state import state
from runner.engines.probes.subject import StageProbe, Subject, caught
from runner.engines.trace import OBSERVED, Trace

#: Called with the name of each stage before it is probed.
OnStage = Callable[[str], None]

#: Facts that the model's files state, and every engine should have loaded.
FACTS = (
    "architecture",
    "vocab_size",
    "bos_id",
    "eos_ids",
    "add_bos",
    "rope_theta",
    "rope_theta_windowed",
    "rope_scaling",
    "rope_dims",
    "rms_eps",
    "layer_norm_eps",
    "context_length",
    "sliding_window",
    "windowed_layers",
    "layers",
    "hidden_size",
    "feed_forward_size",
    "heads",
    "kv_heads",
    "head_dim",
    "attention_scale",
    "attention_softcap",
    "final_softcap",
    "activation",
    "tied_head",
    "parallel_residual",
    "experts",
    "experts_used",
    "expert_feed_forward_size",
    "shared_expert_size",
    "expert_weights_normalised",
    "dense_layers",
    "compute_dtype",
    "kv_dtype",
    "template_digest",
    "tokenizer_digest",
    "tokens_digest",
    "merges_digest",
    "scores_digest",
    "token_flags_digest",
    "pre_tokenizer",
    "normalizer",
    "sampling_defaults",
    "model_name",
    "not_compared",
)
_PROBES: dict[str, StageProbe] = {
    "template": prompts.template,
    "tokenize": prompts.tokenize,
    "logits": forced.logits,
    "state": state,
    "sampling": sampling,
    "stop": scripted.stop,
    "detokenize": scripted.detokenize,
    "parse": scripted.parse,
    "chain": chain,
}


def probe_engine(
    subject: Subject, cases: Sequence[CaseInput], stages: set[str], on_stage: OnStage
) -> Iterator[Trace]:
    """Probe what needs no case of its own: the instrument and the configuration."""
    stages = stages & shown_stages(subject.adapter)
    if "instrument" in stages:
        on_stage("instrument")
        yield from _timed(forced.instrument(subject, cases))
    if "config" in stages:
        on_stage("config")
        yield from _timed(_config(subject.adapter))


def probe_cell(subject: Subject, cases: Sequence[CaseInput], on_stage: OnStage) -> Iterator[Trace]:
    """Probe every case of a cell, stage by stage; an exception becomes the error of its trace."""
    shown = shown_stages(subject.adapter)
    if subject.freeze:
        for _ in make_answers(subject, cases):
            on_stage("answers")
    for stage, probe in _PROBES.items():
        chosen = [c for c in cases if c.stage == stage and (subject.freeze or stage in shown)]
        if chosen:
            on_stage(stage)
        for case in chosen:
            yield from _timed(caught(_asked(subject, case, probe), stage, case.id, "*"))
    yield from _timed(cures(subject))


def shown_stages(adapter: Adapter) -> set[str]:
    """Return the stages that the engine shows as it is served."""
    return {stage for stage, how in adapter.shown.stages.items() if how in OBSERVED}


def _asked(subject: Subject, case: CaseInput, probe: StageProbe) -> Iterator[Trace]:
    if subject.freeze:
        case = with_own_truth(subject, case)
    yield from probe(subject, case)


def _config(adapter: Adapter) -> Iterator[Trace]:
    facts = list(caught(_facts(adapter), "config", "*", "fact"))
    if facts[-1].case_id != "*":
        yield from facts
        return
    for name in FACTS:
        yield replace(facts[-1], case_id=f"config/{name}")


def _facts(adapter: Adapter) -> Iterator[Trace]:
    facts = adapter.facts()
    for name in FACTS:
        trace = Trace("config", f"config/{name}", "fact")
        if name in facts:
            trace.value = {"seen": facts[name]}
        else:
            trace.unseen = "hidden"
        yield trace


def _timed(probes: Iterator[Trace]) -> Iterator[Trace]:
    """Note the wall time of each probe."""
    while True:
        started = time.perf_counter()
        trace = next(probes, None)
        if trace is None:
            return
        trace.seconds = time.perf_counter() - started
        yield trace
