"""Any server that speaks OpenAI's chat API: texts, token counts and finish reasons, no more.

What the prompt became, and which tokens came out, stays hidden: a divergence is placed as a set of
stages. Dialects that show more derive from this one and say so in their ``shown``.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from runner.engines.abilities import Adapter, Ask, Scenarios
from runner.engines.base import Load, Loaded, Reply, Request, Unseen
from runner.engines.servers.http_client import Client
from runner.engines.servers.messages import openai_messages
from runner.engines.servers.server_errors import Refused, ServerFailure
from runner.engines.shared.streamed import StreamedMessage
from runner.engines.shown import Shown, all_stages

HIDDEN_STAGES = all_stages("hidden")


class Plain:
    """One model behind one base URL. A dialect derives from it, and adds abilities."""

    name: ClassVar[str] = "plain"
    """What a matrix calls the dialect."""
    shown: Shown = Shown(
        stages={**HIDDEN_STAGES, "state": "endpoint", "chain": "endpoint"},
        calls={"state": "POST chat/completions, several at once", "chain": "POST chat/completions"},
        scenarios=("chats",),
    )
    takes_template_options = False
    """Whether ``chat_template_kwargs`` reach the template."""

    def __init__(self, load: Load, client: Client, model: str) -> None:
        self.client, self.model, self.load = client, model, load
        version = self.version()
        self.loaded = Loaded(
            engine_version=version or "unknown",
            engine_build="",
            compute_dtype="unknown",
            kv_dtype="unknown",
            device_uuids=[],
            overrides={},
        )

    def adapter(self) -> Adapter:
        """Return what this server can be asked."""
        return Adapter(
            loaded=self.loaded,
            shown=self.shown,
            facts=self.facts,
            chat=self.chat,
            scenarios=Scenarios(chats=self.together),
        )

    @classmethod
    def recognises(cls, client: Client, models: list[dict[str, Any]]) -> bool:
        """Whether a server, which lists these models, speaks this dialect."""
        return True

    @classmethod
    def model_of(cls, models: list[dict[str, Any]]) -> str:
        """Return the model's name where the matrix gives none: the first that the server lists."""
        return next((str(m["id"]) for m in models if "id" in m), "default")

    def version(self) -> str | None:
        """Return the server's own version, if it states one."""
        return None

    def chat(self, request: Request) -> Reply:
        if request.script is not None:
            raise Unseen("hidden", "this server cannot be made to give a certain answer")
        if request.prompt_text is not None or request.prompt_ids is not None:
            raise Unseen("hidden", "this server takes messages only")
        return self.ask("chat/completions", self.chat_body(request), request.stream)

    def chat_body(self, request: Request) -> dict[str, Any]:
        """Return a greedy chat request as its client would send it."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": openai_messages(request.messages),
            "max_tokens": request.max_tokens,
            "temperature": 0.0,
            "stream": request.stream,
        }
        if request.tools:
            body["tools"] = [dict(t) for t in request.tools]
        if request.stop:
            body["stop"] = list(request.stop)
        if request.template_options:
            if not self.takes_template_options:
                raise Unseen("hidden", "this server takes no options of the template")
            body["chat_template_kwargs"] = dict(request.template_options)
        return body

    def ask(self, path: str, body: dict[str, Any], stream: bool) -> Reply:
        """Send one request for one choice; return its answer, joined if it is streamed."""
        started = time.perf_counter()
        if not stream:
            answer = self.client.post(path, body)
            choice = first_choice(answer)
            message = as_message(choice)
            arrivals: list[float] = []
            usage, finish = answer.get("usage"), choice.get("finish_reason")
            choices = [choice]
        else:
            body = {**body, "stream_options": {"include_usage": True}}
            streamed, arrivals, usage, finish, choices = StreamedMessage(), [], None, None, []
            for at, event in self.client.stream(path, body):
                usage = event.get("usage") or usage
                if not event.get("choices"):
                    continue
                choice = first_choice(event)
                choices.append(choice)
                finish = choice.get("finish_reason") or finish
                if streamed.add(choice.get("delta") or {"content": choice.get("text")}):
                    arrivals.append(at)
            message = streamed.message()
        usage = usage if isinstance(usage, dict) else {}
        return Reply(
            prompt_ids=None,
            output_ids=self.output_ids(choices),
            text=message.get("content") or "",
            message=message,
            finish_reason=finish,
            arrivals_s=arrivals,
            total_s=time.perf_counter() - started,
            prompt_count=usage.get("prompt_tokens"),
            output_count=usage.get("completion_tokens"),
        )

    def output_ids(self, choices: Sequence[dict[str, Any]]) -> list[int] | None:
        """Return the ids of an answer, whole or in pieces; None where they are hidden."""
        return None

    def together(self, ask: Ask, requests: Sequence[Request], slots: int) -> list[Reply]:
        """Send several chats, up to ``slots`` at a time."""
        with ThreadPoolExecutor(slots) as pool:
            return list(pool.map(ask, requests))

    def facts(self) -> dict[str, Any]:
        """Return what the server states of the model; here nothing."""
        return {}


def first_choice(answer: Any) -> dict[str, Any]:
    """Return the first choice of an answer.

    Raises:
        ServerFailure: there is none.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ServerFailure(f"no choices in the answer: {str(answer)[:200]}")
    found: dict[str, Any] = choices[0]
    return found


def as_message(choice: dict[str, Any]) -> dict[str, Any]:
    """Return a choice's message, the thinking under one name."""
    found = dict(choice.get("message") or {"role": "assistant", "content": choice.get("text")})
    if thought := found.pop("reasoning", None):
        found.setdefault("reasoning_content", thought)
    return found


def answers(client: Client, path: str) -> Any:
    """Return what a server says at a path that only some have; None where it has none."""
    try:
        return client.get(path)
    except (Refused, ServerFailure):
        return None


def as_text(value: Any) -> str | None:
    """Return what foreign JSON holds where a text belongs; None where it is none."""
    return value if isinstance(value, str) else None


def listed_ids(answer: Any, name: str) -> list[int]:
    """Return the token ids that an answer lists under ``name``.

    Raises:
        ServerFailure: there is no such list, or something in it is no id.
    """
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise ServerFailure(f"no list of {name} in the answer: {str(answer)[:200]}")
    return numbered(iter(found))


def numbered(pieces: Iterator[Any]) -> list[int]:
    """Return a list of token ids from foreign JSON.

    Raises:
        ServerFailure: something in it is no id.
    """
    found = list(pieces)
    if not all(type(x) is int and 0 <= x < 2**31 for x in found):
        raise ServerFailure("what should be token ids is something else")
    return found


DIALECT = Plain
