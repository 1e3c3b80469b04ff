"""What vLLM's server says of itself, in the names in which facts are compared.

A server in development mode, as a managed one is, states its configuration; any other states its
version, the length of its context and what its tokenizer does.
"""

import hashlib
from pathlib import PurePath
from typing import Any

from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import answers
from runner.engines.shared.names import dtype_name

#: What vLLM calls the device of a backend.
_DEVICES = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "cpu": "cpu"}


class ServerStatements:
    """The answers of a server about itself; each is empty where it gives none."""

    def __init__(self, client: Client) -> None:
        info = _dict(answers(client, "/server_info?config_format=json"))
        listed = _dict(answers(client, "models")).get("data")
        self.model = _dict(listed[0] if isinstance(listed, list) and listed else None)
        self.tokenizer = _dict(answers(client, "/tokenizer_info"))
        self._config = _dict(info.get("vllm_config"))
        self._system = _dict(info.get("system_env"))

    def refuse_other(self, backend: str) -> None:
        """Raise rather than let another device pass for the backend of the cell."""
        device = self._part("device_config").get("device")
        named = str(device).partition(":")[0]
        if device is not None and named != _DEVICES.get(backend):
            raise RuntimeError(f"this vLLM computes on {device}, not on {backend}")

    def compute_dtype(self) -> str | None:
        return _short(self._part("model_config").get("dtype"))

    def kv_dtype(self) -> str | None:
        stated = self._part("cache_config").get("cache_dtype")
        return self.compute_dtype() if stated == "auto" else _short(stated)

    def build(self) -> str:
        named = {
            "torch": self._system.get("torch_version"),
            "cuda": self._system.get("cuda_compiled_version"),
            "hip": self._system.get("hip_compiled_version"),
            "device": self._system.get("nvidia_gpu_models"),
        }
        return ", ".join(f"{k} {v}" for k, v in named.items() if v and v != "N/A")

    def added_ids(self) -> list[int]:
        """Return the ids of tokens that were added to the vocabulary, the special ones among."""
        return sorted(int(i) for i in _dict(self.tokenizer.get("added_tokens_decoder")))

    def batched_tokens(self) -> int | None:
        found = self._part("scheduler_config").get("max_num_batched_tokens")
        return found if isinstance(found, int) else None

    def facts(self) -> dict[str, Any]:
        """Return facts by name; those that the server does not state are left out."""
        found = {
            "context_length": self.model.get("max_model_len"),
            "compute_dtype": self.compute_dtype(),
            "kv_dtype": self.kv_dtype(),
        }
        if root := self.model.get("root"):
            found["model_name"] = PurePath(root).name
        if template := self.tokenizer.get("chat_template"):
            found["template_digest"] = hashlib.sha256(template.encode()).hexdigest()
        return {name: value for name, value in found.items() if value is not None}

    def _part(self, name: str) -> dict[str, Any]:
        return _dict(self._config.get(name))


def _short(dtype: Any) -> str | None:
    return None if dtype is None else dtype_name(dtype)


def _dict(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
