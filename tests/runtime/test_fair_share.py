"""Tests for tradeproxy.runtime.socket_limit: the share of each key at a limit."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.socket_limit import FairShare


class FairShareTests(SynchronousTestCase):
    """The key with the most items gives up its oldest."""

    def test_oldest_of_key_with_most_is_first(self) -> None:
        """Older items of keys that have fewer stay."""
        share = FairShare()
        for item in ["a1", "b1", "b2", "b3", "c1", "c2"]:
            share.add(item[0], item)
        order = []
        while share.most:
            order.append(share.get_oldest_of_most())
            share.discard(order[-1])
        self.assertEqual(order, ["b1", "c1", "b2", "a1", "c2", "b3"])
        self.assertRaises(KeyError, share.get_oldest_of_most)

    def test_counts_match_those_of_a_scan(self) -> None:
        """Whatever is added and removed."""
        random = Random(1)
        share = FairShare()
        expected: dict[int, str] = {}
        for item in range(2000):
            key = str(random.randrange(20))
            share.add(key, item)
            expected[item] = key
            for gone in random.sample(sorted(expected), min(len(expected), random.randrange(3))):
                share.discard(gone)
                share.discard(gone)
                del expected[gone]
            counts = [list(expected.values()).count(str(key)) for key in range(20)]
            self.assertEqual([share.count(str(key)) for key in range(20)], counts)
            self.assertEqual(share.most, max(counts))
            if expected:
                oldest = share.get_oldest_of_most()
                self.assertEqual(counts[int(expected[oldest])], share.most)
                same = [each for each, key in expected.items() if key == expected[oldest]]
                self.assertEqual(oldest, same[0])
