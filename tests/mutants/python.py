"""Mutants of Python: found in the syntax tree, changed in the text."""

import ast
import re
from collections.abc import Iterator

from tests.mutants.mutant import Mutant

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", ">="),
    ast.LtE: ("<=", ">"),
    ast.Gt: (">", "<="),
    ast.GtE: (">=", "<"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
}


def python_mutants(file: str, text: str) -> Iterator[Mutant]:
    """Yield every mutant of one Python file, in no special order."""
    place = _Places(text)
    for node in ast.walk(ast.parse(text)):
        for start, end, new in _of_node(node, place):
            yield Mutant(file, text, start, end, new)


def python_parses(text: str) -> bool:
    """Whether Python can parse a file."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


class _Places:
    """Places in the text of what the syntax tree gives by line and byte."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines(keepends=True)
        lengths = [len(line) for line in self.lines]
        self.starts = [sum(lengths[:i]) for i in range(len(lengths))]

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._at(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        return self._at(node.end_lineno or 0, node.end_col_offset or 0)

    def _at(self, line: int, byte: int) -> int:
        before = self.lines[line - 1].encode()[:byte]
        return self.starts[line - 1] + len(before.decode())

    def between(
        self, left: ast.expr, right: ast.expr, old: str, new: str
    ) -> Iterator[tuple[int, int, str]]:
        """Replace the operator between two operands, whatever brackets stand around it."""
        first, last = self.end(left), self.start(right)
        word = old.replace(" ", r"\s+") if old[0].isalpha() else re.escape(old)
        found = re.search(word, self.text[first:last])
        if found:
            yield first + found.start(), first + found.end(), new


def _of_node(node: ast.AST, place: _Places) -> Iterator[tuple[int, int, str]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from place.between(node.left, node.comparators[0], *_COMPARISONS[type(node.ops[0])])
    elif isinstance(node, ast.BoolOp):
        words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from place.between(left, right, *words)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield place.start(node), place.start(node) + len("not "), ""
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield from place.between(node.left, node.right, *_ARITHMETIC[type(node.op)])
    elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        yield place.start(node), place.end(node), _other(node.value)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        # A statement that only calls: without it nothing happens.
        yield place.start(node), place.end(node), "pass"
    elif isinstance(node, ast.If):
        yield place.start(node.test), place.end(node.test), "False"


def _other(value: object) -> str:
    if isinstance(value, bool):
        return str(not value)
    return str(value + 1) if isinstance(value, int) else repr(float(str(value)) * 10)
