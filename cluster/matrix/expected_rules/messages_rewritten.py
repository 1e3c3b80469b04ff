"""vLLM rewrites messages before the template gets them.

In process, ``reasoning_content`` of an earlier turn is dropped. The role developer becomes system
where the template does not name it. Arguments that are a text are parsed, so the template writes
them again.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from runner.stored.canonical import UNREADABLE, called_function


def outputs(asked: Asked) -> Iterator[str]:
    """Yield the prompt of the rewritten messages."""
    case, texts = asked.case, asked.texts
    if case is None or case.messages is None:
        return
    source = texts.template(tools=bool(case.tools))
    developer = "'developer'" in source or '"developer"' in source
    messages = [_rewritten(m, keeps_developer=developer) for m in case.messages]
    if asked.serving == "in_process":
        # The server takes the reasoning under another name, and passes it on.
        messages = [_without_reasoning(m) for m in messages]
    given = texts.rendered(messages, case.tools, case.template_options)
    if given is not None and given != asked.golden.prompt_text:
        yield given


def _rewritten(message: Mapping[str, Any], *, keeps_developer: bool) -> dict[str, Any]:
    found = dict(message)
    content = found.get("content")
    if isinstance(content, list):
        found["content"] = "\n".join(part.get("text", "") for part in content)
    if found.get("role") == "developer" and not keeps_developer:
        found["role"] = "system"
    if found.get("tool_calls"):
        found["tool_calls"] = [_with_object(call) for call in found["tool_calls"]]
    return found


def _without_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "reasoning_content"}


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call whose arguments are an object; what is none becomes an empty one."""
    function = called_function(call)
    given = function.get("arguments")
    try:
        parsed = json.loads(given) if isinstance(given, str) and given else given
    except UNREADABLE:
        parsed = None
    return {
        **call,
        "function": {**function, "arguments": parsed if isinstance(parsed, dict) else {}},
    }


RULE = Rule(("template",), outputs)
