"""mlx_lm's own server: OpenAI's API, and the ids of an answer beside its log-probs."""

from collections.abc import Sequence
from typing import Any

from runner.engines.base import Request
from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import HIDDEN_STAGES, Plain, answers, numbered
from runner.engines.shown import Shown


class MlxServer(Plain):
    """``python -m mlx_lm server``."""

    name = "mlx"
    shown = Shown(
        stages={**HIDDEN_STAGES, "state": "endpoint", "chain": "endpoint"},
        calls={
            "state": "POST chat/completions, several at once",
            "chain": "POST chat/completions with logprobs, which show the ids",
        },
        scenarios=("chats",),
    )
    takes_template_options = True

    @classmethod
    def recognises(cls, client: Client, models: list[dict[str, Any]]) -> bool:
        # Only this one answers so, and lists models without an owner.
        health = answers(client, "/health")
        return health == {"status": "ok"} and all("owned_by" not in m for m in models)

    @classmethod
    def model_of(cls, models: list[dict[str, Any]]) -> str:
        # It lists all models in the hub's cache, its own last, and loads whichever is named.
        return "default_model"

    def chat_body(self, request: Request) -> dict[str, Any]:
        body = super().chat_body(request)
        return body if self.load.pass_ == "timed" else {**body, "logprobs": True}

    def output_ids(self, choices: Sequence[dict[str, Any]]) -> list[int] | None:
        shown = [
            c["logprobs"]["content"] for c in choices if (c.get("logprobs") or {}).get("content")
        ]
        if not shown:
            return None
        return numbered(token.get("id") for tokens in shown for token in tokens)
