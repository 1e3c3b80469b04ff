"""Ollama: OpenAI's API, and its own beneath ``/api``.

Not verified against a real server: written after its documentation and the types in its sources.

Its prompt comes from a template of its own (Go, or a renderer compiled in), never from the model's.
``/api/chat`` shows what that makes, but the chats that are judged go through OpenAI's endpoint, so
rendering is ``reenacted``. Token ids and whole distributions stay hidden.
"""

import hashlib
import json
import re
import time
from dataclasses import replace
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.base import Load, Reply, Request, Unseen
from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import HIDDEN_STAGES, Plain, answers, as_text
from runner.engines.servers.server_errors import ServerFailure
from runner.engines.shared.sampling_defaults import sampling_defaults
from runner.engines.shared.tokenizer_json import canonical_pre
from runner.engines.shown import Shown

#: A line of ``parameters``: a name, and a value that may stand in quotes.
_PARAMETER = re.compile(r"^(\w+)\s+(.+)$", re.MULTILINE)
#: Parameters of a Modelfile, and what they are called elsewhere.
_STATED = {
    **{name: name for name in ("temperature", "top_k", "top_p", "min_p", "typical_p")},
    "repeat_penalty": "repetition_penalty",
}


class Ollama(Plain):
    """One model of an Ollama server."""

    name = "ollama"
    shown = Shown(
        stages={
            **HIDDEN_STAGES,
            "config": "endpoint",
            "template": "reenacted",
            "state": "endpoint",
            "chain": "endpoint",
        },
        calls={
            "config": "POST /api/show, GET /api/ps",
            "template": "POST /api/chat, render only",
            "state": "POST chat/completions, several at once",
            "chain": "POST chat/completions",
        },
        scenarios=("chats",),
    )

    def __init__(self, load: Load, client: Client, model: str) -> None:
        super().__init__(load, client, model)
        shown = client.post("/api/show", {"model": model, "verbose": True})
        self._show: dict[str, Any] = shown if isinstance(shown, dict) else {}
        details = self._show.get("details")
        kind = details.get("quantization_level") if isinstance(details, dict) else None
        self.loaded = replace(self.loaded, compute_dtype=str(kind or "unknown").lower())

    def adapter(self) -> Adapter:
        return replace(super().adapter(), template=self)

    @classmethod
    def recognises(cls, client: Client, models: list[dict[str, Any]]) -> bool:
        version, tags = answers(client, "/api/version"), answers(client, "/api/tags")
        has_version = isinstance(version, dict) and isinstance(version.get("version"), str)
        return has_version and isinstance(tags, dict) and isinstance(tags.get("models"), list)

    def version(self) -> str | None:
        answer = answers(self.client, "/api/version")
        return str(answer["version"]) if isinstance(answer, dict) and "version" in answer else None

    def facts(self) -> dict[str, Any]:
        """Return what the loaded file says; the length is that of the loaded model, if stated."""
        meta = self._show.get("model_info")
        meta = meta if isinstance(meta, dict) else {}
        arch = str(meta.get("general.architecture") or "")
        of_file = {
            "architecture": meta.get("general.architecture"),
            "bos_id": meta.get("tokenizer.ggml.bos_token_id"),
            "add_bos": meta.get("tokenizer.ggml.add_bos_token"),
            "rope_theta": meta.get(f"{arch}.rope.freq_base"),
            "rms_eps": meta.get(f"{arch}.attention.layer_norm_rms_epsilon"),
            "sliding_window": meta.get(f"{arch}.attention.sliding_window"),
            "layers": meta.get(f"{arch}.block_count"),
            "heads": meta.get(f"{arch}.attention.head_count"),
            "kv_heads": meta.get(f"{arch}.attention.head_count_kv"),
            "model_name": meta.get("general.name"),
            "context_length": self._context_length(),
        }
        found = {name: value for name, value in of_file.items() if value is not None}
        for name in {"rope_theta", "rms_eps"} & found.keys():
            # The file keeps both as float32; seven digits are all that it can say.
            found[name] = float(f"{float(found[name]):.6g}")
        tokens = meta.get("tokenizer.ggml.tokens")
        if isinstance(tokens, list) and tokens and all(isinstance(t, str) for t in tokens):
            pieces = b"\0".join(t.encode("utf-8", "surrogatepass") for t in tokens)
            found["tokenizer_digest"] = hashlib.sha256(pieces).hexdigest()
            found["vocab_size"] = len(tokens)
        if meta.get("tokenizer.ggml.model") == "gpt2":
            found["pre_tokenizer"] = canonical_pre(str(meta.get("tokenizer.ggml.pre", "default")))
        if stated := self._parameters():
            found["sampling_defaults"] = sampling_defaults({**stated, "do_sample": True})
        if self.loaded.compute_dtype != "unknown":
            found["compute_dtype"] = self.loaded.compute_dtype
        return found

    def render(self, request: Request) -> str:
        if request.template_options:
            raise Unseen("hidden", "this server takes no options of the template")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [_native(m) for m in request.messages],
            "stream": False,
            "_debug_render_only": True,
        }
        if request.tools:
            body["tools"] = [dict(t) for t in request.tools]
        answer = self.client.post("/api/chat", body)
        info = answer.get("_debug_info") if isinstance(answer, dict) else None
        text = info.get("rendered_template") if isinstance(info, dict) else None
        if not isinstance(text, str):
            raise Unseen("hidden", "this version does not show what its template makes")
        return text

    def chat(self, request: Request) -> Reply:
        if request.prompt_text is None or request.script is not None or request.stream:
            return super().chat(request)
        if request.tools:
            raise Unseen("hidden", "this server parses answers to messages only")
        started = time.perf_counter()
        options = {"temperature": 0.0, "num_predict": request.max_tokens}
        body = {"model": self.model, "prompt": request.prompt_text, "raw": True, "stream": False}
        body["options"] = {**options, **({"stop": list(request.stop)} if request.stop else {})}
        answer = self.client.post("/api/generate", body)
        if not isinstance(answer, dict) or not isinstance(answer.get("response"), str):
            raise ServerFailure("/api/generate did not return a response")
        return Reply(
            prompt_ids=None,
            output_ids=None,
            text=answer["response"],
            message=None,
            finish_reason=as_text(answer.get("done_reason")),
            arrivals_s=[],
            total_s=time.perf_counter() - started,
            prompt_count=answer.get("prompt_eval_count"),
            output_count=answer.get("eval_count"),
        )

    def _context_length(self) -> int | None:
        running = answers(self.client, "/api/ps")
        models = running.get("models") if isinstance(running, dict) else None
        for model in models if isinstance(models, list) else ():
            if isinstance(model, dict) and self.model in (model.get("name"), model.get("model")):
                length = model.get("context_length")
                return length if isinstance(length, int) else None
        return None

    def _parameters(self) -> dict[str, float]:
        """Return the sampling that the model's own parameters ask for."""
        found = {}
        for name, value in _PARAMETER.findall(str(self._show.get("parameters") or "")):
            if name in _STATED and re.fullmatch(r"-?[\d.]+(e-?\d+)?", value.strip()):
                found[_STATED[name]] = float(value)
        return found


def _native(message: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAI message as ``/api/chat`` takes it: arguments as objects."""
    found = dict(message)
    if calls := found.get("tool_calls"):
        found["tool_calls"] = [_native_call(call) for call in calls]
    return found


def _native_call(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"])
        except ValueError:
            raise Unseen("hidden", "/api/chat takes no arguments that are no JSON") from None
    return {**call, "function": function}


DIALECT = Ollama
