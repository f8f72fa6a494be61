"""Tests for tradeproxy.web.routes: the targets of REST requests."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.web.routes import BAD_PATH, RestRequest, match_rest_request

pieces = st.sampled_from(
    [
        b"..",
        b".",
        b"/",
        b"//",
        b"\\",
        b"%2e",
        b"%2F",
        b"%5c",
        b"%25",
        b"%252e",
        b";",
        b"a",
        b"v1",
        b"?",
        b"#",
        b"%",
        b"%c0%ae",
        b"%ef%bc%8e",
    ]
)
paths = st.lists(pieces, max_size=12).map(b"".join)


class MatchRestRequestTests(SynchronousTestCase):
    """Which request targets are forwarded to Alpaca."""

    def test_target_under_a_version_matches_unchanged(self) -> None:
        """Both paths of an account work, and the rest is kept as it is written."""
        table = {
            b"/trade-updates-paper/v2/orders": RestRequest("paper", b"/v2/orders"),
            b"/paper/v2/orders": RestRequest("paper", b"/v2/orders"),
            # Alpaca's JavaScript SDK 4 uses several versions.
            b"/paper/v1/orders": RestRequest("paper", b"/v1/orders"),
            b"/paper/v3/orders": RestRequest("paper", b"/v3/orders"),
            b"/paper/v2beta1/x?y=1": RestRequest("paper", b"/v2beta1/x?y=1"),
            # A base URL with a slash at its end.
            b"//my_fund_2//v2/account": RestRequest("my_fund_2", b"/v2/account"),
            b"/paper/v2/orders/": RestRequest("paper", b"/v2/orders/"),
            b"/paper/v2/orders?status=all&after=2026-01-01T00%3A00%3A00Z": RestRequest(
                "paper", b"/v2/orders?status=all&after=2026-01-01T00%3A00%3A00Z"
            ),
            b"/paper/v2/orders:by_client_order_id?client_order_id=../x": RestRequest(
                "paper", b"/v2/orders:by_client_order_id?client_order_id=../x"
            ),
            b"/paper/v2/assets/BTC%2FUSD": RestRequest("paper", b"/v2/assets/BTC%2FUSD"),
            b"/paper/v2/positions/BRK.B": RestRequest("paper", b"/v2/positions/BRK.B"),
            b"/paper/v2/x;y/.z/a%20b/100%25": RestRequest("paper", b"/v2/x;y/.z/a%20b/100%25"),
        }
        for uri, expected in table.items():
            self.assertEqual(match_rest_request(uri), expected, uri)

    def test_target_with_dot_or_empty_segment_is_none(self) -> None:
        """At any level of decoding, between slashes or backslashes."""
        for path in (
            b"",
            b"/",
            b"..",
            b"../v1/x",
            b"x/../../v1",
            b"./x",
            b"x/.",
            b"x//y",
            b"x//",
            b"%2e%2e/x",
            b".%2E/x",
            b"x/%2e",
            b"x%2F..%2F..%2Fv1",
            b"x%2f%2e%2e",
            b"x%2F",
            b"%2Fetc",
            b"..%5cx",
            b"x\\..\\y",
            b"%252e%252e/x",
            b"%25252e%25252e%25252fx",
            b"..;/x",
            b"x/..;a=b/y",
            b";/x",
            b"..%20/x",
            b"..%00/x",
            b"x%0d%0aHost:%20evil",
            b"x#y",
            b"x\x7f",
            b"x\xb0",
            b"x y",
        ):
            self.assertIsNone(match_rest_request(b"/paper/v2/" + path), path)

    def test_target_in_another_reading_is_400(self) -> None:
        """Lax servers read an overlong encoding as a dot, others a full-width character."""
        for path in (
            b"%c0%ae%c0%ae/v1/x",
            b"x/%C0%AF..",
            b"%e0%80%ae%e0%80%ae/x",
            b"%f0%80%80%ae/x",
            b"%25c0%25ae/x",
            b"%ff",
            b"%ed%a0%80",
            b"%ef%bc%8e%ef%bc%8e/x",
            b"x%EF%BC%8Fy",
            b"x%ef%bc%bcy",
            b"%e2%80%a5/x",
            b"BRK%ef%bc%8eB",
            b"%25ef%25bc%258e",
            b"%ef%bc%852e",
        ):
            self.assertIs(match_rest_request(b"/paper/v2/" + path), BAD_PATH, path)
        self.assertEqual(BAD_PATH.status, 400)

    def test_target_with_other_characters_matches_unchanged(self) -> None:
        """A watchlist may have a name in any language."""
        for path in (b"x/%C3%A9", b"x%E2%82%AC", b"x/%E6%97%A5%E6%9C%AC"):
            expected = RestRequest("paper", b"/v2/" + path)
            self.assertEqual(match_rest_request(b"/paper/v2/" + path), expected)

    def test_target_elsewhere_is_none(self) -> None:
        """Other paths, reserved names and absolute URLs of any host do not match."""
        for uri in (
            b"/v2/orders",
            b"/paper/v/orders",
            b"/paper/v2beta/orders",
            b"/paper/v2.1/orders",
            b"/paper/v2rc1/orders",
            b"/paper/V2/orders",
            b"/paper/v2",
            b"/paper/v2x/orders",
            b"/paper/%76%32/orders",
            b"/paper/../v2/orders",
            b"/trade-updates-/v2/orders",
            b"/PAPER/v2/orders",
            b"/healthz/v2/orders",
            b"/trade-updates-metrics/v2/orders",
            b"http://evil.example/paper/v2/orders",
            b"http://localhost/paper/v2/orders",
            b"evil.example:443",
            b"*",
            b"",
        ):
            self.assertIsNone(match_rest_request(uri), uri)

    def test_target_encoded_many_times_is_none(self) -> None:
        """The time for a check is bounded."""
        self.assertIsNone(match_rest_request(b"/paper/v2/x%" + b"25" * 5000))

    @examples()
    @given(paths | st.binary())
    def test_matched_target_never_resolves_outside_v2(self, path: bytes) -> None:
        """A server may decode it several times, and may treat a backslash as a slash."""
        rest_request = match_rest_request(b"/paper/v2/" + path)
        if not isinstance(rest_request, RestRequest):
            return
        self.assertEqual(rest_request, RestRequest("paper", b"/v2/" + path))
        target = rest_request.target.partition(b"?")[0]
        for _ in range(4):
            for reading in (target, target.replace(b"\\", b"/"), target.partition(b";")[0]):
                self.assertTrue(posixpath.normpath(reading).startswith(b"/v2/"), reading)
            target = unquote_to_bytes(target)
