"""Tests for tradeproxy.wire.credentials."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import TYPE_CHECKING

from twisted.logger import Logger, capturedLogs, eventAsJSON, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "PKHUSHHUSHHUSH"


class SecretTests(SynchronousTestCase):
    """A Secret shows itself to reveal() only."""

    def test_reveals_its_text(self) -> None:
        """reveal() is the way to the text."""
        self.assertEqual(Secret(TEXT).reveal(), TEXT)

    def test_is_redacted_wherever_it_is_shown(self) -> None:
        """Every way to turn a secret into text gives the same fixed word."""
        secret = Secret(TEXT)
        shown = {
            "str": str(secret),
            "repr": repr(secret),
            "format": format(secret),
            "f-string": f"{secret}",
            "f-string with repr": f"{secret!r}",
            "percent": "%s" % secret,
        }
        self.assertEqual(shown, dict.fromkeys(shown, "<secret>"))

    def test_is_redacted_inside_other_values(self) -> None:
        """Containers and credentials show their secrets redacted."""
        secret = Secret(TEXT)
        for value in ([secret], {"key": secret}, KeyPair(secret, secret), OAuthToken(secret)):
            self.assertIn("<secret>", repr(value), type(value).__name__)
            self.assertNotIn(TEXT, repr(value), type(value).__name__)

    def test_is_redacted_in_a_traceback_with_local_variables(self) -> None:
        """A crash reporter that prints the variables of each frame prints no secret."""

        def fail(secret: Secret) -> None:
            raise RuntimeError("while holding a secret")

        try:
            fail(Secret(TEXT))
        except RuntimeError as error:
            report = "".join(
                traceback.TracebackException.from_exception(error, capture_locals=True).format()
            )
        self.assertIn("secret = <secret>", report)

    def test_is_redacted_in_a_log(self) -> None:
        """A secret that becomes a keyword of a log call is in neither the text log nor the JSON log."""
        with capturedLogs() as events:
            Logger().info(
                "logged in with {credentials}", credentials=KeyPair(Secret(TEXT), Secret(TEXT))
            )
        (event,) = events
        self.assertIn("<secret>", formatEvent(event))
        self.assertNotIn(TEXT, formatEvent(event))
        self.assertNotIn(TEXT, eventAsJSON(event))

    def test_says_when_there_is_none(self) -> None:
        """An empty secret is false and shows that it is empty: half a login is a thing to find out."""
        self.assertFalse(Secret(""))
        self.assertEqual(str(Secret("")), "<no secret>")
        self.assertTrue(Secret(TEXT))

    def test_equals_a_secret_of_the_same_text_only(self) -> None:
        """Two secrets are equal when their texts are, and are then the same key of a dict."""
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

    def test_compares_any_text_that_json_can_hold(self) -> None:
        r"""Lone surrogates ("\ud800" in JSON) and characters beyond ASCII compare like all others."""
        self.assertEqual(Secret("\ud800"), Secret("\ud800"))
        self.assertNotEqual(Secret("\ud800"), Secret("\udfff"))
        self.assertNotEqual(Secret("é"), Secret("e"))

    def test_cannot_be_stored(self) -> None:
        """Pickling and copying, which a cache or a debugger may try, fail without the text."""
        ways: dict[str, Callable[[Secret], object]] = {
            "pickle": pickle.dumps,
            "copy": copy.copy,
            "deepcopy": copy.deepcopy,
        }
        for name, way in ways.items():
            error = self.assertRaises(TypeError, way, Secret(TEXT))
            self.assertEqual(str(error), "a Secret cannot be pickled or copied", name)
