"""Derive a suite from a model folder: cases of every stage, with golden answers from its files."""

from collections.abc import Iterable
from pathlib import Path

from suites.derive.detokenize_cases import detokenize_cases
from suites.derive.markers import find_markers
from suites.derive.number_cases import chain_cases, logits_cases, sampling_cases, state_cases
from suites.derive.parse_cases import parse_cases, why_unknown
from suites.derive.prompts import prompt_cases
from suites.derive.self_checks import self_checks
from suites.derive.source import Source
from suites.derive.stop_cases import stop_cases
from suites.derive.template_cases import template_cases
from suites.derive.tokenize_cases import tokenize_cases
from suites.model_files import ModelFiles
from suites.rendering.templates import read_object
from suites.stages import CASELESS, STAGES, Stage
from suites.suite import Case, Suite

#: Served where nothing says how long the context is.
_CONTEXT = 1024
_NO_TEMPLATE = "the model has no chat template"
_NO_END = "the model's files name no token that ends an answer"


def derive_suite(
    folder: Path,
    *,
    name: str,
    context_length: int | None = None,
    prompts: Path | None = None,
) -> Suite:
    """Return a suite for the model in ``folder``, with nothing written by hand.

    Args:
        folder: a model folder in Hugging Face's layout, with ``tokenizer.json``.
        name: the suite's name.
        context_length: the context in which it is served; by default what its files say.
        prompts: a file of the user's own prompts; each adds a case of four stages.

    The same files give the same suite. Golden answers are computed from the files by libraries that
    are no engine under test; they are truth for every model with the same texts (``golden_for``).

    Raises:
        UserError: a file cannot be read, or a template reached a limit.
    """
    files = ModelFiles(folder)
    source = Source(files, context_length or _context(folder))
    markers = find_markers(source)
    cases: list[Case] = [
        *template_cases(source),
        *tokenize_cases(source),
        *logits_cases(source),
        *state_cases(source),
        *sampling_cases(source),
        *stop_cases(source, markers),
        *detokenize_cases(source, markers),
        *parse_cases(source, markers),
        *chain_cases(source),
    ]
    if prompts is not None:
        cases += prompt_cases(source, prompts)
    for note in self_checks(source, markers):
        source.note(note)
    files.close()
    return Suite(
        name=name,
        version=1,
        description=f"Derived from the files of {folder.name}: what its texts and numbers must be.",
        tier=1,
        requires=_required(cases),
        golden_for=files.digest,
        margins={"structure": 1e-7},
        cases=tuple(cases),
        unasked=_unasked(source, cases),
        notes=tuple(source.notes),
    )


def _context(folder: Path) -> int:
    found = read_object(folder / "config.json").get("max_position_embeddings")
    return found if type(found) is int and found > 0 else _CONTEXT


def _required(cases: Iterable[Case]) -> tuple[Stage, ...]:
    asked = {case.stage for case in cases}
    return tuple(stage for stage in STAGES if stage in CASELESS or stage in asked)


def _unasked(source: Source, cases: Iterable[Case]) -> dict[Stage, str]:
    """Return why stages have no case."""
    asked = {case.stage for case in cases}
    found: dict[Stage, str] = {}
    for stage in STAGES:
        if stage in asked or stage in CASELESS:
            continue
        if not source.has_template:
            found[stage] = _NO_TEMPLATE
        elif stage in ("stop", "detokenize"):
            found[stage] = _NO_END
        elif stage == "parse":
            found[stage] = why_unknown(source)
    return found
