"""Compute golden answers of a suite: rendered prompts and token ids.

    python -m suites.golden suites/smoke.yaml [--model FOLDER] [--check]

Golden answers must not come from an engine under test: they come from :mod:`suites.model_files`,
which reads the model's own files. The other golden fields (text, finish_reason, message) are
written by hand.

Only the lines of the computed fields change; comments and layout stay. A case with such fields
must be in block style, and so must its ``golden``. ``--check`` writes nothing and fails if the
file differs from what this program would write.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from suites.errors import UserError
from suites.exit_codes import USAGE
from suites.golden_fields import with_fields
from suites.loading import SHIPPED, load_suite, load_yaml
from suites.model_files import ModelFiles, is_texts_digest
from suites.suite import Suite


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


def _truth(suite: Suite, path: Path, model: Path | None) -> ModelFiles:
    """Return the files of the model for which a suite was written.

    Raises:
        UserError: nobody said where they are, or the folder has other texts.
    """
    named = suite.golden_for or ""
    if not is_texts_digest(named):
        return ModelFiles(model or SHIPPED / named)
    if model is None:
        what = f"the suite was written for a model with the texts {named}, and no folder is given"
        raise UserError(what, where=str(path), fix="add --model FOLDER")
    truth = ModelFiles(model)
    if truth.digest != named:
        raise UserError(
            f"{model} has the texts {truth.digest}, and the suite was written for {named}",
            where=str(path),
            fix="give the folder of that model, or write this one's digest into `golden_for:`",
        )
    return truth


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
        truth = _truth(suite, options.suite, options.model)
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
