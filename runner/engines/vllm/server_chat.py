"""A chat with vLLM's server: what is put into it, what is forced out of it, and all that it shows.

Every part is asked on the path of a chat where there is a way: the prompt's text and ids come with
the answer, and what is put in the place of a prompt comes as a template that prints it. A script is
forced by a logits processor, which a managed server has loaded; elsewhere by a grammar that allows
its text alone, and only where the ids that came out are those of the script.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from runner.engines.base import Reply, Request, Unseen
from runner.engines.servers.plain import (
    Plain,
    as_message,
    first_choice,
    listed_ids,
    numbered,
)
from runner.engines.servers.server_errors import Refused
from runner.engines.shared.streamed import StreamedMessage
from runner.engines.vllm.server_numbers import SCRIPT, Numbers

#: A template that prints what the request brings, and its name.
_PRINTED = "fleetqual_prompt"
_PRINTS = "{{ " + _PRINTED + " }}"
#: Bias for each character of a token, and the most that OpenAI's API takes.
_FAVOUR, _MOST_FAVOUR = 25.0, 100.0


class VllmChats(Plain):
    """The chat path of one server; what it was seen to do is set once, when it is found out."""

    takes_template_options = True
    numbers: Numbers
    timed = False
    """Whether nothing but the answer is asked for."""
    replaces = False
    """Whether a request may bring its own template."""
    takes_tools = True
    """Whether a chat may offer tools: only where calls are parsed."""

    def chat(self, request: Request) -> Reply:
        if request.tools and not self.takes_tools:
            raise Unseen("absent", "this server was started without a parser of tool calls")
        body = self._chat_body(request)
        if request.script is None:
            reply = self.ask("chat/completions", body, request.stream)
            reply = self._with_whole_text(reply, body, {}, request.stream)
        else:
            reply = self._forced(body, request, list(request.script))
        wanted = request.prompt_ids
        if wanted is not None and reply.prompt_ids != list(wanted):
            raise Unseen("hidden", "this server makes other ids of the text of these")
        return reply

    def ask(self, path: str, body: dict[str, Any], stream: bool) -> Reply:
        if not self.timed:
            body = {**body, "return_token_ids": True}
        started = time.perf_counter()
        events: list[dict[str, Any]] = []
        arrivals: list[float] = []
        streamed, message = StreamedMessage(), None
        if stream:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
            for at, event in self.client.stream(path, body):
                events.append(event)
                if event.get("choices"):
                    choice = first_choice(event)
                    if streamed.add(choice.get("delta") or {"content": choice.get("text")}):
                        arrivals.append(at)
        else:
            events.append(self.client.post(path, body))
            message = as_message(first_choice(events[0]))
        total = time.perf_counter() - started
        message = message or streamed.message()
        choices = [first_choice(event) for event in events if event.get("choices")]
        usages = (event["usage"] for event in reversed(events) if event.get("usage"))
        usage: dict[str, Any] = next(usages, {})
        count = usage.get("completion_tokens")
        output = self.output_ids(choices)
        return Reply(
            prompt_ids=_prompt_ids([*events, *choices]),
            # A parser may keep the ids of a piece back.
            output_ids=output if output is not None and len(output) == count else None,
            text=message.get("content") or "",
            message=message,
            finish_reason=next(
                (c["finish_reason"] for c in reversed(choices) if c.get("finish_reason")), None
            ),
            arrivals_s=arrivals,
            total_s=total,
            prompt_count=usage.get("prompt_tokens"),
            output_count=count,
        )

    def output_ids(self, choices: Sequence[dict[str, Any]]) -> list[int] | None:
        pieces = [c["token_ids"] for c in choices if c.get("token_ids") is not None]
        return numbered(token for ids in pieces for token in ids) if pieces else None

    def render(self, request: Request) -> str:
        body = {**self._chat_body(request), "max_tokens": 1, "stream": False}
        if request.tools and not self.takes_tools:
            body["tool_choice"] = "none"  # the template is given them all the same
        answer = self.client.post("chat/completions", {**body, "return_prompt_text": True})
        text = answer.get("prompt_text")
        if text is None:
            raise Unseen("hidden", "this version does not return the prompt's text")
        return str(text)

    def encode_chat(self, prompt_text: str) -> list[int]:
        if not self.replaces:
            return self.tokenized(prompt_text)
        opening = [{"role": "user", "content": "x"}]
        reply = self.chat(Request(messages=opening, max_tokens=1, prompt_text=prompt_text))
        if reply.prompt_ids is None:
            raise Unseen("hidden", "this server does not show the ids of a prompt")
        return reply.prompt_ids

    def text_of(self, ids: Sequence[int]) -> str:
        answer = self.client.post("/detokenize", {"model": self.model, "tokens": list(ids)})
        return str(answer["prompt"])

    def _chat_body(self, request: Request) -> dict[str, Any]:
        if any("function" not in tool for tool in request.tools or ()):
            raise Unseen("absent", "OpenAI's API takes a tool under `function` only")
        body = super().chat_body(request)
        text = request.prompt_text
        if request.prompt_ids is not None:
            text = self.text_of(request.prompt_ids)
        if text is not None:
            if not self.replaces:
                raise Unseen("hidden", "this server takes no template with a request")
            options = {**request.template_options, _PRINTED: text}
            body.update(chat_template=_PRINTS, chat_template_kwargs=options)
        return body

    def _forced(self, body: dict[str, Any], request: Request, script: list[int]) -> Reply:
        """Let the script come out, or raise Unseen."""
        for asked in self._forcing(script):
            try:
                reply = self.ask("chat/completions", {**body, **asked}, request.stream)
            except Refused:
                if self.numbers.forces:
                    raise
                continue
            # A stop string ends some early.
            ids = reply.output_ids
            if not self.numbers.forces and (ids is None or ids != script[: len(ids)]):
                continue
            return self._with_whole_text(reply, body, asked, request.stream)
        raise Unseen("hidden", "no grammar lets these ids come out of this server")

    def _with_whole_text(
        self, reply: Reply, body: dict[str, Any], asked: dict[str, Any], stream: bool
    ) -> Reply:
        """Return the reply with its text as it was before a parser took parts out of it.

        Completions know no parser; they are asked for the same ids after the same prompt.
        """
        parsed = (reply.message or {}).keys() & {"reasoning_content", "tool_calls"}
        if self.timed or not parsed or not reply.prompt_ids:
            return reply
        if not asked and reply.output_ids and self.numbers.forces:
            asked = {"vllm_xargs": {SCRIPT: reply.output_ids}}
        names = ("model", "max_tokens", "temperature", "stop")
        same = {name: body[name] for name in names if name in body}
        raw = self.ask("completions", {**same, **asked, "prompt": reply.prompt_ids}, stream)
        if raw.output_ids != reply.output_ids and not (asked and reply.output_ids is None):
            return reply
        return replace(reply, text=raw.text)

    def _forcing(self, script: list[int]) -> Iterator[dict[str, Any]]:
        if self.numbers.forces:
            yield {"vllm_xargs": {SCRIPT: script}}
            return
        for ids in (script[:-1], script):  # the last may be what ends the answer
            if not ids:
                continue
            text = self.text_of(ids)
            asked = {"prompt": text, "add_special_tokens": False, "return_token_strs": True}
            answer = self.client.post("/tokenize", {"model": self.model, **asked})
            if answer.get("tokens") != ids:
                continue
            # The grammar spells the text, in pieces of any size: the longest are favoured.
            favour = {
                str(token): min(_MOST_FAVOUR, _FAVOUR * len(piece))
                for token, piece in zip(ids, answer.get("token_strs") or (), strict=False)
            }
            yield {"structured_outputs": {"choice": [text]}, "logit_bias": favour}

    def tokenized(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of a text, with the BOS of a completion if ``special``."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": special}
        return listed_ids(self.client.post("/tokenize", body), "tokens")


def _prompt_ids(parts: Sequence[dict[str, Any]]) -> list[int] | None:
    """Return the prompt's ids: with the answer of a chat, with the choice of a completion."""
    found = next((t["prompt_token_ids"] for t in parts if t.get("prompt_token_ids")), None)
    return None if found is None else numbered(iter(found))
