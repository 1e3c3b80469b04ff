"""vLLM's tool and reasoning parsers, called as its server calls them.

``LLM.chat`` ends with text: the parsers belong to the server. What they make of that text in
process is therefore a reenactment: the classes are vLLM's own, the calls and the rule for
``finish_reason`` are those of its chat endpoint, written again here.
"""

from collections.abc import Sequence
from typing import Any

from runner.engines.base import Message, Request
from runner.engines.shared.streamed import StreamedMessage

Delta = tuple[str, list[int], bool]
"""Text and ids of one streamed piece, and whether it is the last."""


class Parsers:
    """The parsers of one engine, by the names under which the server knows them."""

    def __init__(self, llm: Any, tool: str | None, reasoning: str | None) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.parser import ParserManager

        self._request, self._config = ChatCompletionRequest, llm.model_config
        self._tokenizer, self._tool = llm.get_tokenizer(), tool
        self._type = ParserManager.get_parser(
            tool_parser_name=tool,
            reasoning_parser_name=reasoning,
            enable_auto_tools=tool is not None,
            model_name=llm.model_config.model,
            tokenizer=self._tokenizer,
        )

    def whole(
        self, request: Request, prompt: list[int], text: str, ids: Sequence[int]
    ) -> tuple[Message, bool]:
        """Return the message that a text becomes, and whether tools are called in it."""
        parser, asked = self._made(request)
        parser.set_prompt_token_ids(prompt)
        reasoning, content, calls = parser.parse(
            text, asked, enable_auto_tools=self._tool is not None, model_output_token_ids=ids
        )
        message: Message = {"role": "assistant", "content": content}
        if reasoning:
            message["reasoning_content"] = reasoning
        called = bool(calls) and self._offered(asked)
        if called:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": _function(call)} for call in calls
            ]
        return message, called

    def streamed(
        self, request: Request, prompt: list[int], deltas: Sequence[Delta]
    ) -> tuple[Message, bool]:
        """Return the message that a client puts together, and whether tools are called in it."""
        parser, asked = self._made(request)
        message, called = StreamedMessage(), False
        for text, ids, last in deltas:
            delta = parser.parse_delta(
                delta_text=text,
                delta_token_ids=ids,
                request=asked,
                prompt_token_ids=prompt,
                finished=last,
            )
            if delta is not None:
                fields = delta.model_dump(exclude_none=True)
                fields["reasoning_content"] = fields.pop("reasoning", None)
                called |= bool(fields.get("tool_calls"))
                message.add(fields)
        return message.message(), called

    def _made(self, request: Request) -> tuple[Any, Any]:
        """Return a parser for one answer, and the request that it is given.

        Parsers ask a request for its tools and switches; its messages are not theirs.
        """
        asked = self._request(
            messages=[{"role": "user", "content": "x"}],
            tools=[dict(tool) for tool in request.tools] if request.tools else None,
            chat_template_kwargs=dict(request.template_options),
        )
        made = self._type(
            self._tokenizer,
            asked.tools,
            chat_template_kwargs=dict(request.template_options),
            model_config=self._config,
        )
        return made, made.adjust_request(asked)

    def _offered(self, asked: Any) -> bool:
        return bool(asked.tools) and asked.tool_choice in (None, "auto")


def _function(call: Any) -> Message:
    return {"name": call.name, "arguments": call.arguments}
