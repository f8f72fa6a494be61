"""Tests for tradeproxy.logs: lines for people, objects for programs, and nothing in them that does harm."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import Command, free_port
from tests.support.sockets import SocketTestCase
from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.logging import Level, LogFormat, LogSettings, read_log
from tradeproxy.logs import CHATTER, LONGEST, LONGEST_TRACEBACK, observer

OURS = "tradeproxy.upstream.service.UpstreamService"
THEIRS = "autobahn.twisted.websocket"


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


class Log:
    """What is logged to a stream, by a logger of ours unless another is named."""

    def __init__(self, stream: io.StringIO, settings: LogSettings, namespace: str = OURS) -> None:
        self._stream = stream
        self.logger = Logger(namespace, observer=LogPublisher(observer(settings, stream)))

    def lines(self) -> list[str]:
        """Return what has been written."""
        text = self._stream.getvalue()
        assert not text or text.endswith("\n")
        return text.split("\n")[:-1]

    def document(self) -> dict[str, Any]:
        """Return the one object that has been written."""
        [line] = self.lines()
        document: dict[str, Any] = json.loads(line)
        return document


def on_terminal(settings: LogSettings | None = None, namespace: str = OURS) -> Log:
    """Return a log that is shown on a terminal."""
    return Log(Terminal(), settings or LogSettings(), namespace)


def in_pipe(settings: LogSettings | None = None, namespace: str = OURS) -> Log:
    """Return a log that goes to a program, or into a file."""
    return Log(io.StringIO(), settings or LogSettings(), namespace)


def failure(text: str) -> Failure:
    """Return a failure that happened."""
    try:
        raise ValueError(text)
    except ValueError:
        return Failure()


class SettingsTests(SynchronousTestCase):
    """PROXY_LOG_FORMAT and PROXY_LOG_LEVEL."""

    def read(self, **variables: str) -> tuple[LogSettings, list[str]]:
        findings = Findings()
        return read_log(Environment(variables, Path("/here"), findings)), findings.problems

    def test_by_default_the_stream_decides_and_information_is_shown(self) -> None:
        """Nothing has to be set."""
        self.assertEqual(self.read(), (LogSettings(None, Level.INFO), []))

    def test_both_can_be_set(self) -> None:
        """In any case, as people write them."""
        settings, problems = self.read(PROXY_LOG_FORMAT="JSON", PROXY_LOG_LEVEL="Warn")
        self.assertEqual((settings, problems), (LogSettings(LogFormat.JSON, Level.WARN), []))

    def test_what_is_none_of_the_words_is_told_by_its_variable(self) -> None:
        """With the words that there are."""
        _, problems = self.read(PROXY_LOG_FORMAT="yaml", PROXY_LOG_LEVEL="loud")
        self.assertEqual(
            problems,
            [
                "PROXY_LOG_FORMAT: 'yaml' is neither text nor json",
                "PROXY_LOG_LEVEL: 'loud' is not one of debug, info, warn, error, critical",
            ],
        )


class FormTests(SynchronousTestCase):
    """A line on a terminal, an object elsewhere."""

    def test_a_terminal_gets_a_line_to_read(self) -> None:
        """Date, time, level and what happened; where it comes from is said of other people's code alone."""
        log = on_terminal()
        log.logger.warn(
            "{account}: upstream is down: {reason}", account="paper", reason="connection lost"
        )
        [line] = log.lines()
        self.assertRegex(
            line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d warn  paper: upstream is down: connection"
        )
        log = on_terminal(namespace="twisted.internet.base")
        log.logger.info("Received SIGTERM, shutting down.")
        [line] = log.lines()
        self.assertRegex(line, r" info  \[twisted\.internet\.base\] Received SIGTERM")

    def test_a_program_gets_an_object_with_the_values(self) -> None:
        """It need not take the message apart."""
        log = in_pipe()
        log.logger.warn(
            "{account}: upstream is down: {reason}; next attempt in {delay:.1f} s",
            account="paper",
            reason="connection lost",
            delay=1.25,
        )
        document = log.document()
        self.assertRegex(document.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(
            document,
            {
                "level": "warn",
                "logger": OURS,
                "message": "paper: upstream is down: connection lost; next attempt in 1.2 s",
                "account": "paper",
                "reason": "connection lost",
                "delay": 1.25,
            },
        )

    def test_what_is_set_beats_what_the_stream_is(self) -> None:
        """For journald, for instance, whose pipe people read."""
        for log, begins in (
            (on_terminal(LogSettings(LogFormat.JSON)), "{"),
            (in_pipe(LogSettings(LogFormat.TEXT)), "2"),
        ):
            log.logger.info("it is up")
            [line] = log.lines()
            self.assertEqual(line[0], begins)

    def test_what_is_below_the_level_is_left_out(self) -> None:
        """And what is on it is not."""
        for log in (
            on_terminal(LogSettings(level=Level.WARN)),
            in_pipe(LogSettings(level=Level.WARN)),
        ):
            log.logger.info("it is up")
            log.logger.warn("it is down")
            [line] = log.lines()
            self.assertIn("it is down", line)

    def test_an_event_without_a_message_is_no_line(self) -> None:
        """Twisted has some."""
        for log in (on_terminal(), in_pipe()):
            log.logger.info("")
            self.assertEqual(log.lines(), [])

    def test_a_traceback_belongs_to_its_event(self) -> None:
        """Indented below the line, or a field of the object."""
        log = on_terminal()
        log.logger.failure(
            "{account}: the recovery failed", failure("no such page"), account="paper"
        )
        first, *others = log.lines()
        self.assertIn("critical paper: the recovery failed", first)
        self.assertTrue(all(line.startswith("    ") for line in others))
        self.assertIn("ValueError: no such page", others[-1])
        log = in_pipe()
        log.logger.failure(
            "{account}: the recovery failed", failure("no such page"), account="paper"
        )
        self.assertIn("ValueError: no such page", log.document()["traceback"])


class SafetyTests(SynchronousTestCase):
    """Whatever comes from outside can neither forge a line, nor steer a terminal, nor fill the disk."""

    HOSTILE = "x\n2026-01-01 00:00:00 info  all is well\r\x1b[2J\x9b1m\u202e\u2028\ud800"

    def test_what_a_peer_says_stays_within_its_line(self) -> None:
        """Line ends and control characters are shown, and not obeyed."""
        for log in (on_terminal(), in_pipe()):
            log.logger.info("let {peer} go", peer=self.HOSTILE)
            [line] = log.lines()
            self.assertTrue(line.isprintable(), line)
            self.assertIn("\\u202e", line)
        self.assertEqual(log.document()["peer"], self.HOSTILE)

    def test_a_traceback_cannot_do_it_either(self) -> None:
        """The text of an error may be somebody else's."""
        log = on_terminal()
        log.logger.failure("it failed", failure(self.HOSTILE))
        self.assertTrue(all(line.isprintable() for line in log.lines()))
        self.assertFalse(any(line.startswith("2026-01-01") for line in log.lines()))

    def test_what_is_too_long_is_cut(self) -> None:
        """A peer decides how long a line is only up to here."""
        log = on_terminal()
        log.logger.info("let {peer} go", peer="x" * 100_000)
        [line] = log.lines()
        self.assertTrue(line.endswith("x…"))
        self.assertLess(len(line), LONGEST + 50)
        log = in_pipe()
        log.logger.failure("let {peer} go", failure("y" * 100_000), peer="x" * 100_000)
        [line] = log.lines()
        self.assertLess(len(line), 2 * LONGEST + LONGEST_TRACEBACK + 500)

    def test_only_plain_values_become_fields(self) -> None:
        """A settings, request or message object that somebody logs by mistake is not laid open."""
        log = in_pipe()
        log.logger.info(
            "one {thing}", thing=Path("/x"), payload=b"secret", request={"key": "secret"}, n=True
        )
        document = log.document()
        self.assertEqual((document["message"], document["n"]), ("one /x", True))
        self.assertEqual(document.keys(), {"time", "level", "logger", "message", "n"})

    def test_of_others_events_only_the_message_is_shown(self) -> None:
        """Autobahn's values are headers and frames."""
        log = in_pipe(namespace=THEIRS)
        log.logger.info("a handshake", headers="Authorization: secret", octets="secret")
        self.assertEqual(log.document().keys(), {"time", "level", "logger", "message"})

    def test_a_value_does_not_take_the_place_of_what_every_line_has(self) -> None:
        """Though it have the same name."""
        log = in_pipe()
        log.logger.info("hello", message="bye", time="yesterday", logger="nobody")
        document = log.document()
        self.assertEqual((document["message"], document["logger"]), ("hello", OURS))
        self.assertNotEqual(document["time"], "yesterday")

    def test_an_encoding_that_lacks_a_character_costs_no_line(self) -> None:
        """As in a locale of the last century."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii")
        log = Logger(OURS, observer=LogPublisher(observer(LogSettings(LogFormat.TEXT), stream)))
        log.info("events are kept in {place}", place="/home/Jörg")
        self.assertIn(b"events are kept in /home/J\\xf6rg\n", raw.getvalue())


class ChatterTests(SynchronousTestCase):
    """What Twisted says of its own start."""

    def test_is_not_for_people(self) -> None:
        """What goes wrong there is; a program, which may wait for a line, gets all."""
        for namespace in CHATTER:
            for log, said in (
                (on_terminal(namespace=namespace), 1),
                (in_pipe(namespace=namespace), 2),
            ):
                log.logger.info("ProxySite starting on 8099")
                log.logger.error("it went wrong")
                self.assertEqual(len(log.lines()), said)
                self.assertIn("it went wrong", log.lines()[-1])


class CommandTests(SocketTestCase):
    """The commands' logs, in a pipe."""

    async def logged(self, *arguments: str, **environment: str) -> Command:
        """Run a command without an Alpaca until it has said so, and stop it."""
        account = {
            "ALPACA_API_KEY": "PKTEST",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": "http://127.0.0.1:1",
            "PROXY_PORT": str(free_port()),
        }
        command = self.command(*arguments, **account, **environment)
        await command.says("next attempt in")
        await command.stop("HUP")
        return command

    async def test_every_line_of_json_is_one_object(self) -> None:
        """From `tradeproxy run` and from twistd alike, from the first line to the last."""
        ways = (
            (sys.executable, "-m", "tradeproxy", "run"),
            ("twistd", "-n", "--pidfile=", "--logger=tradeproxy.logs.json_observer", "tradeproxy"),
        )
        for way in ways:
            command = await self.logged(*way)
            documents = [json.loads(line) for line in command.output.splitlines()]
            [down] = [document for document in documents if "delay" in document]
            self.assertEqual((down["account"], down["level"]), ("paper", "warn"))
            self.assertIn("cannot connect", down["reason"])
            self.assertEqual(documents[-1]["message"], "Server Shut Down.")

    async def test_the_settings_count(self) -> None:
        """Those of .env too, for `tradeproxy run`; twistd's observers have the level of the environment."""
        self.directory = self.make_directory()
        Path(self.directory, ".env").write_text("PROXY_LOG_FORMAT=text\nPROXY_LOG_LEVEL=warn\n")
        by_name = (
            "twistd",
            "-n",
            "--pidfile=",
            "--logger=tradeproxy.logs.text_observer",
            "tradeproxy",
        )
        for way in ((sys.executable, "-m", "tradeproxy", "run"), by_name):
            environment = {"PROXY_LOG_LEVEL": "warn"} if way is by_name else {}
            command = await self.logged(*way, **environment)
            for line in command.output.splitlines():
                self.assertRegex(line, r"^[-0-9]{10} [:0-9]{8} warn  ")

    async def test_a_word_that_is_none_is_a_line(self) -> None:
        """Under either runner, though only one of them would use it."""
        environment = {"ALPACA_API_KEY": "x", "ALPACA_SECRET_KEY": "x", "PROXY_LOG_LEVEL": "loud"}
        commands = [
            self.command(*way, **environment)
            for way in ((sys.executable, "-m", "tradeproxy", "run"), ("twistd", "-n", "tradeproxy"))
        ]
        self.assertEqual(await gatherResults([command.ended for command in commands]), [1, 1])
        for command in commands:
            self.assertEqual(
                command.output,
                "PROXY_LOG_LEVEL: 'loud' is not one of debug, info, warn, error, critical\n",
            )
