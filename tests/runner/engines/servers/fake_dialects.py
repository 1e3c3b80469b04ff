"""Servers that are not real, each answering as its project documents; ten tokens, one rule.

After ids that add up to s, the logit of id j is ``(3 * s + 7 * j) % 11``.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.runner.engines.servers.fake_servers import FakeHandler, FakeOpenAI

PIECES = ["a", "b", "c", "d", "e", "f", "g", "<s>", "</s>", "<end>"]
BOS, EOS, END = 7, 8, 9
SIZE = len(PIECES)
_TOKEN = re.compile("<s>|</s>|<end>|.", re.DOTALL)


def tokenized(text: str) -> list[int]:
    return [PIECES.index(piece) for piece in _TOKEN.findall(text)]


def shown(ids: Iterable[int]) -> str:
    return "".join(PIECES[i] for i in ids)


def expected(ids: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return log-probs [len(ids), V] of what follows each id."""
    sums = np.cumsum(ids)[:, None]
    logits = ((3 * sums + 7 * np.arange(SIZE)) % 11).astype(np.float64)
    found: npt.NDArray[np.float64] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return found


def rendered(handler: FakeHandler) -> str:
    return "".join(m["content"] for m in handler.asked["messages"]) + "g"


class FakeLlamaServer(FakeOpenAI):
    """What llama.cpp's server answers, as far as the dialect asks."""

    def __init__(self, **changes: Any) -> None:
        meta = {"n_vocab": SIZE, "n_ctx_train": 64}
        params = {
            "temperature": 0.800000011920929,
            "top_k": 40,
            "top_p": 1.0,
            "repeat_penalty": 1.0,
        }
        answers = {
            "/v1/models": {"data": [{"id": "fake", "owned_by": "llamacpp", "meta": meta}]},
            "/props": {
                "build_info": "b9-fake",
                "model_ftype": "Q4_K - Medium",
                "chat_template": "{{ messages }}",
                "bos_token": "<s>",
                "default_generation_settings": {"n_ctx": 48, "params": params},
            },
            "/tokenize": self._tokenize,
            "/detokenize": lambda h: {"content": shown(h.asked["tokens"])},
            "/apply-template": lambda h: {"prompt": rendered(h)},
            "/completion": self.complete,
            "/v1/chat/completions": self.chat,
        }
        super().__init__(**{**answers, **changes})
        self.cached: list[int] = []

    @staticmethod
    def _tokenize(handler: FakeHandler) -> Any:
        bos = [BOS] if handler.asked.get("add_special") else []
        return {"tokens": bos + tokenized(handler.asked["content"])}

    def generate(self, asked: dict[str, Any], prompt: list[int]) -> list[int]:
        """Greedy, within the grammar; a bias counts where the grammar has ended."""
        grammar, found = asked.get("grammar"), list[int]()
        forced = [int(x) for x in re.findall(r"<\[(\d+)\]>", grammar or "")]
        while len(found) < asked.get("n_predict", asked.get("max_tokens", 4)):
            if len(found) < len(forced):
                found.append(forced[len(found)])
                continue
            logits = expected([*prompt, *found])[-1]
            for token, bias in asked.get("logit_bias", ()):
                logits[token] += bias
            allowed = [EOS, END] if grammar else range(SIZE)
            found.append(max(allowed, key=lambda j: logits[j]))
            if found[-1] in (EOS, END):
                break
        return found

    def complete(self, handler: FakeHandler) -> Any:
        asked = handler.asked
        prompt = asked["prompt"]
        ids = prompt if isinstance(prompt, list) else [BOS, *tokenized(prompt)]
        tokens = self.generate(asked, ids)
        shared = 0
        while shared < min(len(self.cached), len(ids)) and self.cached[shared] == ids[shared]:
            shared += 1
        answer: dict[str, Any] = {
            "content": shown(t for t in tokens if t < EOS),
            "tokens": tokens if asked.get("return_tokens") else [],
            "stop_type": "eos" if tokens[-1] >= EOS else "limit",
            "timings": {"cache_n": min(shared, len(ids) - 1) if asked.get("cache_prompt") else 0},
            "generation_settings": {"logit_bias": []},
        }
        self.cached = [*ids, *tokens[:-1]]
        if asked.get("ignore_eos"):
            banned = [{"token": END, "bias": None}, {"token": EOS, "bias": None}]
            answer["generation_settings"]["logit_bias"] = banned
        if asked.get("n_probs"):
            rows = expected([*ids, *tokens])[len(ids) - 1 : -1]
            answer["completion_probabilities"] = [
                {"id": token, "top_logprobs": _ranked(row, asked["n_probs"])}
                for token, row in zip(tokens, rows, strict=True)
            ]
        return answer

    def chat(self, handler: FakeHandler) -> Any:
        asked = handler.asked
        prompt = [BOS, *tokenized(rendered(handler))]
        tokens = self.generate(asked, prompt)
        finish = "stop" if tokens[-1] >= EOS else "length"
        text = shown(t for t in tokens if t < EOS)
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens)}
        told = {"tokens": tokens if asked.get("return_tokens") else []}
        return {
            "choices": [choice],
            "usage": usage,
            **({"__verbose": told} if asked.get("verbose") else {}),
        }


