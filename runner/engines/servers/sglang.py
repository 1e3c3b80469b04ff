"""SGLang: OpenAI's API, and its own ``/generate``, which takes ids and returns log-probs.

Not verified against a real server: written after its documentation and its sources.

Where the log-probs of a whole vocabulary are asked for, its size must be known beforehand: it is
taken from the model's own ``config.json``, since the server does not state it. Without that file,
and for sizes that JSON cannot carry, distributions stay hidden. Scripts could be forced only by a
regular expression, as text: that is not done here.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from runner.engines.abilities import Adapter
from runner.engines.base import Load, Logits, Reply, Request, Unseen
from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import (
    HIDDEN_STAGES,
    Plain,
    answers,
    as_text,
    listed_ids,
    numbered,
)
from runner.engines.servers.server_errors import Refused, ServerFailure
from runner.engines.shown import Shown

_TYPES = {"float32": "f32", "float16": "f16", "half": "f16", "bfloat16": "bf16"}
#: Log-probs that one call may ask for: each is about 40 bytes of JSON.
_MOST_LOGPROBS = 4_000_000


class SGLang(Plain):
    """One ``python -m sglang.launch_server``."""

    name = "sglang"
    shown = Shown(
        stages={
            **HIDDEN_STAGES,
            "instrument": "endpoint",
            "config": "endpoint",
            "tokenize": "reenacted",
            "logits": "endpoint",
            "state": "endpoint",
            "sampling": "not_probed",
            "chain": "endpoint",
        },
        calls={
            "instrument": "POST /generate with input_ids and return_logprob",
            "config": "GET /get_server_info, GET /get_model_info",
            "tokenize": "POST /tokenize",
            "logits": "POST /generate with input_ids and return_logprob",
            "state": "POST chat/completions, several at once",
            "chain": "POST chat/completions",
        },
        scenarios=("chats",),
    )
    takes_template_options = True

    def __init__(self, load: Load, client: Client, model: str) -> None:
        self._info = _either(client, "/get_server_info", "/server_info")
        super().__init__(load, client, model)
        self._size = _vocabulary(load.path)
        kind = str(self._info.get("dtype") or "unknown")
        cache = str(self._info.get("kv_cache_dtype") or "unknown")
        self.loaded = replace(
            self.loaded,
            compute_dtype=_TYPES.get(kind, "unknown"),
            kv_dtype=_TYPES.get(kind if cache == "auto" else cache, "unknown"),
        )

    def adapter(self) -> Adapter:
        return replace(super().adapter(), tokenizer=self, vocabulary=self, distribution=self)

    @classmethod
    def recognises(cls, client: Client, models: list[dict[str, Any]]) -> bool:
        return "model_path" in _either(client, "/get_model_info", "/model_info") and bool(
            _either(client, "/get_server_info", "/server_info")
        )

    def version(self) -> str | None:
        return str(self._info.get("version") or "") or None

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.loaded.compute_dtype != "unknown":
            found["compute_dtype"] = self.loaded.compute_dtype
        if self.loaded.kv_dtype != "unknown":
            found["kv_dtype"] = self.loaded.kv_dtype
        if isinstance(length := self._info.get("context_length"), int):
            found["context_length"] = length
        return found

    def encode_chat(self, prompt_text: str) -> list[int]:
        return self._tokenized(prompt_text, add_special=False)

    def encode_text(self, text: str) -> list[int]:
        return self._tokenized(text, add_special=True)

    def ids_of(self, text: str) -> list[int]:
        return self._tokenized(text, add_special=False)

    def text_of(self, ids: Sequence[int]) -> str:
        body = {"model": self.model, "tokens": list(ids), "skip_special_tokens": False}
        answer = self._newer("/detokenize", body)
        if not isinstance(answer.get("text"), str):
            raise ServerFailure("/detokenize did not return a text")
        return str(answer["text"])

    def eos_ids(self) -> list[int]:
        raise Unseen("hidden", "this server does not show its EOS ids")

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        if cold:
            self._flush()
        meta = self._generated(ids, 1, start=0)
        inner = _positions(meta, "input_top_logprobs")
        # Each entry is the expectation for its own place; there is none for the first.
        rows = [self._row(entry) for entry in inner[1:]]
        rows.append(self._row(_positions(meta, "output_top_logprobs")[0]))
        if len(rows) != len(ids):
            raise ServerFailure(f"/generate returned {len(rows)} positions, not {len(ids)}")
        return np.stack(rows)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        whole = [*prompt, *output[:-1]]
        rows = []
        for end in range(len(prompt), len(whole) + 1):
            meta = self._generated(whole[:end], 1, start=None)
            rows.append(self._row(_positions(meta, "output_top_logprobs")[0]))
        return np.stack(rows)

    def chat(self, request: Request) -> Reply:
        if request.prompt_ids is None or request.script is not None or request.stream:
            return super().chat(request)
        if request.tools:
            raise Unseen("hidden", "this server parses answers to messages only")
        sampling: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": request.max_tokens}
        body = {"input_ids": list(request.prompt_ids), "sampling_params": sampling}
        if request.stop:
            sampling["stop"] = list(request.stop)
        answer = self.client.post("/generate", body)
        meta = answer.get("meta_info") if isinstance(answer, dict) else None
        if not isinstance(meta, dict) or not isinstance(answer.get("text"), str):
            raise ServerFailure("/generate did not return a text")
        ids, finish = answer.get("output_ids"), meta.get("finish_reason")
        return Reply(
            prompt_ids=list(request.prompt_ids),
            output_ids=numbered(iter(ids)) if isinstance(ids, list) else None,
            text=answer["text"],
            message=None,
            finish_reason=as_text(finish.get("type")) if isinstance(finish, dict) else None,
            arrivals_s=[],
            total_s=float(meta.get("e2e_latency") or 0.0),
            prompt_count=meta.get("prompt_tokens"),
            output_count=meta.get("completion_tokens"),
        )

    def _generated(self, ids: Sequence[int], max_tokens: int, start: int | None) -> dict[str, Any]:
        positions = max_tokens + (0 if start is None else len(ids) - start)
        if self._size is None or self._size * positions > _MOST_LOGPROBS:
            size = "an unknown number of" if self._size is None else self._size
            raise Unseen("hidden", f"{positions} distributions over {size} ids cannot be sent")
        body = {
            "input_ids": list(ids),
            "sampling_params": {"temperature": 0.0, "max_new_tokens": max_tokens},
            "return_logprob": True,
            "logprob_start_len": -1 if start is None else start,
            "top_logprobs_num": self._size,
            "return_text_in_logprobs": False,
        }
        answer = self.client.post("/generate", body)
        meta = answer.get("meta_info") if isinstance(answer, dict) else None
        if not isinstance(meta, dict):
            raise ServerFailure("/generate did not return its meta_info")
        return meta

    def _row(self, entry: Any) -> Logits:
        """Return one position's log-probs [V] from ``[log-prob, id, text]`` of every id."""
        row = np.full(self._size or 0, np.nan, np.float32)
        try:
            row[[part[1] for part in entry]] = [part[0] for part in entry]
        except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
            raise ServerFailure(f"no distribution came from /generate: {error!r}"[:200]) from error
        if len(entry) != self._size:
            raise ServerFailure(f"{len(entry)} of {self._size} log-probs came")
        return row

    def _flush(self) -> None:
        # Its answer is a sentence, not JSON; that it was refused is what matters.
        try:
            self.client.send("/flush_cache", {})
        except Refused as refused:
            raise Unseen("hidden", f"its cache cannot be emptied: {refused}") from refused

    def _tokenized(self, text: str, *, add_special: bool) -> list[int]:
        body = {"model": self.model, "prompt": text, "add_special_tokens": add_special}
        return listed_ids(self._newer("/tokenize", body), "tokens")

    def _newer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask an endpoint that older versions lack."""
        try:
            answer = self.client.post(path, body)
        except Refused as refused:
            if refused.status in (404, 405):
                raise Unseen("hidden", f"this version has no {path}") from refused
            raise
        if not isinstance(answer, dict):
            raise ServerFailure(f"{path} did not return an object")
        return answer


def _either(client: Client, *paths: str) -> dict[str, Any]:
    """Return the first object that one of these paths answers: their names changed."""
    for path in paths:
        if isinstance(found := answers(client, path), dict):
            return found
    return {}


def _positions(meta: dict[str, Any], name: str) -> list[Any]:
    found = meta.get(name)
    if not isinstance(found, list) or not found:
        raise ServerFailure(f"/generate did not return {name}")
    return found


def _vocabulary(path: str) -> int | None:
    """Return the size of the vocabulary as the model's files state it."""
    try:
        config = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        size = config["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if isinstance(size, int) and size > 0 else None


DIALECT = SGLang
