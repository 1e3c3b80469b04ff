"""An engine's own server, started for one child: its command, its health, and its end.

It stays in the child's process group, which the supervisor kills as a whole, so nothing of it
outlives the child, whatever ends that. What it prints goes where the child's own words go.
"""

import atexit
import http.client
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.child.adapters.base import EngineGone, Load
from runner.child.adapters.llama_cpp_devices import chosen
from runner.child.adapters.llama_cpp_facts import GGML_F32
from runner.child.adapters.names import LONG_DTYPES
from runner.child.adapters.vllm_device import CPU_VARIABLES, VARIABLES

_HOST = "127.0.0.1"
#: No proxy stands between a machine and itself, whatever its environment says of others.
_HERE = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_POLL_S = 0.2
_ANSWER_S = 5.0
#: Part of the child's time that a server may take until it is ready.
_START_SHARE = 0.6

#: Where vLLM finds what lets the ids of a request come out.
_IN_VLLM = Path(__file__).parent / "in_vllm"
#: What the probes ask of vLLM's server; none of it changes an answer that does not ask for it.
_VLLM_PROBED: dict[str, Any] = {
    "max_logprobs": -1,
    "logits_processors": "fleetqual_forcing:Forced",
    "trust_request_chat_template": True,
    "enable_prompt_tokens_details": True,
    "enable_scale_out": True,
    "enable_tokenizer_info_endpoint": True,
}

Command = tuple[list[str], dict[str, str], dict[str, Any]]
"""Arguments, variables of the environment, and options that the probes needed by themselves."""


class Managed:
    """A running server; ``base_url`` is where it answers."""

    def __init__(self, load: Load) -> None:
        port = _free_port()
        arguments, variables, self.overrides = _COMMANDS[load.engine](load, port)
        self._host = f"{_HOST}:{port}"
        self.base_url = f"http://{self._host}/v1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            stderr=sys.stderr.fileno(),
            env={**os.environ, **variables},
        )
        atexit.register(self.close)
        self._wait(_HEALTH[load.engine], load.deadline_s * _START_SHARE)

    def close(self) -> None:
        """Ask the server to end, and end it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ended(self) -> str | None:
        """Say how the server ended; None while it runs."""
        code = self._process.poll()
        if code is not None and code < 0:
            return f"the server was ended by {signal.Signals(-code).name}"
        return None if code is None else f"the server ended with code {code}"

    def _wait(self, health: str, limit_s: float) -> None:
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            if how := self.ended():
                raise EngineGone(f"{how} before it was ready; its log says why")
            try:
                # Any whole answer will do: vLLM's is empty, and mlx_lm cannot list its models.
                _HERE.open(f"http://{self._host}{health}", timeout=_ANSWER_S).read()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(_POLL_S)
        self.close()
        raise EngineGone(f"the server was not ready within {limit_s:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _llama_cpp(load: Load, port: int) -> Command:
    options = dict(load.options)
    options.setdefault("n_gpu_layers", 0 if load.backend == "cpu" else -1)
    # The server has the same library, and would fall back to the CPU just as silently.
    chosen(importlib.import_module("llama_cpp"), load.backend, int(options["n_gpu_layers"]))
    overrides: dict[str, Any] = {}
    if load.pass_ == "structure":
        overrides = {"type_k": GGML_F32, "type_v": GGML_F32, "flash_attn": False}
    arguments = ["llama_cpp.server", "--model", load.path, "--host", _HOST, "--port", str(port)]
    for name, value in {**options, **overrides}.items():
        arguments += [f"--{name}", _written(value)]
    return arguments, {}, overrides


def _mlx(load: Load, port: int) -> Command:
    # It takes no option for the device, and would choose in silence.
    on_metal = importlib.import_module("mlx.core").metal.is_available()
    if on_metal != (load.backend == "metal"):
        chooses = "Metal" if on_metal else "the CPU"
        raise RuntimeError(f"mlx_lm's server computes on {chooses} here, not on {load.backend}")
    arguments = ["mlx_lm", "server", "--model", load.path, "--host", _HOST, "--port", str(port)]
    for name, value in load.options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            # A flag stands alone, and has none that undoes it.
            arguments += [flag] if value else []
        else:
            arguments += [flag, _written(value)]
    return arguments, {}, {}


def _vllm(load: Load, port: int) -> Command:
    """Start with what the probes use, all of it beside the stages; a timed pass goes without."""
    options, overrides = dict(load.options), dict[str, Any]()
    variables = dict(VARIABLES)
    if load.backend == "cpu":
        variables |= {k: v for k, v in CPU_VARIABLES.items() if k not in os.environ}
    if load.pass_ != "timed":
        overrides.update(_VLLM_PROBED)
        path = [str(_IN_VLLM), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Its second model runner takes logits processors of another kind.
        forcing = {"PYTHONPATH": os.pathsep.join(path), "VLLM_USE_V2_MODEL_RUNNER": "0"}
        variables |= {"VLLM_SERVER_DEV_MODE": "1", **forcing}
    if load.pass_ == "structure":
        overrides.update(dtype="float32", kv_cache_dtype="auto", enforce_eager=True)
    if "dtype" in options:
        options["dtype"] = LONG_DTYPES.get(options["dtype"], options["dtype"])
    if "tool_call_parser" in options:
        options.setdefault("enable_auto_tool_choice", True)
    arguments = ["vllm.entrypoints.openai.api_server", "--model", load.path]
    arguments += ["--host", _HOST, "--port", str(port)]
    for name, value in {**options, **overrides}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", _written(value)]
    if load.pass_ != "timed":
        overrides["model_runner"] = "v1"
    return arguments, variables, overrides


def _written(value: Any) -> str:
    """Return an option's value as servers read it: what has parts as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


#: Where a server says that it is ready.
_HEALTH = {"llama_cpp": "/v1/models", "mlx": "/health", "vllm": "/health"}
_COMMANDS: dict[str, Callable[[Load, int], Command]] = {
    "llama_cpp": _llama_cpp,
    "mlx": _mlx,
    "vllm": _vllm,
}
