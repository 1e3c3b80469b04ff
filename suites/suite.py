"""Suite and Case: versioned questions, with golden answers where these are known."""

import json
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from suites.digest import tagged_digest
from suites.stages import CASELESS, Pass, Stage

JsonObject = dict[str, Any]

#: Stage → what its cases must have: one field of each inner tuple.
_NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "template": (("messages",),),
    "tokenize": (("messages", "text"),),
    "logits": (("messages", "text"),),
    "state": (("messages", "text"), ("scenario",)),
    "sampling": (("messages", "text"), ("measure",)),
    "stop": (("script",),),
    "detokenize": (("script",),),
    "parse": (("script",),),
    "chain": (("messages",),),
}


#: Fields of a suite that say what it is and change nothing that it asks.
_NOT_DIGESTED = {"cases", "description", "take", "unasked", "notes"}


class Frozen(BaseModel):
    """Base of all models that are read from a file; instances do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Golden(Frozen):
    """Answers that are known before a run; for missing fields the reference is used."""

    prompt_text: str | None = None
    """The rendered prompt, exact characters."""
    refused: str | None = Field(default=None, min_length=1)
    """The template refuses the conversation with this message (``raise_exception``): there is no
    prompt, and the engine must say so."""
    prompt_ids: tuple[int, ...] | None = None
    """The prompt's token ids, BOS and specials included."""
    script_ids: tuple[int, ...] | None = None
    """The token ids of ``script`` that are forced through the engine."""
    text: str | None = None
    """The text that the user receives; in a chain case the right answer, for scores only."""
    message: JsonObject | None = None
    """The assistant message that the user receives: content, reasoning_content, tool_calls."""
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    """Why generation ended, as in OpenAI's API."""


class Script(Frozen):
    """An output forced token by token through the engine's own generation loop."""

    text: str
    """Text that is forced first."""
    eos: int | None = None
    """Then this member (0-based) of the model's EOS set; none by default."""
    after: str = ""
    """Then this text, which must not reach the user if an EOS was forced before it."""


class SamplingParameters(Frozen):
    """Sampling parameters of a request; a missing one must not be applied by the engine."""

    temperature: float | None = Field(default=None, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, lt=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] = Field(default_factory=dict)
    """Text of one token → number that is added to its logit."""


