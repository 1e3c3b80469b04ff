"""Mutants of SQL: found by tokens, so that strings and comments stay as they are."""

import re
from collections.abc import Iterator

import duckdb

from tests.mutants.mutant import Mutant

_HIDDEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*")
#: Token → what replaces it. The first pattern that matches at a place wins.
_SWAPS: tuple[tuple[str, str], ...] = (
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NOT DISTINCT FROM\b", "IS DISTINCT FROM"),
    (r"\bIS DISTINCT FROM\b", "IS NOT DISTINCT FROM"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bNOT IN\b", "IN"),
    (r"\bNOT EXISTS\b", "EXISTS"),
    (r"\bNOT (?=[a-z(])", ""),
    (r"\bOR\b", "AND"),
    (r"\bAND\b", "OR"),
    (r"\bLEFT JOIN\b", "INNER JOIN"),
    (r"\bINNER JOIN\b", "LEFT JOIN"),
    (r"<>", "="),
    (r"<=", ">"),
    (r">=", "<"),
    (r"(?<![-=<])>(?!=)", "<="),
    (r"<(?![=>])", ">="),
    (r"(?<![<>=!:])=(?![=>])", "<>"),
    (r"\bbool_or(?=\()", "bool_and"),
    (r"\bbool_and(?=\()", "bool_or"),
    (r"\bmin(?=\()", "max"),
    (r"\bmax(?=\()", "min"),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
)
_SWAP = re.compile("|".join(f"(?P<s{i}>{old})" for i, (old, _) in enumerate(_SWAPS)))
#: A condition that has a line to itself, and the beginning of others.
_CONDITION = re.compile(r"^[ ]+(?:AND|OR) [^\n]*\n", re.MULTILINE)
_WHERE = re.compile(r"\bWHERE (?=[^\n])")
_WHEN = re.compile(r"\bWHEN\b")
_CASE = re.compile(r"\bCASE\b\s*(?=(\S+))")
_NUMBER = re.compile(r"(?<![\w.\]])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])")
_COALESCE = re.compile(r"\bcoalesce\(")
#: Before the AND that belongs to a BETWEEN.
_BETWEEN = re.compile(r"\bBETWEEN\b(?:(?!\bAND\b).)*$", re.DOTALL)


def sql_mutants(file: str, text: str) -> Iterator[Mutant]:
    """Yield every mutant of one SQL file, in no special order."""
    code = _HIDDEN.sub(lambda hidden: "¤" * len(hidden[0]), text)
    for found in (*_swapped(code), *_dropped(code), *_numbers(code), *_coalesced(code)):
        yield Mutant(file, text, *found)


def sql_parses(text: str) -> bool:
    """Whether DuckDB can parse a relation's file."""
    try:
        duckdb.extract_statements(text)
    except duckdb.Error:
        return False
    return True


def _swapped(code: str) -> Iterator[tuple[int, int, str]]:
    for token in _SWAP.finditer(code):
        if token[0] == "AND" and _BETWEEN.search(code[: token.start()]):
            continue
        new = _SWAPS[int((token.lastgroup or "s0")[1:])][1]
        yield token.start(), token.end(), new


def _dropped(code: str) -> Iterator[tuple[int, int, str]]:
    for line in _CONDITION.finditer(code):
        if line[0].count("(") == line[0].count(")") and "BETWEEN" not in line[0]:
            yield line.start(), line.end(), ""
    for word in _WHERE.finditer(code):
        yield word.end(), word.end(), "true OR "
    for word in _WHEN.finditer(code):
        # `CASE x WHEN 'a'` compares values; only a searched CASE has conditions.
        opened = [case[1] for case in _CASE.finditer(code[: word.start() + 4])]
        if opened and opened[-1] == "WHEN":
            yield word.end(), word.end(), " false AND"


def _numbers(code: str) -> Iterator[tuple[int, int, str]]:
    for number in _NUMBER.finditer(code):
        value = number[0]
        new = str(int(value) + 1) if value.isdigit() else f"{float(value) * 10:g}"
        yield number.start(), number.end(), new


def _coalesced(code: str) -> Iterator[tuple[int, int, str]]:
    """Replace ``coalesce(a, b)`` by ``coalesce(a)``: without the value that stands in."""
    for call in _COALESCE.finditer(code):
        depth, comma = 1, None
        for at in range(call.end(), len(code)):
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(code[at], 0)
            if depth == 1 and code[at] == "," and comma is None:
                comma = at
            if depth == 0:
                if comma is not None:
                    yield comma, at, ""
                break
