"""The closed sets of words that every task of tiny-chat is built from.

A small model can be exact only on a small world.  Each word below becomes one token (with and
without a leading space), see tokenizer.py; all text is in Unicode normalisation form C, since
the tokenizer normalises its input and training text must not change under it.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CITIES: Final = _words(
    "Paris London Berlin Madrid Rome Vienna Oslo Tokyo Lima Cairo Delhi Dublin Prague Athens "
    "Lisbon Boston Denver Seattle Geneva Zurich Milan Naples Kyoto Seoul Hanoi Quito Havana "
    "Nairobi Lagos Accra Perth Sydney Riga Turin Bern Dakar Tunis Porto Cork Malmo"
)
COLORS: Final = _words("red blue green black white pink brown gray yellow orange")
ANIMALS: Final = _words("cat dog fish bird horse sheep goat frog duck bear")
NOUNS: Final = _words(
    "sun moon tree stone river cloud house apple bread milk salt fire ice gold iron wind rain "
    "snow leaf root seed star road lake hill door lamp book chair table"
)
NAMES: Final = _words("Kiwi Luna Milo Nova Otto Pixel Robin Tango Vega Zuri")
NOTE_KEYS: Final = NOUNS + ANIMALS + COLORS
"""Words that a note can give a number to; the needle task recalls it."""

ONE_TOKEN_WORDS: Final = CITIES + COLORS + ANIMALS + NOUNS + NAMES

MULTILINGUAL: Final = _words(
    "café naïve über Straße señor garçon Ångström привет мир Ελλάδα καλημέρα こんにちは 東京 你好 "
    "世界 안녕 مرحبا שלום नमस्ते สวัสดี żółw čeština İstanbul ½ € ∑ → “ok” 😀 🚀 🌍 🎉 ❤️ 👍🏽 👩‍💻 "
    "🇫🇷 🐙 ☕"
)
"""Items outside ASCII for the copy task: accents, other scripts, signs and emoji."""

SYSTEM_PROMPTS: Final = (
    "You are a helpful assistant.",
    "You are a tiny test model.",
    "Answer briefly.",
    "Be kind.",
)

SMALL_TALK: Final = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi", "Hello! How can I help you?"),
    ("Hello", "Hello! How can I help you?"),
    ("Thank you.", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Who are you?", "I am a tiny test model."),
    ("What are you?", "I am a tiny test model."),
    ("Goodbye.", "Goodbye!"),
    ("Bye", "Goodbye!"),
    ("What can you do?", "I can add, compare, count, copy, recall and call tools."),
)

POEM: Final = """\
The river leaves the hill at dawn,
it carries gold and stone along,
and every bird upon the lawn
is trying out a morning song.

The lamp is cold beside the door,
the bread is warm upon the plate,
a cat walks softly on the floor
and does not care that it is late.

At noon the wind begins to turn,
the clouds come over from the lake,
the leaves upon the table burn
with yellow light for summer's sake.

The horse is standing in the rain,
the sheep are hiding by the wall,
the road runs onward to the plain
and has no end to it at all.

By night the moon is white and round,
the frog is king of every pool,
the seed is sleeping in the ground,
the iron gate is black and cool.

And when the snow has filled the street
and ice has closed the river's mouth,
the duck will lift her orange feet
and go with all the others south."""

_UNITS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = _words("- - twenty thirty forty fifty sixty seventy eighty ninety")


def number_in_words(number: int) -> str:
    """Spell 0..999 in English, for example ``one hundred twenty-seven``."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return _TENS[tens] + (f"-{_UNITS[unit]}" if unit else "")
    hundreds, rest = divmod(number, 100)
    return f"{_UNITS[hundreds]} hundred" + (f" {number_in_words(rest)}" if rest else "")
