"""Tests for the check of tokens in tradeproxy.downstream.admission."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.admission import OPEN, AdmissionTestCase, make_request
from tradeproxy.downstream.admission import Admission, Grant, Tokens
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret

ANYTHING = KeyPair(Secret("any"), Secret("any"))
GUARDED = Tokens((Secret("first-token"), Secret("second-token")))


class AdmissionTokenTests(AdmissionTestCase):
    """With tokens, the headers must contain one."""

    admission = Admission((), (), GUARDED)

    def test_token_in_header_is_admitted(self) -> None:
        """Any token is accepted, in any of the headers."""
        requests = {
            "the first": make_request(offers=("first-token",)),
            "the second": make_request(offers=("second-token",)),
            "a wrong key, and a right secret": make_request(offers=("PK123", "second-token")),
            "a right bearer, and a wrong key": make_request(offers=("first-token", "PK123")),
        }
        self.check(requests, None)
        for name, request in requests.items():
            self.assertTrue(self.admission.grant(request).admit(ANYTHING), name)

    def test_wrong_token_is_401(self) -> None:
        """Only an exact token is accepted."""
        offers = (
            "wrong",
            "first-toke",
            "first-token2",
            "First-Token",
            "first-token,second-token",
            "",
            "\xff",
        )
        self.check({offer: make_request(offers=(offer,)) for offer in offers}, 401, "PROXY_TOKENS")
        self.check({"several": make_request(offers=offers)}, 401, "PROXY_TOKENS")

    def test_upgrade_without_token_is_admitted_unauthenticated(self) -> None:
        """The token may follow in the auth message."""
        self.check({"none": make_request()}, None)
        self.assertFalse(self.admission.grant(make_request()).admit(ANYTHING))
        self.assertTrue(
            self.admission.grant(make_request()).admit(KeyPair(Secret("first-token"), Secret("")))
        )

    def test_no_upgrade_without_token_is_401(self) -> None:
        """No auth message can follow, so only a public resource needs no token."""
        self.check({"page": make_request(upgrade=False)}, 401, "Authorization: Bearer")
        self.check({"page with token": make_request(upgrade=False, offers=("first-token",))}, None)
        self.assertIsNone(
            self.admission.check(make_request(upgrade=False, offers=("wrong",)), public=True)
        )

    def test_other_host_or_origin_with_token_is_403(self) -> None:
        """A token does not bypass the other rules."""
        requests = {
            "host": make_request("evil.example", offers=("first-token",)),
            "origin": make_request(origin="https://evil.example", offers=("first-token",)),
        }
        self.check(requests, 403)

    def test_no_tokens_configured_accepts_any_credentials(self) -> None:
        """The headers do not matter: SDKs send Alpaca's own keys."""
        self.admission = Admission((), (), OPEN)
        for request in (make_request(), make_request(offers=("PK123", "secret"))):
            self.check({"any client": request}, None)
            self.assertTrue(self.admission.grant(request).admit(ANYTHING))

    def test_rejection_hides_offered_token(self) -> None:
        """The reason in the response contains nothing from the request."""
        request = make_request(offers=("HUSH",))
        rejection = self.admission.check(request)
        assert rejection is not None
        self.assertNotIn("HUSH", repr(rejection) + repr(request))
        self.assertNotIn("first-token", repr(rejection) + repr(request))


class AuthMessageTests(SynchronousTestCase):
    """With tokens, the auth message must contain one, in any field."""

    def test_token_in_any_auth_field_is_accepted(self) -> None:
        """Key, secret or OAuth token: SDKs differ in the fields that a user can set."""
        right, wrong, none = Secret("second-token"), Secret("PK123"), Secret("")
        table: list[tuple[Credentials, bool]] = [
            (KeyPair(right, wrong), True),
            (KeyPair(wrong, right), True),
            (KeyPair(right, none), True),
            (KeyPair(none, right), True),
            (OAuthToken(right), True),
            (KeyPair(wrong, wrong), False),
            (KeyPair(none, none), False),
            (KeyPair(Secret("second-"), Secret("token")), False),
            (OAuthToken(wrong), False),
            (OAuthToken(Secret("\ud800")), False),
        ]
        for credentials, admitted in table:
            self.assertIs(
                Grant(GUARDED, (Secret("none"),)).admit(credentials), admitted, credentials
            )
            self.assertTrue(Grant(OPEN, ()).admit(credentials), credentials)


class ReplacedTokensTests(AdmissionTestCase):
    """Tokens are replaced while clients are connected."""

    def setUp(self) -> None:
        self.tokens = Tokens((Secret("first-token"), Secret("second-token")))
        self.admission = Admission((), (), self.tokens)

    def ends_of(self, *tokens: str) -> list[CloseCode | None]:
        """Return the ends of four clients after these tokens have replaced the first ones.

        They sent the first token in a header, both in a header, the second one in a message, and
        none yet.
        """
        requests = [
            make_request(offers=("first-token",)),
            make_request(offers=("first-token", "second-token")),
            make_request(),
            make_request(),
        ]
        grants = [self.admission.grant(request) for request in requests]
        self.assertTrue(grants[2].admit(KeyPair(Secret("first-token"), Secret(""))))
        self.assertTrue(grants[2].admit(KeyPair(Secret("second-token"), Secret(""))))
        self.assertFalse(grants[2].admit(ANYTHING))
        self.tokens.replace(map(Secret, tokens))
        return [grant.find_end() for grant in grants]

    def test_removed_token_ends_its_clients(self) -> None:
        """One that sent another token too stays, and so does one that has sent none yet."""
        removed = CloseCode.TOKEN_REMOVED
        self.assertEqual(self.ends_of("second-token"), [removed, None, None, None])
        self.check({"removed": make_request(offers=("first-token",))}, 401)

    def test_removed_token_of_a_message_ends_its_client(self) -> None:
        """A removed token must not stay in use for as long as a connection holds."""
        removed = CloseCode.TOKEN_REMOVED
        self.assertEqual(self.ends_of("first-token"), [None, None, removed, None])

    def test_kept_tokens_end_no_client(self) -> None:
        """A new token is accepted."""
        self.assertEqual(self.ends_of("third", "second-token", "first-token"), [None] * 4)
        self.check({"new": make_request(offers=("third",))}, None)

    def test_first_tokens_end_clients_accepted_without(self) -> None:
        """They may reconnect, since what they sent was not looked at."""
        self.tokens.replace(())
        grants = [
            self.admission.grant(make_request()),
            self.admission.grant(make_request(offers=("new",))),
        ]
        self.assertEqual([grant.find_end() for grant in grants], [None, None])
        self.tokens.replace((Secret("new"),))
        self.assertEqual([grant.find_end() for grant in grants], [CloseCode.TOKEN_NEEDED] * 2)

    def test_replaced_hosts_and_origins_apply_to_the_next_request(self) -> None:
        """The old ones are rejected."""
        old = make_request("old.example", "https://old.example", offers=("first-token",))
        new = make_request("new.example", "https://new.example", offers=("first-token",))
        self.admission.replace_origin_rules(("old.example",), ("https://old.example",))
        self.check({"old": old}, None)
        self.admission.replace_origin_rules(("new.example",), ("https://new.example",))
        self.check({"old": old}, 403)
        self.check({"new": new}, None)
