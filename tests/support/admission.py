"""A base for the tests of admission, and the requests that they send."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.origin_rules import RequestInfo

OPEN = Tokens(())


def make_request(
    host: str | None = "localhost:8099",
    origin: str | None = None,
    *,
    secure: bool = False,
    offers: tuple[str, ...] = (),
    upgrade: bool = True,
    site: str | None = None,
) -> RequestInfo:
    """Return a WebSocket request. The defaults are those of a program on this machine."""
    secrets = tuple(Secret(offer) for offer in offers)
    return RequestInfo(host, origin, secure, secrets, upgrade, site)


class AdmissionTestCase(SynchronousTestCase):
    """What the admission tests share; it has no test."""

    admission = Admission((), (), OPEN)

    def check(self, requests: dict[str, RequestInfo], status: int | None, words: str = "") -> None:
        """Assert each request's status, None if admitted; the reason contains `words`."""
        for name, request in requests.items():
            rejection = self.admission.check(request)
            self.assertEqual(None if rejection is None else rejection.status, status, name)
            if rejection is not None:
                self.assertIn(words, rejection.reason, name)
