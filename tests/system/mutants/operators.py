"""The changes that mutation testing makes: what can be mutated in a source, and how.

A mutant replaces one piece of the text. Assertions, annotations, docstrings, log calls, f-strings
and `if TYPE_CHECKING` are left alone: no test should depend on them.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2s

OPERATORS = ("negate", "boundary", "boolean", "number", "limit", "delete")

NEGATED = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
}
BOUNDARY = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}
COMPARISON = re.compile(r"not\s+in\b|is\s+not\b|\bin\b|\bis\b|[=!<>]=|[<>]")
BOOLEAN = re.compile(r"\b(?:and|or)\b")
LEFT_ALONE = re.compile(r"\b_?log\.\w+$|^assert_never$")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file.

    id: the same as long as the function's name, the changed line and its like stay the same.
    file: the path in the package, such as hub/gaps.py.
    function: its qualified name; empty outside functions and classes.
    operator: negate, boundary, boolean, number, limit or delete. A limit is a number that a module
        gives a name in upper case: its tests often read it there, and then cannot notice.
    line, last: the first and the last line of the changed piece.
    start, end: the changed piece, in bytes of the source as UTF-8.
    text: what replaces it.
    runs_at_import: the piece runs when the module is imported, not in a function.
    before, after: the changed line without its indentation.
    """

    id: str
    file: str
    function: str
    operator: str
    line: int
    last: int
    start: int
    end: int
    text: str
    runs_at_import: bool
    before: str
    after: str

    def apply(self, source: str) -> str:
        """Return the source with the change."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{self.id} {place} {self.operator}: `{self.before}` -> `{self.after}`"


def find_mutants(file: str, source: str) -> list[Mutant]:
    """Return every mutant of a source, from top to bottom."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    mutants = []
    seen: Counter[tuple[str, ...]] = Counter()
    for change in sorted(finder.changes, key=lambda each: (each.start, each.operator, each.text)):
        before, after = _show(finder.data, change)
        key = (file, change.function, change.operator, before, after)
        seen[key] += 1
        digest = blake2s("\0".join((*key, str(seen[key]))).encode(), digest_size=4).hexdigest()
        mutants.append(
            Mutant(
                id=digest,
                file=file,
                function=change.function,
                operator=change.operator,
                line=finder.data.count(b"\n", 0, change.start) + 1,
                last=finder.data.count(b"\n", 0, change.end) + 1,
                start=change.start,
                end=change.end,
                text=change.text,
                runs_at_import=change.runs_at_import,
                before=before,
                after=after,
            )
        )
    return mutants


@dataclass(frozen=True, slots=True)
class _Change:
    operator: str
    start: int
    end: int
    text: str
    function: str
    runs_at_import: bool


def _show(data: bytes, change: _Change) -> tuple[str, str]:
    """Return the first changed line and what becomes of it."""
    begin = data.rfind(b"\n", 0, change.start) + 1
    head, piece = data[begin : change.start].decode(), data[change.start : change.end].decode()
    tail = data[change.end :].split(b"\n", 1)[0].decode()
    piece = re.sub(r"\s*\n\s*", " ", piece)
    return f"{head}{piece}{tail}".strip(), f"{head}{change.text}{tail}".strip()


class _Finder(ast.NodeVisitor):
    """Collects the changes of one tree. A method that does not go deeper excludes what is below."""

    def __init__(self, source: str) -> None:
        self.data = source.encode()
        self.changes: list[_Change] = []
        lines = self.data.splitlines(keepends=True)
        self._offsets = [0]
        for line in lines:
            self._offsets.append(self._offsets[-1] + len(line))
        self._names: list[str] = []
        self._functions = 0
        self._number = "number"

    def _add(self, operator: str, start: int, end: int, text: str) -> None:
        function = ".".join(self._names)
        self.changes.append(_Change(operator, start, end, text, function, not self._functions))

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._offsets[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offsets[node.end_lineno - 1] + node.end_col_offset

    def _replace_between(
        self, operator: str, left: ast.expr, right: ast.expr, pattern: re.Pattern[str], text: str
    ) -> None:
        start = self._end(left)
        found = pattern.search(self.data[start : self._start(right)].decode("latin-1"))
        assert found is not None
        self._add(operator, start + found.start(), start + found.end(), text)

    def _delete(self, node: ast.stmt) -> None:
        self._add("delete", self._start(node), self._end(node), "pass")

    # What is left alone.

    def visit_Assert(self, node: ast.Assert) -> None:
        """Skip it: an assertion narrows a type."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Skip it: Python 3.11 does not say where the parts of an f-string are."""

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """Skip it: it holds only an annotation."""

    # Scopes.

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._names.append(node.name)
        for each in (*node.decorator_list, node.args):
            self.visit(each)
        self._functions += 1
        for statement in node.body:
            self.visit(statement)
        self._functions -= 1
        self._names.pop()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._functions += 1
        self.visit(node.body)
        self._functions -= 1

    # Expressions.

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, right, kind in zip(operands, node.comparators, node.ops, strict=False):
            self._replace_between("negate", left, right, COMPARISON, NEGATED[type(kind)])
            if text := BOUNDARY.get(type(kind)):
                self._replace_between("boundary", left, right, COMPARISON, text)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        text = "or" if isinstance(node.op, ast.And) else "and"
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._replace_between("boolean", left, right, BOOLEAN, text)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            for step in (1, -1):
                text = repr(node.value + step)
                self._add(self._number, self._start(node), self._end(node), text)

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring, or "..."
        if isinstance(node.value, ast.Call) and LEFT_ALONE.search(ast.unparse(node.value.func)):
            return
        self._delete(node)
        self.generic_visit(node)

    def visit_Module(self, node: ast.Module) -> None:
        for statement in node.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                name = ast.unparse(statement).split(" ")[0].rstrip(":")
                self._number = "limit" if name.isupper() else "number"
            self.visit(statement)
            self._number = "number"

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(
            isinstance(target, ast.Name) and target.id == "__slots__" for target in node.targets
        ):
            return
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._delete(node)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            if isinstance(node.target, ast.Attribute | ast.Subscript):
                self._delete(node)
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._delete(node)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        if not any(isinstance(target, ast.Name) for target in node.targets):
            self._delete(node)

    def visit_Return(self, node: ast.Return) -> None:
        self._delete(node)
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if "NotImplementedError" not in ast.unparse(node):
            self._delete(node)
            self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._delete(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._delete(node)
