"""llama.cpp in process, through llama-cpp-python: one ``Llama``, and the parts that ask it."""

import importlib
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.base import Load, Loaded
from runner.engines.llama_cpp.chat_path import ChatPath
from runner.engines.llama_cpp.declaration import DECLARATION
from runner.engines.llama_cpp.devices import chosen
from runner.engines.llama_cpp.distribution import LlamaDistribution
from runner.engines.llama_cpp.facts import kv_type, loaded_facts, stored_type
from runner.engines.llama_cpp.sampling import LlamaSampler
from runner.engines.llama_cpp.state import LlamaScenarios


def make_adapter(load: Load) -> Adapter:
    """Load a GGUF file and return what it can be asked."""
    lib = importlib.import_module("llama_cpp")
    options, overrides = dict(load.engine.options), dict[str, Any]()
    options.setdefault("n_gpu_layers", 0 if load.backend == "cpu" else -1)
    device = chosen(lib, load.backend, int(options["n_gpu_layers"]))
    if load.pass_ != "timed":
        overrides["logits_all"] = True
    if load.pass_ == "structure":
        overrides.update(DECLARATION.structure_options)
    llama = lib.Llama(load.path, verbose=False, **{**options, **overrides})
    path = ChatPath(lib, llama)
    loaded = Loaded(
        engine_version=lib.__version__,
        engine_build=lib.llama_print_system_info().decode(),
        compute_dtype=stored_type(lib, llama),
        kv_dtype=kv_type(llama),
        device_uuids=[],
        overrides=overrides,
        device=device,
    )
    return Adapter(
        loaded=loaded,
        shown=DECLARATION.shown,
        facts=lambda: loaded_facts(lib, llama, options, loaded, path.eos_ids()),
        chat=path.chat,
        template=path,
        tokenizer=path,
        vocabulary=path,
        distribution=LlamaDistribution(llama),
        sampler=LlamaSampler(llama),
        scenarios=LlamaScenarios(lib, llama, path.eos_ids()).scenarios(),
    )
