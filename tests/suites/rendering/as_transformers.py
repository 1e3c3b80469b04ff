"""Compare renderings with those of transformers, which runs in its own environment."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suites.errors import UserError
from suites.rendering import Refused, Renderer
from tests.engines import engine_python

Question = tuple[str, dict[str, Any]]
_SIDE = Path(__file__).with_name("transformers_side.py")


def transformers_answers(questions: Sequence[Question]) -> list[dict[str, str]]:
    """Return what transformers makes of each template with its variables, in one process."""
    lines = [json.dumps({"source": s, "variables": v}) for s, v in questions]
    done = subprocess.run(
        [engine_python("transformers"), str(_SIDE)],
        input="\n".join(lines) + "\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def own_answers(questions: Sequence[Question]) -> list[dict[str, str]]:
    """Return what the renderer makes of the same."""
    found = []
    with Renderer() as renderer:
        for source, variables in questions:
            try:
                answer = renderer.render(source, variables)
            except UserError as error:
                found.append({"exceeded": error.what})
                continue
            refused = isinstance(answer, Refused)
            found.append({"refused": answer.reason} if refused else {"text": answer.text})
    return found


def difference(own: dict[str, str], other: dict[str, str]) -> str | None:
    """Return how two answers differ; a refusal is the same if its reason is."""
    if "text" in own and "text" in other:
        return None if own["text"] == other["text"] else f"{own['text']!r} != {other['text']!r}"
    if "refused" in own and "refused" in other:
        # The name of the exception comes first where it is none of a template.
        same = own["refused"] in (other["refused"], f"{other['kind']}: {other['refused']}")
        return None if same else f"refused {own['refused']!r}, not {other['refused']!r}"
    return f"{own} is not {other}"
