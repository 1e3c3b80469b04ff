"""vLLM's server with token ids: the distributions it returns, for one request or several at once.

It returns log-probabilities of the raw logits, taken before anything changes them, so the ids of a
script do not influence them. It returns each entry as JSON: a vocabulary of ordinary size is too
much for more than a few positions, and is then hidden rather than cut.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from runner.engines.base import Logits, Unseen
from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import first_choice, numbered
from runner.engines.servers.server_errors import Refused, ServerFailure

#: Under this name a request carries the ids that must come out.
SCRIPT = "forced_ids"
#: Entries in one answer; each takes about 70 bytes of JSON.
_MOST_ENTRIES = 2_500_000
#: How long a paused server is given to queue one request.
_QUEUED_S = 0.03
_ID = "token_id:"
_T = TypeVar("_T")
_R = TypeVar("_R")


class Numbers:
    """Requests by ids. ``abilities`` is what the server was seen to do."""

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model
        self.vocabulary = 0
        """Entries of one distribution; 0 where the server does not return all of them."""
        self.by_ids = False
        """Whether ``/inference/v1/generate`` is served."""
        self.forces = False
        """Whether it makes the ids of a script come out."""
        self.pauses = False
        """Whether it may be held until several requests are queued."""

    def find_out(self, some: Sequence[int]) -> None:
        """Ask once what the server does; ``some`` is the beginning of a prompt."""
        self.vocabulary = len(self._told_all(some))
        asked: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "detokenize": False}
        self.by_ids = self._serves("/inference/v1/generate", self._by_ids(some, asked))
        # Two ids, the second of which nothing would choose after the first.
        script = [some[0], some[0]]
        answer = self._client.post(
            "completions", self._request(some, 2, script=script, ignore_eos=True)
        )
        self.forces = _ids(first_choice(answer)) == script

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        # A prompt whose log-probabilities are asked for is never read from the cache.
        salt = {"cache_salt": uuid.uuid4().hex} if cold else {}
        return self._prompt_rows(ids, (), **salt)[1]

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        """Return the rows of a forced answer, or of the server's own where that is the same."""
        self._tells(len(output))
        script = output if self.forces else ()
        body = self._request(prompt, len(output), script=script, ignore_eos=True)
        choice = first_choice(self._client.post("completions", {**body, **_ALL}))
        if _ids(choice) != list(output):
            if self.forces:
                raise RuntimeError(f"vLLM was to decode {list(output)} and did {_ids(choice)}")
            raise Unseen("hidden", "this server cannot be made to give a certain answer")
        return self._output_rows(choice["logprobs"]["top_logprobs"])

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        """Ask for all sequences at once; where it may be held, they start in the same step."""
        if not self.forces and any(output for _, output in sequences):
            raise Unseen("hidden", "this server cannot be made to give a certain answer")

        def rows(sequence: tuple[Sequence[int], Sequence[int]]) -> Logits:
            prompt, output = sequence
            found = self._prompt_rows(prompt, output)[1]
            return found if output else found[:-1]

        return self.together(rows, sequences, len(sequences))

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        """Serve prompts under one new salt, so that nothing older is found in the cache."""
        if not self.by_ids:
            raise Unseen("hidden", "this server returns no log-probabilities of a cached prompt")
        salt = uuid.uuid4().hex
        for prompt in earlier:
            self._client.post("completions", {**self._request(prompt, 1), "cache_salt": salt})
        return self._prompt_rows(ids, (), cache_salt=salt, skip_reading_prefix_cache=False)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        def answer(prompt: Sequence[int]) -> list[int]:
            body = self._request(prompt, max_tokens)
            return _ids(first_choice(self._client.post("completions", body)))

        return self.together(answer, prompts, slots)

    def sampled(
        self,
        prompt: Sequence[int],
        asked: dict[str, Any],
        limit: int,
        seed: int | None,
        answers: int,
    ) -> list[list[int]]:
        """Return the ids of so many answers, drawn by the server's own sampler."""
        body = self._request(prompt, limit, n=answers)
        del body["temperature"]  # where nothing is asked, the server decides
        body.update(asked)
        if seed is not None:
            body["seed"] = seed
        choices = self._client.post("completions", body).get("choices") or ()
        if len(choices) != answers:
            raise ServerFailure(f"{len(choices)} answers came, and {answers} were asked for")
        return [_ids(choice) for choice in choices]

    def ends(self, prompt: Sequence[int], token: int) -> bool:
        """Whether an answer ends with this id, though more is forced to follow."""
        body = self._request(prompt, 2, script=[token, prompt[-1]])
        choice = first_choice(self._client.post("completions", body))
        return _ids(choice) == [token] and choice.get("finish_reason") == "stop"

    def together(self, ask: Callable[[_T], _R], asked: Sequence[_T], slots: int) -> list[_R]:
        """Ask with ``slots`` threads; the first of them are queued while the server is held."""
        with ThreadPoolExecutor(slots) as pool:
            with self._held(min(slots, len(asked))):
                answers = [pool.submit(ask, one) for one in asked]
            return [answer.result() for answer in answers]

    @contextmanager
    def _held(self, requests: int) -> Iterator[None]:
        if not self.pauses or requests < 2:
            yield
            return
        self._client.post("/pause?mode=keep", {})
        try:
            yield
            time.sleep(_QUEUED_S * (requests + 1))
        finally:
            self._client.post("/resume", {})

    def _prompt_rows(
        self, prompt: Sequence[int], output: Sequence[int], **more: Any
    ) -> tuple[int, Logits]:
        """Return how many positions came from the cache, and the rows of the others."""
        steps = max(1, len(output))
        self._tells(len(prompt) + steps)
        if self.by_ids:
            asked: dict[str, Any] = {
                "max_tokens": steps,
                "temperature": 0.0,
                "ignore_eos": True,
                "detokenize": False,
                "prompt_logprobs": -1,
                "logprobs": -1,
            }
            if "skip_reading_prefix_cache" in more:
                asked["skip_reading_prefix_cache"] = more.pop("skip_reading_prefix_cache")
            if output:
                asked["extra_args"] = {SCRIPT: list(output)}
            body = {**self._by_ids(prompt, asked), **more}
            answer = self._client.post("/inference/v1/generate", body)
            choice, of_prompt = first_choice(answer), answer.get("prompt_logprobs")
            of_steps = [
                {entry["token_id"]: entry["logprob"] for entry in step["top_logprobs"]}
                for step in choice["logprobs"]["content"]
            ]
        else:
            body = {**self._request(prompt, steps, script=output, ignore_eos=True), **_ALL, **more}
            answer = self._client.post("completions", {**body, "prompt_logprobs": -1})
            choice = first_choice(answer)
            of_prompt, of_steps = choice.get("prompt_logprobs"), choice["logprobs"]["top_logprobs"]
        if output and _ids(choice) != list(output):
            raise RuntimeError(f"vLLM was to produce {list(output)} and did {_ids(choice)}")
        details = (answer.get("usage") or {}).get("prompt_tokens_details") or {}
        cached = int(details.get("cached_tokens") or 0)
        rows = [{int(i): p["logprob"] for i, p in row.items()} for row in of_prompt[cached + 1 :]]
        return cached, self._output_rows([*rows, *of_steps])

    def _output_rows(self, positions: Sequence[dict[Any, float]]) -> Logits:
        """Return rows [n, V] from log-probabilities by id."""
        rows = np.full((len(positions), self.vocabulary), np.nan, np.float32)
        for row, entries in zip(rows, positions, strict=True):
            ids = [int(str(name).removeprefix(_ID)) for name in entries]
            if len(ids) != self.vocabulary or max(ids) >= self.vocabulary:
                raise ServerFailure(f"{len(ids)} log-probabilities came of {self.vocabulary}")
            row[ids] = list(entries.values())
        return rows

    def _tells(self, positions: int) -> None:
        if not self.vocabulary:
            why = "this server returns only a few log-probabilities (--max-logprobs -1 returns all)"
            raise Unseen("hidden", why)
        if positions * self.vocabulary > _MOST_ENTRIES:
            why = f"{positions} distributions over {self.vocabulary} ids are too much for JSON"
            raise Unseen("hidden", why)

    def _told_all(self, some: Sequence[int]) -> dict[str, float]:
        try:
            answer = self._client.post("completions", {**self._request(some, 1), **_ALL})
        except Refused:
            return {}
        rows = (first_choice(answer).get("logprobs") or {}).get("top_logprobs") or [{}]
        found: dict[str, float] = rows[0]
        return found

    def _serves(self, path: str, body: dict[str, Any]) -> bool:
        try:
            self._client.post(path, body)
        except (Refused, ServerFailure):
            return False
        return True

    def _by_ids(self, ids: Sequence[int], asked: dict[str, Any]) -> dict[str, Any]:
        return {"model": self._model, "token_ids": list(ids), "sampling_params": asked}

    def _request(
        self, prompt: Sequence[int], limit: int, script: Sequence[int] = (), **more: Any
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": list(prompt),
            "max_tokens": limit,
            "temperature": 0.0,
            "return_token_ids": True,
        }
        if script:
            body["vllm_xargs"] = {SCRIPT: list(script)}
        return {**body, **more}


#: Asks for all entries of a distribution, each named by its id.
_ALL: dict[str, Any] = {"logprobs": -1, "return_tokens_as_token_ids": True}


def _ids(choice: dict[str, Any]) -> list[int]:
    return numbered(iter(choice.get("token_ids") or ()))
