"""Which strategy a client_order_id names."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.wire.strategy_rule import (
    MAX_NAME,
    BeforeDash,
    Prefixes,
    RuleError,
    name_strategy,
    parse_rule,
)

UUID = "61e69015-8549-4bfd-b9c3-01e75843f47d"


class RuleTests(SynchronousTestCase):
    """One rule each."""

    def assert_names(self, rule: str, names: dict[str, str]) -> None:
        """Assert that a rule finds these strategies by id."""
        parsed = parse_rule(rule)
        self.assertEqual({each: name_strategy(parsed, each) for each in names}, names)

    def test_text_before_the_first_dash_is_the_strategy(self) -> None:
        """Without a dash, or with nothing before it, there is none."""
        self.assert_names(
            "",
            {
                "momentum-42": "momentum",
                "pairs-AAPL-MSFT-1": "pairs",
                "a b-1": "a b",
                "manual": "(none)",
                "-1": "(none)",
                " -1": "(none)",
                "": "(none)",
                "\n-1": "(none)",
                "(other)-1": "(none)",
                "x" * 126 + "-1": "x" * 126,
                "x" * 127 + "-1": "(none)",
            },
        )
        self.assertEqual(name_strategy(BeforeDash(), None), "(none)")

    def test_uuid_names_no_strategy(self) -> None:
        """Whatever the rule, in upper case and without dashes too."""
        for rule in ("", "61e69015", "^([0-9a-fA-F]+)"):
            ids = (UUID, UUID.upper(), UUID.replace("-", ""))
            self.assert_names(rule, dict.fromkeys(ids, "(none)"))
        self.assert_names("", {f"{UUID}0-1": "61e69015"})

    def test_longest_prefix_counts(self) -> None:
        """A prefix is the name, with its separator if it has one."""
        self.assert_names(
            " mom, mom-fast ,pairs/",
            {"mom-1": "mom", "mom-fast-1": "mom-fast", "pairs/1": "pairs/", "x": "(none)"},
        )

    def test_group_of_the_expression_is_the_strategy(self) -> None:
        """It may be anywhere in the id, and may be empty."""
        self.assert_names(
            r"^bot_(\w+)_[0-9]+$|^$",
            {
                "bot_momentum_17": "momentum",
                "bot__1": "(none)",
                "xbot_a_1": "(none)",
                "\udcff": "(none)",
            },
        )

    def test_expression_with_nested_repetitions_takes_no_time(self) -> None:
        """With Python's re this one takes longer than the universe exists."""
        rule = parse_rule(r"^((?:a|a|a*)*)b$")
        begin = time.perf_counter()
        for _ in range(100):
            name_strategy(rule, "a" * MAX_NAME)
        self.assertLess(time.perf_counter() - begin, 1)

    def test_wrong_rule_says_why(self) -> None:
        """Without its text, which may be anything."""
        for rule, reason in (
            ("(a", "RE2"),
            (r"(a)\1", "RE2"),
            ("(a)(b)", "2 groups"),
            ("(?:a)", "0 groups"),
            ("((a{1000}){1000})", "RE2"),
            ("(" + "a" * 999 + ")", "more than 1,000 characters"),
            ("a" * 129, "at most 128 printable characters"),
            ("a\tb", "printable"),
            (",".join(map(str, range(1001))), "more than 1,000 prefixes"),
        ):
            with self.assertRaises(RuleError) as caught:
                parse_rule(rule)
            self.assertIn(reason, str(caught.exception))

    def test_rule_of_the_greatest_size_is_accepted(self) -> None:
        """docs/security.md has the bounds. RE2 may use a megabyte for an expression."""
        self.assertEqual(len(parse_rule("(" + "a" * 998 + ")").text), 1000)
        self.assertEqual(parse_rule("a" * 128).find("a" * 128), "a" * 128)
        self.assertEqual(parse_rule(",".join(map(str, range(1000)))).find("999-1"), "999")
        parse_rule("(" + "x{1000}" * 80 + ")")
        self.assertRaises(RuleError, parse_rule, "(" + "x{1000}" * 90 + ")")

    def test_wrong_expression_is_not_printed(self) -> None:
        """RE2 would write it to the standard error, beside the log. It may be anything."""
        output, error = Path(self.mktemp()), os.dup(2)
        self.addCleanup(os.close, error)
        with output.open("wb") as file:
            os.dup2(file.fileno(), 2)
            try:
                self.assertRaises(RuleError, parse_rule, "(a")
            finally:
                os.dup2(error, 2)
        self.assertEqual(output.read_bytes(), b"")

    def test_expression_without_re2_says_what_to_install(self) -> None:
        """RE2 is an optional dependency."""
        with patch.dict(sys.modules, {"re2": None}):
            self.assertRaisesRegex(RuleError, r"tradeproxy\[re2\]", parse_rule, "(a)")

    def test_text_describes_the_rule(self) -> None:
        """The book compares it with that of the rule by which it was built."""
        for rule, text in (("", ""), ("b, a,b", "a,b"), ("(a)", "(a)")):
            self.assertEqual(parse_rule(rule).text, text)

    def test_equal_rules_are_equal(self) -> None:
        """A reload compares them."""
        for rule in ("", "a,b", "(a)"):
            self.assertEqual(parse_rule(rule), parse_rule(rule))
            self.assertEqual(hash(parse_rule(rule)), hash(parse_rule(rule)))
        self.assertEqual(parse_rule("a,b"), Prefixes(("b", "a")))
        for rule in ("", "a", "(b)"):
            self.assertNotEqual(parse_rule(rule), parse_rule("(a)"))
            self.assertNotEqual(parse_rule("(a)"), parse_rule(rule))

    @examples()
    @given(st.text(max_size=40), st.sampled_from(["", "a,b,-", "(.*)-", "^(.)"]))
    def test_every_id_has_a_name_that_can_be_shown(self, text: str, rule: str) -> None:
        """One line of printable characters."""
        name = name_strategy(parse_rule(rule), text)
        self.assertTrue(name.isprintable() and 0 < len(name) <= MAX_NAME, name)
