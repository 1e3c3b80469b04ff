"""The mutation test itself: what it changes, what it leaves alone, and what it reports."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.mutants.__main__ import chosen, explained, outcomes
from tests.mutants.mutant import Mutant
from tests.mutants.python import python_mutants
from tests.mutants.sql import sql_mutants
from tests.mutants.targets import covering_tests, files, mutants_of
from tests.paths import ROOT

PROTOCOL = "runner/engines/protocol.py"


def _changes(mutants: list[Mutant]) -> set[str]:
    return {mutant.change for mutant in mutants}


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ("SELECT a < b", {"< -> >="}),
        ("SELECT a -> '$.x' >= b", {">= -> <"}),
        ("SELECT a IS NOT NULL OR b", {"IS NOT NULL -> IS NULL", "OR -> AND"}),
        ("SELECT a IS NOT DISTINCT FROM b", {"IS NOT DISTINCT FROM -> IS DISTINCT FROM"}),
        ("SELECT NOT a", {"NOT -> (nothing)"}),
        ("SELECT coalesce(f(a, b), c)", {", c -> (nothing)"}),
        ("SELECT a BETWEEN x AND y AND b", {"AND -> OR"}),
        ("SELECT 1e-3 AS a, 20 AS b, c2", {"1e-3 -> 0.01", "20 -> 21"}),
        ("FROM a LEFT JOIN b USING (c)", {"LEFT JOIN -> INNER JOIN"}),
        ("SELECT 1 FROM a WHERE b", {"1 -> 2", "(nothing) -> true OR"}),
        ("SELECT CASE WHEN a THEN b END", {"(nothing) -> false AND"}),
        ("SELECT CASE a WHEN b THEN c END", set()),
        ("SELECT max(a)", {"max -> min"}),
        ("SELECT 'a < 1 AND it''s' -- b < 2", set()),
    ],
)
def test_sql_is_changed_at_its_tokens_and_never_inside_of_strings(
    sql: str, changes: set[str]
) -> None:
    assert _changes(list(sql_mutants("x.sql", sql))) == changes


def test_a_condition_on_its_own_line_is_dropped() -> None:
    sql = "SELECT a\nFROM t\nWHERE\n    a\n    AND b = c\n    OR f(\n        d\n    )\n"
    changed = {mutant.changed for mutant in sql_mutants("x.sql", sql)}
    assert "SELECT a\nFROM t\nWHERE\n    a\n    OR f(\n        d\n    )\n" in changed


@pytest.mark.parametrize(
    ("python", "changes"),
    [
        ("a < b", {"< -> >="}),
        ("a is not None", {"is not -> is"}),
        ("'ü' in b and (c) or d", {"in -> not in", "and -> or", "or -> and"}),
        ("x = not (a)", {"not -> (nothing)"}),
        ("a = b * 2", {"* -> /", "2 -> 3"}),
        ("a = True", {"True -> False"}),
        ("os.fsync(file)", {"os.fsync(file) -> pass"}),
        ("if a:\n    b = c", {"a -> False"}),
        ("'a docstring: 1 < 2'  # 3 > 4", set()),
    ],
)
def test_python_is_changed_at_its_syntax(python: str, changes: set[str]) -> None:
    mutants = list(python_mutants("x.py", python))
    assert _changes(mutants) == changes
    for mutant in mutants:
        ast.parse(mutant.changed)


def test_every_file_has_tests_that_are_there() -> None:
    names = files(ROOT)
    assert {"analysis/views/sources/rules.sql", "runner/stored/store.py", PROTOCOL} <= set(names)
    assert [t for name in names for t in covering_tests(name) if not (ROOT / t).exists()] == []


def test_every_threshold_is_changed() -> None:
    rules = mutants_of(ROOT, "analysis/views/sources/rules.sql")
    assert len(rules) >= 20
    assert all(mutant.line_text.split("--")[0].strip() for mutant in rules)


def test_the_same_seed_chooses_the_same_mutants() -> None:
    drawn = [chosen(ROOT, "analysis/sql_functions/*", 5, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_is_explained_is_still_a_mutant() -> None:
    for file, line, change in explained():
        found = {(m.line_text, m.change) for m in mutants_of(ROOT, file)}
        assert (line, change) in found, f"{file}: remove or correct its entry"


def test_a_change_that_a_test_notices_is_killed_and_another_survives(tmp_path: Path) -> None:
    text = "def smaller(a: int, b: int) -> bool:\n    return a < b and a < 100\n"
    test = "from runner.engines.protocol import smaller\n\ndef test_it() -> None:\n    assert {}\n"
    for name, content in {
        "runner/__init__.py": "",
        "runner/engines/__init__.py": "",
        PROTOCOL: text,
        covering_tests(PROTOCOL)[0]: test.format("smaller(1, 2) and not smaller(2, 1)"),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    found = dict(outcomes(tmp_path, mutants_of(tmp_path, PROTOCOL), 2, 60))
    assert sorted(found.values()) == ["killed"] * 3 + ["survived"]
    assert {m.change for m, outcome in found.items() if outcome == "survived"} == {"100 -> 101"}
    assert (tmp_path / PROTOCOL).read_text() == text, "only copies are changed"
