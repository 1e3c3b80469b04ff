"""Cases of the stage ``tokenize``: the tokenizer's own tables, and what tokenizers get wrong."""

import unicodedata
from collections.abc import Iterator

from suites.derive.conversations import user
from suites.derive.source import Source
from suites.derive.template_cases import shapes
from suites.derive.texts import groups
from suites.derive.vocabulary import added_tokens, walked
from suites.suite import Case, Golden

#: Added tokens in one case, and cases of them: 128 tokens of a vocabulary are asked.
_TOGETHER, _GROUPS = 16, 8
_PROMPTS = 8
_WALKS = 6
_WALKED = 24


def tokenize_cases(source: Source) -> Iterator[Case]:
    """Yield texts of the completion path, and chats with their rendered prompts."""
    for tag, texts in groups().items():
        for name, text in texts.items():
            yield _text(source, name, tag, text)
    walks = walked(source.files, source.files.digest, _WALKS, _WALKED)
    for at, text in enumerate(walks):
        yield _text(source, f"vocabulary-{at + 1}", "vocabulary", text)
    yield from _added(source)
    yield from _prompts(source)


def _text(source: Source, name: str, tag: str, text: str) -> Case:
    return Case(
        id=f"tokenize/{name}",
        stage="tokenize",
        tags=(tag, *_form(source, text)),
        text=text,
        golden=Golden(prompt_ids=tuple(source.files.encode(text, add_special=True))),
    )


def _form(source: Source, text: str) -> tuple[str, ...]:
    """Return the tag ``nfd`` for a text that the tokenizer's normaliser composes."""
    composed = unicodedata.normalize("NFC", text)
    same = source.files.normalised(composed) == source.files.normalised(text)
    return ("nfd",) if same and composed != text else ()


def _added(source: Source) -> Iterator[Case]:
    """Yield texts with the added tokens: alone in a text, and between words and spaces."""
    texts = [token["content"] for token in added_tokens(source.files)]
    most = _TOGETHER * _GROUPS
    step = max(1, -(-len(texts) // most))
    if step > 1:
        source.note(f"{len(texts)} added tokens: the cases ask one of each {step}")
    chosen = texts[::step]
    for at in range(0, len(chosen), _TOGETHER):
        group = chosen[at : at + _TOGETHER]
        yield _text(source, f"added-{at + 1}", "specials", "x" + " y ".join(group) + "z")
    if texts and source.has_template:
        # Users write such texts too. What the model then reads is what the files say.
        group = [t for t in texts if t in _template_text(source)][:4] or texts[:4]
        yield from _chat(source, "added-in-chat", ("specials",), "Say " + "".join(group) + " to me")


def _template_text(source: Source) -> str:
    return "".join(source.files.templates.sources.values())


def _chat(source: Source, name: str, tags: tuple[str, ...], text: str) -> Iterator[Case]:
    prompt = source.prompt([user(text)])
    if prompt is not None:
        yield Case(
            id=f"tokenize/{name}",
            stage="tokenize",
            tags=(*tags, *_form(source, text)),
            messages=(user(text),),
            golden=Golden(
                prompt_text=prompt,
                prompt_ids=tuple(source.files.encode(prompt, add_special=False)),
            ),
        )


def _prompts(source: Source) -> Iterator[Case]:
    """Yield rendered prompts, of which the longest are not needed."""
    if not source.has_template:
        return
    yield from _chat(source, "forms-in-chat", ("chat", "forms"), "cafe\u0301 A\u030a")
    chosen = [s for s in shapes(source) if s.name in _CHATS or "reasoning" in s.tags][:_PROMPTS]
    for shape in chosen:
        prompt = source.prompt(shape.messages, shape.tools, shape.options) or ""
        yield Case(
            id=f"tokenize/chat-{shape.name}",
            stage="tokenize",
            tags=("chat", *_form(source, prompt)),
            messages=shape.messages,
            tools=shape.tools or None,
            template_options=shape.options,
            golden=Golden(
                prompt_text=prompt,
                prompt_ids=tuple(source.files.encode(prompt, add_special=False)),
            ),
        )


_CHATS = {
    "user-only",
    "many-turns",
    "whitespace",
    "unicode",
    "code",
    "tools-json",
    "parallel-calls",
}
