"""What the chat loop of llama-cpp-python makes of a forced output: its text and why it ended.

It decides over bytes. While the last bytes can be the beginning of a longer character it goes on
without a look at stop strings and the limit. With several stop strings the first of the list cuts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.matrix.expected_rules.asked import Asked

#: First byte of a character of 2, 3 and 4 bytes: the bits that it has at least.
_LONG = ((2, 0xC0), (3, 0xE0), (4, 0xF0))


@dataclass(frozen=True)
class Loop:
    """The loop's input, and which of its habits it has."""

    pieces: tuple[bytes, ...]
    """Bytes of each forced token; of a control token none."""
    ends: tuple[bool, ...]
    """Whether each forced token ends the answer."""
    stops: tuple[bytes, ...]
    limit: int
    holds_back: bool = True
    """Whether it goes on while a character may be incomplete."""
    first_listed: bool = True
    """Whether the first stop string of the list cuts, not the earliest in the text."""

    def answer(self, *, stream: bool) -> tuple[str, str] | None:
        """Return text and finish reason; None where more than the forced tokens decides."""
        taken: list[bytes] = []
        shown = _Stream(self.stops)
        held = 0
        for piece, ends in zip(self.pieces, self.ends, strict=True):
            text = b"".join(taken)
            if ends:
                return self._ended(shown, taken, text, "stop", stream)
            taken.append(piece)
            text += piece
            held = self._held(text, held)
            if held:
                held -= 1
                continue
            cut = self._cut(text)
            if cut is not None:
                return self._ended(shown, taken, text[:cut], "stop", stream)
            if stream:
                shown.add(taken)
            if len(taken) >= self.limit:
                return self._ended(shown, taken, text, "length", stream)
        return None

    def _held(self, text: bytes, held: int) -> int:
        """Return for how many tokens from this one on it waits for the rest of a character."""
        if self.holds_back:
            for at, byte in enumerate(text[-3:]):
                for length, bits in _LONG:
                    if length > 3 - at and bits & byte == bits:
                        held = length - (3 - at)
        return held

    def _cut(self, text: bytes) -> int | None:
        found = [text.index(stop) for stop in self.stops if stop in text]
        if not found:
            return None
        return found[0] if self.first_listed else min(found)

    def _ended(
        self, shown: "_Stream", taken: list[bytes], text: bytes, why: str, stream: bool
    ) -> tuple[str, str]:
        return (shown.finished(taken) if stream else _readable(text)), why


class _Stream:
    """What its stream has sent: whole characters, and nothing that may begin a stop string."""

    def __init__(self, stops: tuple[bytes, ...]) -> None:
        self._stops = stops
        self._sent = 0
        self._text = ""

    def add(self, taken: Sequence[bytes]) -> None:
        """Send what is certain of the tokens so far."""
        rest = list(taken[self._sent :])
        whole = b"".join(rest)
        certain, at = len(whole) - self._begun_stop(whole), 0
        while rest:
            count = next((n for n in range(1, len(rest) + 1) if _is_whole(rest[:n])), 0)
            piece = b"".join(rest[:count])
            at += len(piece)
            if not count or at > certain:
                return
            self._text += piece.decode()
            self._sent += count
            rest = rest[count:]

    def finished(self, taken: Sequence[bytes]) -> str:
        """Return all that was sent; the rest goes token by token, without incomplete bytes."""
        rest = taken[self._sent :]
        whole = b"".join(rest)
        end = min((whole.index(s) for s in self._stops if s in whole), default=len(whole))
        text, at = self._text, 0
        for piece in rest:
            at += len(piece)
            if at >= end:
                return text + _readable(piece[: len(piece) - (at - end)])
            text += _readable(piece)
        return text

    def _begun_stop(self, text: bytes) -> int:
        """Return the length of the longest beginning of a stop string at the end of a text."""
        lengths = (n for s in self._stops for n in range(len(s), 0, -1) if text.endswith(s[:n]))
        return max(lengths, default=0)


def loop_of(asked: Asked, ends: frozenset[int]) -> Loop | None:
    """Return the loop of a case with a script; None for a case without one.

    Args:
        asked: the case.
        ends: the ids that end an answer.
    """
    ids = asked.script_ids
    if asked.case is None or ids is None:
        return None
    texts = asked.texts
    # The handler of a chat adds the text of the end token to the stop strings.
    stops = [stop for stop in (*asked.case.stop, texts.eos_text) if stop]
    return Loop(
        pieces=tuple(b"" if i in texts.specials or i in ends else texts.bytes_of(i) for i in ids),
        ends=tuple(i in ends for i in ids),
        stops=tuple(stop.encode() for stop in stops),
        limit=min(asked.case.max_tokens, len(ids)),
    )


def _is_whole(pieces: Sequence[bytes]) -> bool:
    try:
        b"".join(pieces).decode()
    except UnicodeDecodeError:
        return False
    return True


def _readable(text: bytes) -> str:
    return text.decode(errors="ignore")
