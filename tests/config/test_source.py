"""Tests for tradeproxy.config.source: the settings are read again while the proxy runs."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.plugins.twisted_core import systemdEndpointParser
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority
from tradeproxy.config.endpoints import read_inherited
from tradeproxy.config.settings import SettingsError
from tradeproxy.config.source import SettingsSource
from tradeproxy.wire.credentials import KeyPair, Secret


class SettingsSourceTests(SynchronousTestCase):
    """A directory with a .env and a file of a secret."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.write("ALPACA_API_KEY=key")
        self.secret = self.directory / "secret"
        self.secret.write_text("secret")
        self.source = SettingsSource(
            {"ALPACA_SECRET_KEY_FILE": "secret", "PROXY_TOKEN": "hush"}, self.directory
        )

    def write(self, text: str) -> None:
        path = self.directory / ".env"
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    def assert_problem(self, text: str) -> None:
        """Assert that a reading gives no settings, and one line with `text`."""
        with capturedLogs() as logs:
            self.assertIsNone(self.source.read_again())
        [event] = logs
        self.assertIs(event["log_level"], LogLevel.error)
        beginning = "the settings are not read again, and nothing changes: "
        line = formatEvent(event)
        self.assertTrue(line.startswith(beginning + text), line)

    def test_files_are_read_again(self) -> None:
        """The file of a secret, too."""
        self.write("ALPACA_API_KEY=other")
        self.secret.write_text("rotated")
        settings = self.source.read_again()
        assert settings is not None
        self.assertEqual(
            settings.accounts[0].credentials, KeyPair(Secret("other"), Secret("rotated"))
        )
        self.assertEqual(self.source.read_accounts_again(), settings.accounts)

    def test_inherited_socket_keeps_its_address(self) -> None:
        """Twisted closes its descriptor once the proxy listens, and the number may be another's.

        Without tokens each reload under systemd's socket failed: the address looked foreign.
        """
        self.addCleanup(read_inherited.cache_clear)
        read_inherited.cache_clear()
        source = replace(self.source, listen=("systemd:domain=INET:index=0",))
        with (
            socket.create_server(("127.0.0.1", 0)) as near,
            socket.create_server(("0.0.0.0", 0)) as far,
        ):
            number = os.dup(near.fileno())
            self.patch(systemdEndpointParser, "_sddaemon", ListenFDs([number], ["near"]))
            started = source.read()
            os.close(number)
            self.assertEqual(source.read_again(), started)
            os.dup2(far.fileno(), number)
            self.addCleanup(os.close, number)
            self.assertEqual(source.read_again(), started)

    def test_problems_are_one_line(self) -> None:
        """All of them, without the warnings. There are no accounts then."""
        self.write("ALPACA_API_KEY=key\nPROXY_PORT=x\nPROXY_MAX_CLIENTS=y\nPROXY_PROT=1")
        self.assert_problem("PROXY_PORT: 'x' is not a port (1 to 65535); PROXY_MAX_CLIENTS: 'y'")
        with capturedLogs() as logs:
            self.assertEqual(self.source.read_accounts_again(), ())
        self.assertNotIn("PROXY_PROT", formatEvent(logs[0]))
        self.assertRaises(SettingsError, self.source.read)

    def test_pipe_is_a_problem_and_does_not_block(self) -> None:
        """Without a writer, the open of a pipe would stop the reactor for ever."""
        self.secret.unlink()
        os.mkfifo(self.secret)
        reason = "it is a pipe, which is read at the start only"
        self.assert_problem(f"ALPACA_SECRET_KEY_FILE: the file it names cannot be read ({reason})")
        self.secret.unlink()
        self.secret.write_text("secret")
        (self.directory / ".env").unlink()
        os.mkfifo(self.directory / ".env", 0o600)
        self.assert_problem(f"{self.directory / '.env'}: cannot be read ({reason})")

    def test_key_of_tls_is_not_opened_again(self) -> None:
        """OpenSSL asked for its passphrase on the terminal, and the reactor waited for ever.

        A refused login was enough for that. A FIFO in its place blocked a reload.
        """
        identity = Authority(str(self.directory)).issue("127.0.0.1")
        source = replace(self.source, listen=(identity.endpoint(8099),))
        started = source.read()
        identity.key.unlink()
        os.mkfifo(identity.key)
        self.assertEqual(source.read_again(), started)

    def test_refused_key_and_expired_certificate_are_found_at_the_start(self) -> None:
        """No client could connect, and nothing said why."""
        authority = Authority(str(self.directory))
        weak = authority.issue("weak", rsa_bits=1024)
        error = self.assertRaises(
            SettingsError, replace(self.source, listen=(weak.endpoint(8099),)).read
        )
        [problem] = error.problems
        self.assertIn("OpenSSL refuses its key or certificate: ee key too small", problem)
        old = authority.issue("old", days=-1)
        settings = replace(self.source, listen=(old.endpoint(8099),)).read()
        expected = f"--listen: the certificate in {old.certificate} has expired"
        self.assertEqual(settings.warnings, (expected,))

    def test_error_of_our_own_is_logged_and_changes_nothing(self) -> None:
        """A reload must not end a connection or the attempts to connect."""
        broken = SettingsSource({}, None)  # type: ignore[arg-type]  # for an error
        self.assertIsNone(broken.read_again())
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_repr_has_no_secret(self) -> None:
        """It may get into a traceback."""
        self.assertNotIn("hush", repr(self.source))
