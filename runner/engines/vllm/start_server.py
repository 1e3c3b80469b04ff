"""How vLLM's own server is started."""

import os
from pathlib import Path
from typing import Any

from runner.engines.base import Load
from runner.engines.servers.command import HOST, ServerCommand, written
from runner.engines.shared.names import LONG_DTYPES
from runner.engines.vllm.device import CPU_VARIABLES, VARIABLES

#: What the structure pass asks of vLLM.
STRUCTURE_OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "kv_cache_dtype": "auto",
    "enforce_eager": True,
}
#: The path that answers as soon as the server is ready.
HEALTH = "/health"
#: Where vLLM finds what lets the ids of a request come out.
_IN_SERVER = Path(__file__).parent / "in_server"
#: What the probes ask of vLLM's server; none of it changes an answer that does not ask for it.
_PROBED: dict[str, Any] = {
    "max_logprobs": -1,
    "logits_processors": "fleetqual_forcing:Forced",
    "trust_request_chat_template": True,
    "enable_prompt_tokens_details": True,
    "enable_scale_out": True,
    "enable_tokenizer_info_endpoint": True,
}


def command(load: Load, port: int) -> ServerCommand:
    """Start with what the probes use, all of it beside the stages; a timed pass goes without."""
    options, overrides = dict(load.engine.options), dict[str, Any]()
    variables = dict(VARIABLES)
    if load.backend == "cpu":
        variables |= {k: v for k, v in CPU_VARIABLES.items() if k not in os.environ}
    if load.pass_ != "timed":
        overrides.update(_PROBED)
        path = [str(_IN_SERVER), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Its second model runner takes logits processors of another kind.
        forcing = {"PYTHONPATH": os.pathsep.join(path), "VLLM_USE_V2_MODEL_RUNNER": "0"}
        variables |= {"VLLM_SERVER_DEV_MODE": "1", **forcing}
    if load.pass_ == "structure":
        overrides.update(STRUCTURE_OPTIONS)
    if "dtype" in options:
        options["dtype"] = LONG_DTYPES.get(options["dtype"], options["dtype"])
    if "tool_call_parser" in options:
        options.setdefault("enable_auto_tool_choice", True)
    arguments = ["vllm.entrypoints.openai.api_server", "--model", load.path]
    arguments += ["--host", HOST, "--port", str(port)]
    for name, value in {**options, **overrides}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", written(value)]
    if load.pass_ != "timed":
        overrides["model_runner"] = "v1"
    return ServerCommand(arguments, variables, overrides)
