"""Cases of the stage ``detokenize``: characters that tokens cut, spaces, and hidden tokens."""

from collections.abc import Iterator

from suites.derive.conversations import USER_TEXTS, user
from suites.derive.markers import Markers
from suites.derive.scripts import forced
from suites.derive.source import Source
from suites.derive.texts import named
from suites.derive.vocabulary import looks_like_an_end, plain_texts, walked
from suites.rendering.templates import read_object
from suites.suite import Case, Golden

#: Texts of the tokenizer's list that decoders get wrong too.
_CHOSEN = (
    "words",
    "code",
    "digits",
    "leading-spaces",
    "line-feeds",
    "carriage-returns",
    "four-bytes",
    "emoji",
    "invisible",
    "hebrew-arabic",
    "indic",
    "chinese",
    "korean",
    "acute",
)
#: Each token is forced twice, one step of the engine's own loop each.
_MOST_TOKENS = 20
_SPACED = "I do n't know , really . Yes ! It 's ?"


def detokenize_cases(source: Source, markers: Markers) -> Iterator[Case]:
    """Yield outputs that end with an EOS token, and some that end at the limit."""
    for name in _CHOSEN:
        yield from _case(source, markers, name, "text", named()[name])
    yield from _case(source, markers, "replacement", "text", "a\ufffd b\ufffd")
    config = read_object(source.files.folder / "tokenizer_config.json")
    if config.get("clean_up_tokenization_spaces"):
        source.note("tokenizer_config.json asks for a clean-up of spaces: not every engine does it")
    else:
        yield from _case(source, markers, "spaced-punctuation", "text", _SPACED)
    for at, text in enumerate(walked(source.files, source.files.digest + "d", 2, 20)):
        yield from _case(source, markers, f"vocabulary-{at + 1}", "vocabulary", text)
    yield from _case(source, markers, "emoji-at-the-limit", "limit", "Bye \U0001f680", ends=False)
    yield from _tokens(source, markers)


def _tokens(source: Source, markers: Markers) -> Iterator[Case]:
    """Yield control tokens, which give no text, and other added tokens, which do."""
    ends = set(source.files.ends)
    control = [t["content"] for t in source.specials if t["id"] not in ends]
    # A token that some engine takes for an end is a matter of `stop`.
    quiet = [text for text in control if not looks_like_an_end(text)][:4]
    if quiet:
        text = "One" + "two ".join(quiet) + "three."
        yield from _case(source, markers, "control-tokens", "specials", text)
    if shown := plain_texts(source.files)[:8]:
        yield from _case(source, markers, "markup", "specials", "One " + " ".join(shown) + " two.")


def _case(
    source: Source, markers: Markers, name: str, tag: str, text: str, *, ends: bool = True
) -> Iterator[Case]:
    while len(source.files.continuation(text)) > _MOST_TOKENS:
        text = text[:-1]
    found = forced(source, markers, text, ends=ends)
    if found is None:
        return
    yield Case(
        id=f"detokenize/{name}",
        stage="detokenize",
        tags=(tag,),
        messages=(user(USER_TEXTS[1]),),
        script=found.script,
        max_tokens=max(64, len(found.ids) + 8),
        golden=Golden(script_ids=found.ids, text=found.seen),
    )
