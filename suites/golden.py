"""Compute golden answers of a suite: rendered prompts and token ids.

    python -m suites.golden suites/smoke.yaml [--model FOLDER] [--check]

Golden answers must not come from an engine under test. Prompts are rendered by jinja2, set up as
the documentation of chat templates says; ids come from the ``tokenizers`` library. Both read the
model's own files. The other golden fields (text, finish_reason, message) are written by hand.

Only the lines of the computed fields change; comments and layout stay. A case with such fields
must be in block style, and so must its ``golden``. ``--check`` writes nothing and fails if the
file differs from what this program would write.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from suites.errors import UserError
from suites.exit_codes import USAGE
from suites.golden_fields import with_fields
from suites.loading import SHIPPED, load_suite, load_yaml
from suites.suite import Case, Script, Suite


class ModelFiles:
    """The chat template and the tokenizer of one model folder (Hugging Face layout)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._specials = _specials(folder / "tokenizer_config.json")
            self._ends = _end_ids(folder / "generation_config.json")
        except Exception as error:  # the tokenizers library raises plain Exception
            raise UserError(
                f"the model's files cannot be read: {error}",
                where=str(folder),
                fix="give --model a folder with tokenizer.json and its configuration",
            ) from error

    @cached_property
    def _template(self) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        source = (self._folder / "chat_template.jinja").read_text(encoding="utf-8")
        return environment.from_string(source)

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        *,
        open_turn: bool = True,
    ) -> str:
        """Return the prompt of a conversation, with the header of the answer if ``open_turn``.

        Content with one text part (OpenAI's long form) is rendered as its text.
        """
        plain = [{**message, **_plain(message)} for message in messages]
        return self.rendered_as_sent(plain, tools, options, open_turn=open_turn)

    def rendered_as_sent(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        *,
        open_turn: bool = True,
    ) -> str:
        """Return the prompt of a conversation whose content goes into the template as it is."""
        return self._template.render(
            **self._specials,
            messages=messages,
            tools=tools,
            add_generation_prompt=open_turn,
            **(options or {}),
        )

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        """Return the ids of ``text``, with the tokenizer's BOS if ``add_special``."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def script_ids(self, script: Script) -> list[int]:
        """Return the ids to force for ``script``: its text, the EOS, the text after it."""
        ids = self.encode(script.text, add_special=False)
        if script.eos is not None:
            ids.append(self._ends[script.eos])
        return ids + self.encode(script.after, add_special=False)

    def visible(self, ids: Sequence[int]) -> str:
        """Return the text of ids as users get it, without control tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def answers(self, case: Case) -> dict[str, Any]:
        """Return the computed golden fields of a case, in the order of the file."""
        found: dict[str, Any] = {}
        if case.stage in ("template", "tokenize") and case.messages is not None:
            found["prompt_text"] = self.render(case.messages, case.tools, case.template_options)
        if case.stage == "tokenize" and case.messages is not None:
            found["prompt_ids"] = self.encode(found["prompt_text"], add_special=False)
        if case.stage == "tokenize" and case.text is not None:
            found["prompt_ids"] = self.encode(case.text, add_special=True)
        if case.script is not None:
            found["script_ids"] = self.script_ids(case.script)
        return found


def completed(path: Path, truth: ModelFiles) -> str:
    """Return the suite file's text with correct computed fields.

    Raises:
        UserError: the file is not a suite, or a case is not in block style.
    """
    answers = [truth.answers(case) for case in load_yaml(path, Suite).cases]
    return with_fields(path.read_text(encoding="utf-8"), answers, path)


def stale(path: Path, truth: ModelFiles) -> list[str]:
    """Return the ids of cases whose computed fields are missing or wrong in the file."""
    found = []
    for case in load_yaml(path, Suite).cases:
        answers, golden = truth.answers(case), case.golden.model_dump(mode="json")
        if any(golden[name] != value for name, value in answers.items()):
            found.append(case.id)
    return found


def _plain(message: dict[str, Any]) -> dict[str, str]:
    """Return the content of a message as text if it is one text part, else nothing.

    Raises:
        UserError: there are several parts; it is undefined how templates join them.
    """
    parts = message.get("content")
    if not isinstance(parts, list):
        return {}
    if len(parts) != 1 or parts[0].get("type") != "text":
        raise UserError("content in parts must be one part of text", fix="write it as text")
    return {"content": parts[0]["text"]}


def _tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _specials(path: Path) -> dict[str, str]:
    """Return the special tokens that a template may name, such as ``bos_token``."""
    config = json.loads(path.read_text(encoding="utf-8"))
    found = {k: v for k, v in config.items() if k.endswith("_token") and v is not None}
    return {k: v["content"] if isinstance(v, dict) else v for k, v in found.items() if v}


def _end_ids(path: Path) -> list[int]:
    """Return the EOS set in ascending order; ``eos:`` of a script is an index into it."""
    ids = json.loads(path.read_text(encoding="utf-8"))["eos_token_id"]
    return sorted(ids) if isinstance(ids, list) else [ids]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the computed fields of a suite file; with ``--check`` print the outdated cases."""
    parser = argparse.ArgumentParser(prog="python -m suites.golden", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("suite", type=Path, help="the suite file")
    parser.add_argument(
        "--model", type=Path, help="the model's folder; default: the suite's own model"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the file is out of date"
    )
    options = parser.parse_args(arguments)
    try:
        # Only the suite's own cases: taken cases are completed in their own file.
        suite = load_suite(f"./{options.suite.name}", options.suite.parent)
        truth = ModelFiles(options.model or SHIPPED / (suite.golden_for or ""))
        text = completed(options.suite, truth)
        if not options.check:
            options.suite.write_text(text, encoding="utf-8")
            return 0
        wrong = stale(options.suite, truth)
    except UserError as error:
        print(error, file=sys.stderr)
        return USAGE
    if text == options.suite.read_text(encoding="utf-8"):
        return 0
    named = ", ".join(wrong) or "none (only the layout of the computed fields)"
    print(f"{options.suite} is out of date; cases: {named}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
