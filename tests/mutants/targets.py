"""Which files are changed, and which tests must notice; fast and near ones first."""

from pathlib import Path

from tests.mutants.mutant import Mutant
from tests.mutants.python import python_mutants, python_parses
from tests.mutants.sql import sql_mutants, sql_parses

_VIEWS = "tests/analysis/views/"
#: All tests of what judges; those that are near a file come before these.
JUDGING = (
    _VIEWS,
    "tests/analysis/judging/",
    "tests/analysis/sql_functions/",
    "tests/analysis/showing/test_readers.py",
    "tests/fleetqual/test_earlier_results.py",
)
#: Beginning of a file's path → the tests that are near it. The longest beginning counts.
NEAR: dict[str, tuple[str, ...]] = {
    "runner/stored/store.py": ("tests/runner/stored/test_store.py", "tests/analysis/judging/"),
    "runner/engines/protocol.py": ("tests/runner/engines/test_protocol.py",),
    "analysis/judging/": ("tests/analysis/judging/",),
    "analysis/sql_functions/": ("tests/analysis/sql_functions/",),
    "analysis/sql_functions/likely_sampler.py": (_VIEWS + "test_sampling.py",),
    "analysis/views/": (_VIEWS + "test_verdicts.py", "tests/analysis/showing/"),
    "analysis/views/sources/": (_VIEWS + "test_verdicts.py", _VIEWS + "test_numeric.py"),
    "analysis/views/staging/": (_VIEWS + "test_verdicts.py", _VIEWS + "test_vouched.py"),
    "analysis/views/compared/": (_VIEWS + "test_verdicts.py",),
    "analysis/views/compared/sampling.sql": (_VIEWS + "test_sampling.py",),
    "analysis/views/compared/state.sql": (
        *(_VIEWS + f"test_{name}.py" for name in ("state", "state_chats", "state_untrusted")),
    ),
    "analysis/views/compared/instrument.sql": (_VIEWS + "test_instrument.py",),
    "analysis/views/compared/swaps.sql": (_VIEWS + "test_confirmed.py",),
    "analysis/views/numeric/": (_VIEWS + "test_numeric.py", _VIEWS + "test_profiles.py"),
    "analysis/views/numeric/draw": (_VIEWS + "test_sampling.py", _VIEWS + "test_sampling_power.py"),
    "analysis/views/numeric/greedy": (_VIEWS + "test_sampling.py",),
    "analysis/views/chain/": (_VIEWS + "test_placement.py", _VIEWS + "test_hidden.py"),
    "analysis/views/verdicts/": (_VIEWS + "test_verdicts.py", _VIEWS + "test_placement.py"),
    "analysis/views/verdicts/confirmations.sql": (_VIEWS + "test_confirmed.py",),
    "analysis/views/public/": (_VIEWS + "test_verdicts.py", _VIEWS + "test_detections.py"),
    "analysis/views/public/variance_components.sql": (_VIEWS + "test_variance.py",),
}
#: Macros that only word what was decided elsewhere.
_WORDS = "analysis/views/wording/"
_TARGETS = (
    "analysis/views/**/*.sql",
    "analysis/judging/*.py",
    "analysis/sql_functions/*.py",
    "runner/stored/store.py",
    "runner/engines/protocol.py",
)


def files(root: Path) -> list[str]:
    """Return the files that are changed, relative to ``root``, in order of name."""
    found = {path for pattern in _TARGETS for path in root.glob(pattern)}
    names = sorted(path.relative_to(root).as_posix() for path in found)
    return [name for name in names if not name.startswith(_WORDS)]


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of their places."""
    text = (root / file).read_text(encoding="utf-8")
    make = sql_mutants if file.endswith(".sql") else python_mutants
    return sorted(make(file, text), key=lambda m: (m.start, m.end, m.replacement))


def parses(mutant: Mutant) -> bool:
    """Whether the changed file is still SQL or Python; one that is not shows nothing."""
    check = sql_parses if mutant.file.endswith(".sql") else python_parses
    return check(mutant.changed)


def covering_tests(file: str) -> list[str]:
    """Return the tests to run for a file, in order; what stands twice is run once."""
    near = max((start for start in NEAR if file.startswith(start)), key=len)
    rest = () if file.startswith("runner/") else JUDGING
    return list(dict.fromkeys([*NEAR[near], *rest]))
