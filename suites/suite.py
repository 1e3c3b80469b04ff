"""Suite and Case: frozen, versioned questions with the answers that are known beforehand."""

import json
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from suites.digest import tagged_digest
from suites.stages import CASELESS, Pass, Stage

JsonObject = dict[str, Any]

#: What a case of a stage must bring along, one of each inner tuple.
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


class Frozen(BaseModel):
    """Base of everything that is read from a file and never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Golden(Frozen):
    """Answers known beforehand; a field left out is taken from the reference instead."""

    prompt_text: str | None = None
    """The rendered prompt, exact characters."""
    prompt_ids: tuple[int, ...] | None = None
    """The prompt's token ids, BOS and specials included."""
    script_ids: tuple[int, ...] | None = None
    """The token ids of ``script``, as they are forced through the engine."""
    text: str | None = None
    """The text that the user receives; of a chain the right answer, an outcome and no truth."""
    message: JsonObject | None = None
    """The assistant message that the user receives: content, reasoning_content, tool_calls."""
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    """Why generation ended, in OpenAI's words."""


class Script(Frozen):
    """An output forced token by token through the engine's own generation loop."""

    text: str
    """What is forced first."""
    eos: int | None = None
    """Then this member (0-based) of the model's EOS set; none is forced if left out."""
    after: str = ""
    """Then this text, which must never reach the user when an EOS was forced before it."""


class SamplingParameters(Frozen):
    """Sampling parameters of a request; one left out is not asked for: nothing may be applied."""

    temperature: float | None = Field(default=None, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, lt=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] = Field(default_factory=dict)
    """Text of one token → what is added to its logit."""


class Scenario(Frozen):
    """What else happens around the request of a ``state`` case; alone it must answer the same."""

    kind: Literal["batched", "chunked", "prefix", "reused", "concurrent"]
    """In one batch with others; its prompt in chunks; after others that share its beginning; in the
    slot of a finished request; generated together with others."""
    beside: tuple[tuple[JsonObject, ...], ...] = ()
    """Conversations of the others, in order; all kinds but ``chunked`` need one."""
    sizes: tuple[int, ...] = ()
    """Sequences in a batch (batched), tokens in a chunk (chunked), slots (concurrent)."""
    canaries: tuple[str, ...] = ()
    """A secret per conversation, the case's own first: each may appear in its own answer only."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.kind != "chunked") != bool(self.beside):
            raise ValueError("beside: conversations for every kind but chunked, which has none")
        if self.kind in ("batched", "chunked", "concurrent") and not self.sizes:
            raise ValueError(f"a {self.kind} scenario needs sizes")
        if any(size < 1 for size in self.sizes):
            raise ValueError("sizes are 1 or more")
        if self.kind == "batched" and max(self.sizes) > len(self.beside) + 1:
            raise ValueError(
                f"a batch of {max(self.sizes)} needs {max(self.sizes) - 1} conversations beside it"
            )
        if self.canaries and len(self.canaries) != len(self.beside) + 1:
            raise ValueError("canaries: one for the case's own conversation and each beside it")
        return self


class Case(Frozen):
    """One question to one stage of the chain."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_./-]{0,99}$")
    """Stable name, unique in its suite."""
    stage: Stage
    """The stage that the case isolates; ``chain`` runs the whole of it."""
    tags: tuple[str, ...] = ()
    """Groups in which verdicts are also given."""
    messages: tuple[JsonObject, ...] | None = None
    """An OpenAI-style conversation."""
    tools: tuple[JsonObject, ...] | None = None
    """OpenAI-style tool definitions."""
    template_options: JsonObject = Field(default_factory=dict)
    """Switches of the chat template, such as ``enable_thinking``."""
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
    """How a sampling case is looked at: first tokens of many draws against the distribution, each
    token of one greedy answer against the argmax, or answers under equal and other seeds."""
    draws: int = Field(default=500, ge=50, le=20000)
    """Draws of the first token (measure: draws)."""
    scenario: Scenario | None = None
    """What happens around the request (state)."""
    golden: Golden = Golden()
    """What must come out, where that is known beforehand."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.stage in CASELESS or self.stage not in _NEEDS:
            raise ValueError(f"stage {self.stage!r} takes no cases: its facts come from the engine")
        for choices in _NEEDS[self.stage]:
            if all(getattr(self, name) is None for name in choices):
                raise ValueError(f"a {self.stage} case needs {' or '.join(choices)}")
        if self.messages is not None and self.text is not None:
            raise ValueError("give messages or text, not both")
        return self

    @cached_property
    def digest(self) -> str:
        """``k1:…`` over everything that is asked or expected; id and tags are only names.

        The order of keys is part of the question: a template prints tools as they come.
        """
        foreign = set() if self.stage == "sampling" else {"asked", "measure", "draws"}
        if self.stage != "state":
            foreign.add("scenario")
        body = self.model_dump(mode="json", exclude={"id", "tags", *foreign})
        return tagged_digest("k1", json.dumps(body, ensure_ascii=False))


class Take(Frozen):
    """Cases of another suite; what is given narrows them down, and all of it must hold."""

    suite: str
    """A shipped suite's name, or a path relative to this file."""
    stages: tuple[Stage, ...] = ()
    """Stages whose cases are taken."""
    tags: tuple[str, ...] = ()
    """Tags of which a case must have one."""
    cases: tuple[str, ...] = ()
    """Patterns of which a case's id must fit one, such as ``parse/*-arguments``."""


class Suite(Frozen):
    """A named, versioned list of cases."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")
    """Name as used in a matrix."""
    version: int = Field(ge=1)
    """Raised with every change of meaning."""
    description: str = ""
    """One sentence for people."""
    tier: Literal[1, 2, 3] = 1
    """1 runs under a minute, 2 under five, 3 is full."""
    requires: tuple[Stage, ...]
    """Stages that must be qualified before a cell is."""
    golden_for: str | None = None
    """The model (folder under ``suites/``) that the golden texts were written for."""
    margins: dict[Pass, float] = Field(default_factory=dict)
    """Largest mean KL that counts as equal, per pass; a variant's own margin wins."""
    take: tuple[Take, ...] = ()
    """Cases of other suites, put before its own by the loader; empty once loaded."""
    cases: tuple[Case, ...] = ()
    """The questions."""

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if not self.cases and not self.take:
            raise ValueError("cases is empty: write some, or take those of another suite")
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
        body = self.model_dump(mode="json", exclude={"cases", "description", "take"})
        body["cases"] = [[c.id, c.digest, list(c.tags)] for c in self.cases]
        return tagged_digest("u1", body)
