"""llama-cpp-python's own server: OpenAI's API, and its tokenizer under ``/extras``.

Its detokenizer leaves special tokens out, so it is not asked to make the round trip.
"""

from dataclasses import replace
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import HIDDEN_STAGES, Plain, listed_ids
from runner.engines.shown import Shown

_OWNER = "me"


class LlamaCppPython(Plain):
    """``python -m llama_cpp.server``."""

    name = "llama-cpp-python"
    shown = Shown(
        stages={
            **HIDDEN_STAGES,
            "tokenize": "reenacted",
            "state": "endpoint",
            "chain": "endpoint",
        },
        calls={
            "tokenize": "POST /extras/tokenize",
            "state": "POST chat/completions, several at once",
            "chain": "POST chat/completions",
        },
        scenarios=("chats",),
    )

    def adapter(self) -> Adapter:
        return replace(super().adapter(), tokenizer=self)

    @classmethod
    def recognises(cls, client: Client, models: list[dict[str, Any]]) -> bool:
        return bool(models) and all(m.get("owned_by") == _OWNER for m in models)

    def encode_chat(self, prompt_text: str) -> list[int]:
        ids = self._tokenized(prompt_text)
        # The endpoint puts a BOS before every text; the chat path, before one that has none.
        return ids[1:] if len(ids) > 1 and ids[0] == ids[1] else ids

    def encode_text(self, text: str) -> list[int]:
        return self._tokenized(text)

    def _tokenized(self, text: str) -> list[int]:
        body = {"model": self.model, "input": text}
        return listed_ids(self.client.post("/extras/tokenize", body), "tokens")
