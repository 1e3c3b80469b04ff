"""What the cases of a suite ask, as the tests of all suites look at it."""

from suites.model_files import ModelFiles
from suites.suite import Case, Suite

#: Tokens that the shipped model's context holds.
CONTEXT = 1024


def of_stage(suite: Suite, *stages: str) -> list[Case]:
    """Return the suite's cases of these stages; a suite without them fails the test that asks."""
    found = [case for case in suite.cases if case.stage in stages]
    assert found, f"suite {suite.name} has no case of {', '.join(stages)}"
    return found


def prompt_ids(case: Case, truth: ModelFiles) -> list[int]:
    """Return the ids of a case's prompt as the model's files say."""
    if case.text is not None:
        return truth.encode(case.text, add_special=True)
    text = truth.render(case.messages or (), case.tools, case.template_options)
    return truth.encode(text, add_special=False)