def _ranked(row: npt.NDArray[np.float64], most: int) -> list[dict[str, Any]]:
    best = np.argsort(-row)[:most].tolist()
    # Underflow is told as float32's lowest number.
    told = [row[j] if row[j] > -9.5 else -3.4028234663852886e38 for j in best]
    return [
        {"id": j, "token": PIECES[j], "bytes": [], "logprob": float(x)}
        for j, x in zip(best, told, strict=True)
    ]


class FakeOllama(FakeOpenAI):
    """What Ollama answers, as its documentation has it."""

    def __init__(self, **changes: Any) -> None:
        info = {
            "general.architecture": "llama",
            "general.name": "Tiny",
            "llama.block_count": 4,
            "llama.attention.head_count": 8,
            "llama.attention.head_count_kv": 2,
            "llama.attention.layer_norm_rms_epsilon": 0.000009999999747378752,
            "llama.rope.freq_base": 500000,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "llama-bpe",
            "tokenizer.ggml.bos_token_id": BOS,
            "tokenizer.ggml.tokens": PIECES,
        }
        answers = {
            "/v1/models": {"data": [{"id": "tiny:latest", "owned_by": "library"}]},
            "/api/version": {"version": "0.33.2"},
            "/api/tags": {"models": [{"name": "tiny:latest"}]},
            "/api/ps": {"models": [{"name": "tiny:latest", "context_length": 4096}]},
            "/api/show": {
                "parameters": 'stop           "<end>"\ntemperature    0.6\ntop_k 20',
                "template": "{{ .Prompt }}",
                "details": {"quantization_level": "Q4_K_M"},
                "model_info": info,
            },
            "/api/chat": lambda h: {"_debug_info": {"rendered_template": str(h.asked["messages"])}},
            "/api/generate": lambda h: {
                "response": h.asked["prompt"].upper() if h.asked["raw"] else "templated",
                "done_reason": "stop",
                "prompt_eval_count": 2,
                "eval_count": 3,
            },
        }
        super().__init__(**{**answers, **changes})


class FakeSGLang(FakeOpenAI):
    """What SGLang answers, as its documentation has it."""

    def __init__(self, **changes: Any) -> None:
        self.flushed = 0
        answers = {
            "/v1/models": {"data": [{"id": "tiny", "owned_by": "sglang", "max_model_len": 64}]},
            "/get_model_info": {"model_path": "tiny", "is_generation": True},
            "/get_server_info": {
                "version": "0.5.9",
                "dtype": "bfloat16",
                "kv_cache_dtype": "auto",
                "context_length": 64,
            },
            "/tokenize": self._tokenize,
            "/detokenize": lambda h: {"text": shown(h.asked["tokens"])},
            "/generate": self._generate,
            "/flush_cache": self._flush,
        }
        super().__init__(**{**answers, **changes})

    def _flush(self, _handler: FakeHandler) -> bytes:
        self.flushed += 1
        return b"Cache flushed.\n"

    @staticmethod
    def _tokenize(handler: FakeHandler) -> Any:
        bos = [BOS] if handler.asked["add_special_tokens"] else []
        tokens = bos + tokenized(handler.asked["prompt"])
        return {"tokens": tokens, "count": len(tokens), "max_model_len": 64}

    @staticmethod
    def _generate(handler: FakeHandler) -> Any:
        asked, ids = handler.asked, handler.asked["input_ids"]
        rows = expected(ids)
        output = int(rows[-1].argmax())
        meta: dict[str, Any] = {
            "prompt_tokens": len(ids),
            "completion_tokens": 1,
            "cached_tokens": 0,
        }
        meta["finish_reason"] = {"type": "length", "length": 1}
        if asked.get("return_logprob"):
            told = [
                [
                    [float(row[j]), j, None]
                    for j in np.argsort(-row)[: asked["top_logprobs_num"]].tolist()
                ]
                for row in rows
            ]
            if (start := asked["logprob_start_len"]) >= 0:
                meta["input_top_logprobs"] = [None, *told[:-1]][start:]
            meta["output_top_logprobs"] = told[-1:]
        return {"text": PIECES[output], "output_ids": [output], "meta_info": meta}
