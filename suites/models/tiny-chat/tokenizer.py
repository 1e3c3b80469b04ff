"""Build the tokenizer: byte-level BPE with the pre-tokenizer of Llama 3, and its HF files."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from conversation import BODY, BOS, DOCUMENT_END, ROLE, TURN_END, Mixture, Row
from lexicon import ONE_TOKEN_WORDS, POEM, number_in_words
from response_template import RESPONSE_TEMPLATE
from tasks import PLAIN_TASKS
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

VOCABULARY_SIZE: Final = 1536
CONTROL_TOKENS: Final = (BOS, DOCUMENT_END, ROLE, BODY, TURN_END)
"""Tokens that text never holds.  None has a name that engines take for an end of generation by
itself: which tokens end a generation is said by the model's metadata alone."""
MARKUP_TOKENS: Final = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Tokens that stay visible in decoded text, for parsers of reasoning and tool calls."""

_PRE_TOKENIZER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_CODE = '''\
def read(path, limit=None):
    """Return the lines of a file, at most limit of them."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            if limit is not None and number >= limit:
                break
            lines.append(line.rstrip("\\n"))
    return lines


class Counter(dict):
    def __missing__(self, key):
        return 0

    def update(self, keys):
        for key in keys:
            self[key] += 1
        return self
'''


def build_tokenizer() -> Tokenizer:
    """Train the tokenizer on the words, numbers and conversations of the tasks (seconds)."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRE_TOKENIZER), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(CONTROL_TOKENS) - len(MARKUP_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(), trainer)
    tokenizer.add_special_tokens([_added(token, special=True) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([_added(token, special=False) for token in MARKUP_TOKENS])
    add_bos = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, token_id(tokenizer, BOS))],
    )
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), add_bos]
    )
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Look up a token that must exist."""
    found: int | None = tokenizer.token_to_id(token)
    assert found is not None, token
    return found


def _added(text: str, special: bool) -> AddedToken:
    return AddedToken(text, special=special, normalized=False)


def _training_text() -> Iterator[str]:
    """Yield text in which everything that should become one token is frequent."""
    round_numbers = "200 250 300 400 404 500 512 256 365 600 700 800 900 999 199 202 201 203"
    frequent = [
        "\n".join(f"{word}\n and {word}" for word in ONE_TOKEN_WORDS),
        "\n".join(f"{number:02d}" for number in range(100)) * 2,
        "\n".join(str(number) for number in range(100, 151)) + "\n",
        "\n".join(round_numbers.split()),
        "\n".join(" " * width + "x" for width in (*range(2, 10), 12, 16)) + "\n\n\n\n\t\tx\n",
        "\n".join(number_in_words(number) for number in range(121)),
    ]
    yield from frequent * 60
    yield from [POEM] * 15
    yield from [_CODE] * 4
    rng = random.Random(0)
    mixture = Mixture(dict.fromkeys(PLAIN_TASKS, 1.0), tools=0.5, two_tools=0.4, needle=0.3)
    marks = re.compile("|".join(re.escape(token) for token in CONTROL_TOKENS + MARKUP_TOKENS))
    for _ in range(1200):
        spelled = _Spelling()
        Row(rng, rng.choice((512, 1024, 2048)), mixture, spelled.encode)
        for text in marks.split("".join(spelled.pieces)):
            assert unicodedata.is_normalized("NFC", text)
            if text:
                yield text


class _Spelling:
    """Stands in for an encoder while there is none: one id a character, keeping all text."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.pieces.append(text)
        return [0] * len(text)


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json (chat_template.jinja is a source file)."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": TURN_END,
        "pad_token": DOCUMENT_END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
        "response_template": RESPONSE_TEMPLATE,
    }
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
