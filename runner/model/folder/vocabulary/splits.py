"""How byte-level BPE tokenizers split text before they merge, by GGUF's name of the rule.

A GGUF holds the name alone. The rules are those of the tokenizer.json of the model that gave the
rule its name: its regular expressions, its normaliser, whether a whole word that is a token is
taken without merging. llama.cpp has its own adaptations of them, which are what is checked.
"""

from dataclasses import dataclass
from typing import Any

Step = dict[str, Any]


def _split(regex: str) -> Step:
    pattern = {"Regex": regex}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def _bytes(*, use_regex: bool) -> Step:
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {**step, "use_regex": use_regex}


def _digits(*, individual: bool) -> Step:
    return {"type": "Digits", "individual_digits": individual}


@dataclass(frozen=True)
class SplitRule:
    """What a byte-level BPE tokenizer does to text before it merges."""

    steps: tuple[Step, ...]
    normalizer: str | None = None
    """Unicode's name of the normal form: NFC, or None."""
    whole_words: bool = False
    """Whether a word that is a token is taken as it is, without merging (``ignore_merges``)."""
    adds_bos: bool = False
    """Whether the tokenizer puts BOS before a text where the GGUF does not say."""


def _by(*regexes: str) -> tuple[Step, ...]:
    return (*(_split(regex) for regex in regexes), _bytes(use_regex=False))


_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD, _SIGNS = r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_PATHS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_ASCII_SIGNS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_MARKED = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"

_GPT2 = (_bytes(use_regex=True),)
_SINGLE_DIGITS = (_digits(individual=True), _bytes(use_regex=True))
_LLAMA3 = _by(f"{_ENDINGS}|{_WORD}|\\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}")
_QWEN2 = _by(f"{_ENDINGS}|{_WORD}|\\p{{N}}|{_SIGNS}|{_SPACES}")
_QWEN35 = _by(
    rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_CASED = f"{_BEFORE}{_UPPER}*{_LOWER}+", f"{_BEFORE}{_UPPER}+{_LOWER}*"
_TEKKEN = _by(f"{_CASED[0]}|{_CASED[1]}|\\p{{N}}|{_PATHS}|{_SPACES}")
_GPT4O = _by(f"{_CASED[0]}{_ENDINGS}?|{_CASED[1]}{_ENDINGS}?|\\p{{N}}{{1,3}}|{_PATHS}|{_SPACES}")
_DEEPSEEK3 = _by(r"\p{N}{1,3}", _CJK, f"{_ASCII_SIGNS}|{_MARKED}|{_SPACES}")
_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_HAN_AND_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_DEEPSEEK_LLM = (
    _split("[\r\n]"),
    _split(rf"\s?[{_LETTERS}]+"),
    _split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
    _split(r"\s+$"),
    _split(_HAN_AND_HANGUL),
    _digits(individual=True),
    _bytes(use_regex=False),
)
_DEEPSEEK_CODER = (
    _split("[\r\n]"),
    _split(r"\s?\p{L}+"),
    _split(r"\s?\p{P}+"),
    _split(_HAN_AND_HANGUL),
    _digits(individual=True),
    _bytes(use_regex=False),
)
_FALCON = (
    {"type": "Punctuation", "behavior": "Contiguous"},
    _bytes(use_regex=True),
    _digits(individual=False),
    _split("[0-9][0-9][0-9]"),
)
_BLOOM = _by(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+")

_RULES = {
    "gpt-2": SplitRule(_GPT2),
    "mpt": SplitRule(_GPT2, "NFC"),
    "olmo": SplitRule(_GPT2, "NFC"),
    "llama-bpe": SplitRule(_LLAMA3, whole_words=True, adds_bos=True),
    "dbrx": SplitRule(_LLAMA3),
    "smaug-bpe": SplitRule(_LLAMA3),
    "chatglm-bpe": SplitRule(_LLAMA3),
    "glm4": SplitRule(_LLAMA3, whole_words=True),
    "qwen2": SplitRule(_QWEN2, "NFC"),
    "stablelm2": SplitRule(_QWEN2),
    "qwen35": SplitRule(_QWEN35, "NFC"),
    "smollm": SplitRule(_SINGLE_DIGITS),
    "starcoder": SplitRule(_SINGLE_DIGITS),
    "refact": SplitRule(_SINGLE_DIGITS),
    "codeshell": SplitRule(_SINGLE_DIGITS),
    "command-r": SplitRule(_SINGLE_DIGITS, "NFC"),
    "falcon": SplitRule(_FALCON),
    "deepseek-llm": SplitRule(_DEEPSEEK_LLM),
    "deepseek-coder": SplitRule(_DEEPSEEK_CODER),
    "deepseek-v3": SplitRule(_DEEPSEEK3),
    "tekken": SplitRule(_TEKKEN, whole_words=True, adds_bos=True),
    "gpt-4o": SplitRule(_GPT4O),
    "bloom": SplitRule(_BLOOM),
}
#: Names for rules that are the same.
_SAME = {
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "falcon3": "llama-bpe",
    "lfm2": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
    "glm5": "glm4",
    "llama4": "gpt-4o",
    "poro-chat": "bloom",
    "gpt3-finnish": "bloom",
    "phi-2": "gpt-2",
}
#: Every name that is known.
NAMES = tuple(sorted([*_RULES, *_SAME]))


def split_rule(name: str) -> SplitRule | None:
    """Return the rule that GGUF calls ``name``; None if it is not known here."""
    return _RULES.get(_SAME.get(name, name))
