"""Tests for tradeproxy.wire.close_codes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.close_codes import CloseCode

CODES = {
    # name: (code, what the client's author must read in the reason, may the client reconnect)
    "RESTARTING": (1012, "restarting", True),
    "TOKEN_NEEDED": (1012, "a token is needed now: reconnect", True),
    "UNREADABLE": (1013, "cannot be read at the moment", True),
    "NOT_READY": (1013, "is not ready: reconnect", True),
    "FULL": (1013, "no connection is free", True),
    "MALFORMED": (4000, "not JSON", False),
    "TOKEN_REFUSED": (4001, "PROXY_TOKENS", False),
    "TOKEN_REMOVED": (4001, "no longer one of this proxy's PROXY_TOKENS", False),
    "NO_AUTH": (4002, "no auth message", True),
    "TOO_SLOW": (4008, "reconnect with your cursor", True),
    "POSITION_LOST": (4010, "position unknown", False),
}


class CloseCodeTests(SynchronousTestCase):
    """Close codes are part of the contract with clients."""

    def test_each_code_matches_contract(self) -> None:
        """Code, text and reconnect flag are as documented."""
        self.assertEqual([member.name for member in CloseCode], list(CODES))
        for name, (code, words, may_reconnect) in CODES.items():
            member = CloseCode[name]
            self.assertEqual((member.code, member.may_reconnect), (code, may_reconnect), name)
            self.assertIn(words, member.reason, name)

    def test_reason_asks_for_reconnect_only_if_allowed(self) -> None:
        """No reason asks a client to reconnect if it must not."""
        for member in CloseCode:
            if "reconnect" in member.reason:
                self.assertTrue(member.may_reconnect, member.name)

    def test_every_reason_fits_a_close_frame(self) -> None:
        """A control frame has 125 bytes, and the code takes two (RFC 6455, 5.5)."""
        for member in CloseCode:
            self.assertLessEqual(len(member.reason.encode()), 123, member.name)

    def test_detail_too_long_is_omitted(self) -> None:
        """If the detail does not fit, the reason stands alone."""
        lost = CloseCode.POSITION_LOST
        self.assertEqual(lost.with_detail("it is gone"), "position unknown: it is gone")
        self.assertEqual(len(lost.with_detail("x" * 105)), 123)
        self.assertEqual(lost.with_detail("x" * 106), lost.reason)
        self.assertEqual(lost.with_detail("\u00e9" * 53), lost.reason)

    def test_every_code_may_be_sent(self) -> None:
        """IANA registers 1012 and 1013, 4000-4999 are private; 1005, 1006, 1015 are reserved."""
        for member in CloseCode:
            self.assertTrue(member.code in (1012, 1013) or 4000 <= member.code <= 4999, member.name)
