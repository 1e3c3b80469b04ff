"""llama-server's own ``/completion``: ids in, ids out, and the distributions between them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.engines.base import Logits, Unseen
from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import numbered
from runner.engines.servers.server_errors import ServerFailure

GREEDY = {"temperature": 0.0, "top_k": 1, "repeat_penalty": 1.0}
#: Below the logarithm of the least float32, which is all that is known of what underflowed.
_LEAST = -104.0
#: Probabilities that one answer may hold, each about 80 bytes of JSON; and the largest vocabulary
#: of which distributions at many positions can be had in reasonable time.
_MOST_PROBABILITIES = 500_000
_LARGEST_VOCABULARY = 40_000


class Completion:
    """The endpoint; ``eos_ids`` are asked for when a sequence is to be forced."""

    def __init__(self, client: Client, size: Any, eos_ids: Callable[[], list[int]]) -> None:
        """``size`` is the number of ids in the vocabulary, as the server states it."""
        self._client, self._size, self._eos_ids = client, size, eos_ids
        self._texts: dict[int, str] = {}

    def completed(self, body: dict[str, Any]) -> dict[str, Any]:
        return as_object(self._client.post("/completion", body), "/completion")

    def generated(
        self,
        prompt: Sequence[int],
        asked: dict[str, Any],
        max_tokens: int,
        seed: int | None,
        **more: Any,
    ) -> list[int]:
        body = {"prompt": list(prompt), "n_predict": max_tokens, "return_tokens": True, **more}
        if seed is not None:
            body["seed"] = seed
        tokens = self.completed({**body, **asked}).get("tokens")
        if not isinstance(tokens, list) or not tokens:
            raise ServerFailure("/completion did not return the ids that it generated")
        return numbered(iter(tokens))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ids, U+FFFD where they hold a part of a character."""
        answer = as_object(self._client.post("/detokenize", {"tokens": list(ids)}), "/detokenize")
        if not isinstance(answer.get("content"), str):
            raise ServerFailure("/detokenize did not return a text")
        return str(answer["content"])

    def script(self, ids: Sequence[int]) -> tuple[str, bool]:
        """Return a grammar for ids without an EOS, and whether it names all of them.

        Its rules for ids refuse parts of characters, so a character in several ids goes in as text.

        Raises:
            Unseen: a part of a character is never made whole.
        """
        pieces, begun = list[str](), list[int]()
        for token in ids:
            if not begun and self._whole([token]):
                pieces.append(f"<[{token}]>")
                continue
            begun.append(token)
            if self._whole(begun):
                codes = "".join(f"\\U{ord(c):08X}" for c in self.text(begun))
                pieces.append(f'"{codes}"')
                begun = []
        if begun:
            raise Unseen("hidden", "its grammar cannot force a part of a character")
        return _rule(pieces), len(pieces) == len(ids)

    def _whole(self, ids: Sequence[int]) -> bool:
        if len(ids) > 1:
            return "\ufffd" not in self.text(ids)
        if ids[0] not in self._texts:
            self._texts[ids[0]] = self.text(ids)
        return "\ufffd" not in self._texts[ids[0]]

    def _forceable(self, token: int) -> bool:
        return token not in self._eos_ids() and self._whole([token])

    def rows(self, ids: Sequence[int], first: int, *, cold: bool = False) -> Logits:
        """Return log-probs [len(ids) - first, V] of what follows each id from ``first`` on."""
        most = max(1, _MOST_PROBABILITIES // self._vocabulary)
        rows = list[Logits]()
        while (at := first + len(rows)) < len(ids):
            # What no grammar can force begins the next piece; cold, every id does.
            stops = (i for i in range(at + 1, len(ids)) if cold or not self._forceable(ids[i]))
            stop = min(next(stops, len(ids)), at + most)
            rows += self._distributions(
                self.forced_on(ids[: at + 1], ids[at + 1 : stop], cold=cold)
            )
            if len(rows) != stop - first:
                raise ServerFailure(
                    f"/completion returned {len(rows)} positions, not {stop - first}"
                )
        return np.stack(rows)

    def forced_on(
        self, prompt: Sequence[int], following: Sequence[int], *, cold: bool = False
    ) -> dict[str, Any]:
        """Let the server generate exactly ``following``, and one id more.

        That one is forced too: of a part of a character no probabilities would come.
        """
        ids = [*following, self._filler()]
        body = {
            "prompt": list(prompt),
            "n_predict": len(ids),
            "n_probs": self._vocabulary,
            "post_sampling_probs": False,
            "id_slot": 0,
            "cache_prompt": not cold,
            "grammar": _rule([f"<[{token}]>" for token in ids]),
            **GREEDY,
        }
        return self.completed(body)

    def _filler(self) -> int:
        """Return the first id that is forced as it is."""
        return next(token for token in range(self._vocabulary) if self._forceable(token))

    def _distributions(self, answer: dict[str, Any]) -> list[Logits]:
        found, size = list[Logits](), self._vocabulary
        try:
            for position in answer["completion_probabilities"]:
                entries = position["top_logprobs"]
                row = np.full(size, np.nan, np.float32)
                row[[entry["id"] for entry in entries]] = [entry["logprob"] for entry in entries]
                if len(entries) != size:
                    raise ValueError(f"{len(entries)} of {size} probabilities came")
                found.append(np.maximum(row, _LEAST))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise ServerFailure(
                f"no distribution came from /completion: {error!r}"[:200]
            ) from error
        return found

    @property
    def _vocabulary(self) -> int:
        size = self._size
        if not isinstance(size, int) or size < 1:
            raise Unseen("hidden", "this version does not state the size of its vocabulary")
        if size > _LARGEST_VOCABULARY:
            raise Unseen("hidden", f"{size} probabilities at every position are too much JSON")
        return size


def _rule(pieces: Sequence[str]) -> str:
    return "root ::= " + (" ".join(pieces) or '""')


def as_object(answer: Any, path: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ServerFailure(f"{path} did not return an object")
    return answer
