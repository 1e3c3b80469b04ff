"""vLLM in process, on one device: one ``vllm.LLM``, and the parts that ask it.

The engine's core runs in this process, so that spies can stand between its parts.
"""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.base import Load, Loaded
from runner.engines.shared.names import LONG_DTYPES, dtype_name
from runner.engines.vllm import device
from runner.engines.vllm.chat_path import ChatPath
from runner.engines.vllm.declaration import DECLARATION
from runner.engines.vllm.facts import loaded_facts
from runner.engines.vllm.parsers import Parsers
from runner.engines.vllm.sampling import VllmSampler
from runner.engines.vllm.state import VllmScenarios
from runner.engines.vllm.watch import Watch, forcing

#: Options that are the chat path's or the server's, not the engine's.
_OURS = ("chat_template_content_format", "tool_call_parser", "reasoning_parser")


def make_adapter(load: Load) -> Adapter:
    """Load a model in vLLM, and return what it can be asked.

    Options are vLLM's own engine arguments; ``dtype`` may be f32, f16 or bf16, too. Without
    ``dtype`` vLLM chooses, and it chooses 16 bits for a float32 checkpoint. ``tool_call_parser``
    and ``reasoning_parser`` name parsers as its server's flags do; without them nothing is parsed.
    """
    timed, options = load.pass_ == "timed", load.engine.options
    device.prepare(load.backend, watched=not timed)
    overrides: dict[str, Any] = {}
    if not timed:
        overrides.update(model_runner="v1", async_scheduling=False)
    if load.pass_ == "structure":
        overrides.update(DECLARATION.structure_options)
    torch, lib = importlib.import_module("torch"), importlib.import_module("vllm")
    device.refuse_other(torch, lib, load.backend)
    arguments = {k: v for k, v in options.items() if k not in _OURS}
    if "dtype" in arguments:
        arguments["dtype"] = LONG_DTYPES.get(arguments["dtype"], arguments["dtype"])
    arguments.update({k: v for k, v in overrides.items() if k != "model_runner"})
    if not timed:
        processors = importlib.import_module("vllm.v1.sample.logits_processor")
        arguments["logits_processors"] = [forcing(processors)]
    llm = lib.LLM(model=load.path, **arguments)
    engine = llm.llm_engine
    runner = engine.model_executor.driver_worker.worker.model_runner
    scenarios = VllmScenarios(lib, llm, None if timed else Watch(torch, runner))
    tool, reasoning = options.get("tool_call_parser"), options.get("reasoning_parser")
    parsers = Parsers(llm, tool, reasoning) if tool or reasoning else None
    content_format = options.get("chat_template_content_format", "auto")
    path = ChatPath(lib, llm, parsers, content_format, forces=not timed)
    shown = DECLARATION.shown
    if parsers is None:
        shown = replace(shown, stages={**shown.stages, "parse": "absent"})
    loaded = Loaded(
        engine_version=lib.__version__,
        engine_build=device.build(torch),
        compute_dtype=dtype_name(next(runner.get_model().parameters()).dtype),
        kv_dtype=dtype_name(runner.kv_caches[0].dtype),
        device_uuids=device.uuids(torch, load.backend),
        overrides=overrides,
        device=device.described(torch, load.backend),
    )

    def facts() -> dict[str, Any]:
        tokenizer = llm.get_tokenizer()
        return loaded_facts(engine, tokenizer, Path(load.path), loaded, path.eos_ids())

    return Adapter(
        loaded=loaded,
        shown=shown,
        facts=facts,
        chat=path.chat,
        template=path,
        tokenizer=path,
        vocabulary=path,
        distribution=scenarios,
        sampler=VllmSampler(lib, scenarios),
        scenarios=scenarios.scenarios(),
    )
