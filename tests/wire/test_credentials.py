"""Tests for tradeproxy.wire.credentials."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import TYPE_CHECKING

from twisted.logger import Logger, capturedLogs, eventAsJSON, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret, list_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "PKHUSHHUSHHUSH"


class SecretTests(SynchronousTestCase):
    """Only reveal() shows the text of a Secret."""

    def test_reveals_its_text(self) -> None:
        """reveal() returns the text."""
        self.assertEqual(Secret(TEXT).reveal(), TEXT)

    def test_every_text_form_is_redacted(self) -> None:
        """Every conversion to text gives the same fixed word."""
        secret = Secret(TEXT)
        shown = {
            "str": str(secret),
            "repr": repr(secret),
            "format": format(secret),
            "f-string": f"{secret}",
            "f-string with repr": f"{secret!r}",
            "percent": "%s" % secret,  # noqa: UP031  # the form under test
        }
        self.assertEqual(shown, dict.fromkeys(shown, "<secret>"))

    def test_secret_inside_containers_is_redacted(self) -> None:
        """Containers and credentials show their secrets redacted."""
        secret = Secret(TEXT)
        for value in ([secret], {"key": secret}, KeyPair(secret, secret), OAuthToken(secret)):
            self.assertIn("<secret>", repr(value), type(value).__name__)
            self.assertNotIn(TEXT, repr(value), type(value).__name__)

    def test_secret_in_traceback_is_redacted(self) -> None:
        """A crash reporter that prints local variables prints no secret."""

        def fail(secret: Secret) -> None:
            raise RuntimeError("while holding a secret")

        try:
            fail(Secret(TEXT))
        except RuntimeError as error:
            report = "".join(
                traceback.TracebackException.from_exception(error, capture_locals=True).format()
            )
        self.assertIn("secret = <secret>", report)

    def test_secret_in_log_is_redacted(self) -> None:
        """Neither the text log nor the JSON log contains a secret passed as a keyword."""
        with capturedLogs() as events:
            Logger().info(
                "logged in with {credentials}", credentials=KeyPair(Secret(TEXT), Secret(TEXT))
            )
        (event,) = events
        self.assertIn("<secret>", formatEvent(event))
        self.assertNotIn(TEXT, formatEvent(event))
        self.assertNotIn(TEXT, eventAsJSON(event))

    def test_empty_secret_is_false_and_visible(self) -> None:
        """Its repr shows that it is empty, so that an incomplete login is easy to find."""
        self.assertFalse(Secret(""))
        self.assertEqual(str(Secret("")), "<no secret>")
        self.assertTrue(Secret(TEXT))

    def test_list_secrets_omits_empty_ones(self) -> None:
        """An empty text is part of every text, so nothing could be searched for it."""
        self.assertEqual(
            list_secrets(KeyPair(Secret("id"), Secret("key"))), [Secret("id"), Secret("key")]
        )
        self.assertEqual(list_secrets(KeyPair(Secret(""), Secret("key"))), [Secret("key")])
        self.assertEqual(list_secrets(OAuthToken(Secret("t"))), [Secret("t")])

    def test_secrets_with_equal_text_are_equal(self) -> None:
        """They are also the same key of a dict."""
        self.assertEqual(Secret(TEXT), Secret(TEXT))
        self.assertEqual({Secret(TEXT): 1}[Secret(TEXT)], 1)
        for other in (
            Secret(TEXT + "!"),
            Secret(TEXT.lower()),
            Secret(""),
            TEXT,
            TEXT.encode(),
            None,
        ):
            self.assertNotEqual(Secret(TEXT), other)

    def test_any_json_text_is_comparable(self) -> None:
        r"""Lone surrogates ("\ud800" in JSON) and other non-ASCII text compare too."""
        self.assertEqual(Secret("\ud800"), Secret("\ud800"))
        self.assertNotEqual(Secret("\ud800"), Secret("\udfff"))
        self.assertNotEqual(Secret("é"), Secret("e"))

    def test_pickle_or_copy_raises_type_error(self) -> None:
        """The error does not contain the text."""
        ways: dict[str, Callable[[Secret], object]] = {
            "pickle": pickle.dumps,
            "copy": copy.copy,
            "deepcopy": copy.deepcopy,
        }
        for name, way in ways.items():
            error = self.assertRaises(TypeError, way, Secret(TEXT))
            self.assertEqual(str(error), "a Secret cannot be pickled or copied", name)
