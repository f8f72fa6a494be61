"""Which strategy a client_order_id names."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.wire.strategy_rule import (
    MAX_NAME,
    MAX_PATTERN,
    MAX_PREFIXES,
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
                "x" * (MAX_NAME + 1): "(none)",
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
            ("(" + "a" * MAX_PATTERN + ")", "characters"),
            ("a" * (MAX_NAME + 1), "characters"),
            ("a\tb", "printable"),
            (",".join(map(str, range(MAX_PREFIXES + 1))), "prefixes"),
        ):
            with self.assertRaises(RuleError) as caught:
                parse_rule(rule)
            self.assertIn(reason, str(caught.exception))

    def test_equal_rules_are_equal(self) -> None:
        """A reload compares them."""
        for rule in ("", "a,b", "(a)"):
            self.assertEqual(parse_rule(rule), parse_rule(rule))
            self.assertEqual(hash(parse_rule(rule)), hash(parse_rule(rule)))
        self.assertEqual(parse_rule("a,b"), Prefixes(("b", "a")))
        self.assertNotEqual(parse_rule("a"), parse_rule("(a)"))

    @examples()
    @given(st.text(max_size=40), st.sampled_from(["", "a,b,-", "(.*)-", "^(.)"]))
    def test_every_id_has_a_name_that_can_be_shown(self, text: str, rule: str) -> None:
        """One line of printable characters."""
        name = name_strategy(parse_rule(rule), text)
        self.assertTrue(name.isprintable() and 0 < len(name) <= MAX_NAME, name)