class Scenario(Frozen):
    """Other requests around that of a ``state`` case; its answer must not depend on them."""

    kind: Literal["batched", "chunked", "prefix", "reused", "concurrent"]
    """batched: in one batch with others. chunked: its prompt in chunks. prefix: after others with
    the same beginning. reused: in a finished request's slot. concurrent: generated together."""
    beside: tuple[tuple[JsonObject, ...], ...] = ()
    """Conversations of the other requests, in order; every kind but ``chunked`` needs one."""
    sizes: tuple[int, ...] = ()
    """Sequences in a batch (batched), tokens in a chunk (chunked), slots (concurrent)."""
    canaries: tuple[str, ...] = ()
    """A secret for each conversation, the case's own first; only its own answer may contain it."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.kind != "chunked") != bool(self.beside):
            raise ValueError(
                "every kind but chunked needs conversations in `beside:`, and chunked has none"
            )
        if self.kind in ("batched", "chunked", "concurrent") and not self.sizes:
            raise ValueError(f"a {self.kind} scenario needs sizes")
        if any(size < 1 for size in self.sizes):
            raise ValueError("sizes must be 1 or more")
        if self.kind == "batched" and max(self.sizes) > len(self.beside) + 1:
            raise ValueError(
                f"a batch of {max(self.sizes)} needs {max(self.sizes) - 1} conversations beside it"
            )
        if self.canaries and len(self.canaries) != len(self.beside) + 1:
            raise ValueError(
                "`canaries:` needs one for the case and one for each conversation in `beside:`"
            )
        return self


class Case(Frozen):
    """One question to one stage of the chain."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_./-]{0,99}$")
    """Stable name, unique in its suite."""
    stage: Stage
    """The stage that the case tests alone; ``chain`` tests the whole chain."""
    tags: tuple[str, ...] = ()
    """Groups that get their own verdicts."""
    messages: tuple[JsonObject, ...] | None = None
    """An OpenAI-style conversation."""
    tools: tuple[JsonObject, ...] | None = None
    """OpenAI-style tool definitions."""
    template_options: JsonObject = Field(default_factory=dict)
    """Options of the chat template, such as ``enable_thinking``."""
    text: str | None = None
    """Raw text instead of a conversation (the completion path)."""
    script: Script | None = None
    """The forced output, for stop, detokenize and parse."""
    stop: tuple[str, ...] = ()
    """Stop strings of the request."""
    max_tokens: int = Field(default=64, ge=1, le=4096)
    """Largest number of generated tokens."""
    asked: SamplingParameters = SamplingParameters()
    """Sampling parameters of the request (sampling)."""
    measure: Literal["draws", "greedy", "seed"] | None = None
    """What a sampling case compares. draws: first tokens of many draws, with the distribution.
    greedy: each token of one answer, with the argmax. seed: answers with equal and other seeds."""
    draws: int = Field(default=500, ge=50, le=20000)
    """Draws of the first token (measure: draws)."""
    scenario: Scenario | None = None
    """Other requests around this one (state)."""
    golden: Golden = Golden()
    """The right answers, where they are known."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.stage in CASELESS or self.stage not in _NEEDS:
            raise ValueError(f"stage {self.stage!r} has no cases: its facts come from the engine")
        for choices in _NEEDS[self.stage]:
            if all(getattr(self, name) is None for name in choices):
                raise ValueError(f"a {self.stage} case needs {' or '.join(choices)}")
        if self.messages is not None and self.text is not None:
            raise ValueError("give messages or text, not both")
        return self

    @cached_property
    def digest(self) -> str:
        """``k1:…`` over the question and the golden answers, without id and tags.

        The order of keys counts: a template prints tools in their order.
        """
        foreign = set() if self.stage == "sampling" else {"asked", "measure", "draws"}
        if self.stage != "state":
            foreign.add("scenario")
        body = self.model_dump(mode="json", exclude={"id", "tags", *foreign})
        if self.golden.refused is None:
            del body["golden"]["refused"]  # as in the digests of references that were frozen before
        return tagged_digest("k1", json.dumps(body, ensure_ascii=False))


class Take(Frozen):
    """Selects cases of another suite: those that match all given keys."""

    suite: str
    """A shipped suite's name, or a path relative to this file."""
    stages: tuple[Stage, ...] = ()
    """A case must belong to one of these stages."""
    tags: tuple[str, ...] = ()
    """A case must have one of these tags."""
    cases: tuple[str, ...] = ()
    """A case's id must match one of these patterns, such as ``parse/*-arguments``."""


class Suite(Frozen):
    """A named, versioned list of cases."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")
    """Name as used in a matrix."""
    version: int = Field(ge=1)
    """Increased with every change of meaning."""
    description: str = ""
    """One sentence that says what it tests."""
    tier: Literal[1, 2, 3] = 1
    """1: under one minute; 2: under five minutes; 3: longer."""
    requires: tuple[Stage, ...]
    """Stages that must be qualified before a cell is."""
    golden_for: str | None = None
    """The model for which the golden answers were written: a folder in ``suites/``, or the digest
    of a model's texts (``x1:…``: templates, tokenizer, special tokens, EOS set)."""
    margins: dict[Pass, float] = Field(default_factory=dict)
    """Pass → largest mean KL that counts as equal; a variant's own margin wins."""
    take: tuple[Take, ...] = ()
    """Cases of other suites; the loader puts them before its own and empties this list."""
    cases: tuple[Case, ...] = ()
    """The questions."""
    unasked: dict[Stage, str] = Field(default_factory=dict)
    """Stage without cases → why it has none."""
    notes: tuple[str, ...] = ()
    """What was noticed in the model's files when the suite was derived; no verdict rests on it."""

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if not self.cases and not self.take:
            raise ValueError("`cases:` is empty: write cases, or take those of another suite")
        return self

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: set[str] = set()
        for case in self.cases:
            if case.id in seen:
                raise ValueError(f"case id {case.id!r} is used twice")
            seen.add(case.id)
        return self

    @cached_property
    def digest(self) -> str:
        """``u1:…`` over the suite and the digests of its cases."""
        body = self.model_dump(mode="json", exclude=_NOT_DIGESTED)
        body["cases"] = [[c.id, c.digest, list(c.tags)] for c in self.cases]
        return tagged_digest("u1", body)
