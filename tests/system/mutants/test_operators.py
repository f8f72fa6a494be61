"""Tests for tests.system.mutants.operators: what is mutated, and what is left alone."""

from __future__ import annotations

from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from tests.system.mutants.operators import Mutant, find_mutants

LEFT_ALONE = '''
"""A docstring, 1 < 2."""
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import a
    a.b = 1

class C:
    """A docstring."""

    __slots__ = ("a",) * 2
    size: Literal[1]

    def f(self, a: Literal[2]) -> Literal[3]:
        """A docstring."""
        assert a == 4, f"{a} is {5}"
        self._log.info("a {b}", b=6)
        assert_never(a)
        local = f"{a == 7}"
        raise NotImplementedError

    def g(self) -> None: ...
'''


def find(source: str) -> list[Mutant]:
    """Return the mutants of a source that is indented."""
    return find_mutants("room/module.py", dedent(source))


def list_changes(source: str) -> list[tuple[str, str]]:
    """Return operator and changed line of each mutant."""
    return [(mutant.operator, mutant.after) for mutant in find(source)]


class OperatorTests(SynchronousTestCase):
    """Each operator replaces one piece of the text."""

    def test_expressions_are_changed_in_one_place_each(self) -> None:
        """One row an expression, with all of its mutants."""
        table: tuple[tuple[str, list[tuple[str, str]]], ...] = (
            ("x = a == b", [("negate", "x = a != b")]),
            ("x = a is not b", [("negate", "x = a is b")]),
            ("x = a  not  in b", [("negate", "x = a  in b")]),
            ("x = (a)in(b)", [("negate", "x = (a)not in(b)")]),
            ("x = a < b", [("boundary", "x = a <= b"), ("negate", "x = a >= b")]),
            ("x = a >= b", [("boundary", "x = a > b"), ("negate", "x = a < b")]),
            (
                "x = a and b or c",
                [("boolean", "x = a or b or c"), ("boolean", "x = a and b and c")],
            ),
            ("x = 1_0", [("number", "x = 11"), ("number", "x = 9")]),
            ("_X: int = 1", [("limit", "_X: int = 0"), ("limit", "_X: int = 2")]),
            ("x = 0.5", [("number", "x = -0.5"), ("number", "x = 1.5")]),
            ("x = 'ä' != b", [("negate", "x = 'ä' == b")]),
            ("x = True", []),
        )
        for source, changes in table:
            self.assertEqual(list_changes(source), changes, source)

    def test_statements_with_effect_are_deleted(self) -> None:
        """A local name is not: without it the function would only raise an error."""
        source = """
            def f(a):
                local = a
                a.b = local
                a[b]: int = local
                a += local
                del a[b]
                f(
                    a,
                )
                for b in a:
                    if b:
                        continue
                    break
                if a:
                    raise a
                return a
        """
        mutants = find(source)
        self.assertEqual({mutant.operator for mutant in mutants}, {"delete"})
        self.assertEqual(
            [mutant.before for mutant in mutants],
            [
                "a.b = local",
                "a[b]: int = local",
                "a += local",
                "del a[b]",
                "f( a, )",
                "continue",
                "break",
                "raise a",
                "return a",
            ],
        )
        for mutant in mutants:
            self.assertIn("pass\n", mutant.apply(dedent(source)))

    def test_what_no_test_should_depend_on_is_left_alone(self) -> None:
        """Assertions, annotations, docstrings, log calls, f-strings, __slots__, TYPE_CHECKING."""
        self.assertEqual(list_changes(LEFT_ALONE), [])

    def test_apply_changes_only_the_piece(self) -> None:
        """Characters of several bytes before it don't shift it."""
        source = "x = 'äöü'; y = a < b  # ä\n"
        [boundary, negate] = find(source)
        self.assertEqual(boundary.apply(source), "x = 'äöü'; y = a <= b  # ä\n")
        self.assertEqual(negate.apply(source), "x = 'äöü'; y = a >= b  # ä\n")

    def test_code_outside_functions_runs_at_import(self) -> None:
        """So do decorators and defaults of parameters."""
        source = """
            A = 1
            class B:
                c = 2
                def d(self, e=3):
                    return 4
        """
        found = {mutant.before: mutant.runs_at_import for mutant in find(source)}
        self.assertEqual(
            found, {"A = 1": True, "c = 2": True, "def d(self, e=3):": True, "return 4": False}
        )


class IdTests(SynchronousTestCase):
    """An id stays the same while other lines change, so that a list of ids remains valid."""

    def test_id_survives_move(self) -> None:
        """A line above is another place, not another mutant."""
        source = "def f(a):\n    return a == b\n"
        before, after = find(source), find(f"import c\n\n{source}")
        self.assertEqual([each.id for each in before], [each.id for each in after])
        self.assertNotEqual([each.line for each in before], [each.line for each in after])

    def test_id_differs_between_functions_and_repeated_lines(self) -> None:
        """Each mutant can be run by its id."""
        mutants = find("def f(a):\n    a.b = c\n    a.b = c\ndef g(a):\n    a.b = c\n")
        self.assertEqual(len({mutant.id for mutant in mutants}), len(mutants))
