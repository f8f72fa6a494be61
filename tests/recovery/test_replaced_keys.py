"""Keys that a reload replaces while the stream is up."""

from __future__ import annotations

from dataclasses import replace

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tradeproxy.wire.credentials import KeyPair, Secret


class ReplacedKeysTests(RecoveryTestCase):
    """The requests have the new keys at once, the stream only when it is opened again."""

    accepted = None

    def replace_keys(self) -> None:
        """Take other keys, as a reload does."""
        other = replace(
            self.keys.settings, credentials=KeyPair(Secret("PKOTHER"), Secret("other-secret"))
        )
        self.assertTrue(self.keys.replace([other]))
        self.keys.on_change()

    def test_keys_of_another_account_open_the_stream_again(self) -> None:
        """The events of the old account would go on into the log of the new one."""
        epoch = self.journal.epoch
        self.replace_keys()
        self.alpaca.exchange.portfolio.account_id = "11111111-1111-4111-8111-111111111111"
        self.advance(INTERVAL)
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual(len(self.wire.attempts), 2)
        self.assertTrue(self.alpaca.listening)
        self.advance(2 * INTERVAL)
        self.assertEqual(len(self.wire.attempts), 2)

    def test_rotated_keys_leave_the_stream_alone(self) -> None:
        """It would cost a gap."""
        self.replace_keys()
        self.advance(3 * INTERVAL)
        self.assertEqual(len(self.wire.attempts), 1)
