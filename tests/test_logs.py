"""Tests for tradeproxy.logs: the text format, the JSON format, and hostile or long values."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.logging import Level, LogFormat, LogSettings
from tradeproxy.config.setting import read_fields
from tradeproxy.logs import LONGEST, LONGEST_TRACEBACK, observer

OUR_LOGGER = "tradeproxy.upstream.service.UpstreamService"
AUTOBAHN_LOGGER = "autobahn.twisted.websocket"


class TerminalStream(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


class LogCapture:
    """A logger that writes to a stream. It is one of our loggers by default."""

    def __init__(
        self, stream: io.StringIO, settings: LogSettings, namespace: str = OUR_LOGGER
    ) -> None:
        self._stream = stream
        self.logger = Logger(namespace, observer=LogPublisher(observer(settings, stream)))

    def lines(self) -> list[str]:
        """Return the lines in the stream."""
        text = self._stream.getvalue()
        assert not text or text.endswith("\n")
        return text.split("\n")[:-1]

    def read_object(self) -> dict[str, Any]:
        """Return the one JSON object in the stream."""
        [line] = self.lines()
        fields: dict[str, Any] = json.loads(line)
        return fields


def log_to_terminal(settings: LogSettings | None = None, namespace: str = OUR_LOGGER) -> LogCapture:
    """Return a log that writes to a terminal."""
    return LogCapture(TerminalStream(), settings or LogSettings(), namespace)


def log_to_pipe(settings: LogSettings | None = None, namespace: str = OUR_LOGGER) -> LogCapture:
    """Return a log that writes to a pipe or file."""
    return LogCapture(io.StringIO(), settings or LogSettings(), namespace)


def make_failure(text: str) -> Failure:
    """Return a failure with a traceback."""
    try:
        raise ValueError(text)
    except ValueError:
        return Failure()


class LogSettingsTests(SynchronousTestCase):
    """PROXY_LOG_FORMAT and PROXY_LOG_LEVEL."""

    def read(self, **variables: str) -> tuple[LogSettings, list[str]]:
        findings = Findings()
        environment = Environment(variables, Path("/here"), findings)
        return read_fields(LogSettings, environment), findings.problems

    def test_default_is_stream_format_and_info(self) -> None:
        """Without settings, the stream determines the format, and the level is info."""
        self.assertEqual(self.read(), (LogSettings(None, Level.INFO), []))

    def test_values_are_case_insensitive(self) -> None:
        """Both variables accept upper and lower case."""
        settings, problems = self.read(PROXY_LOG_FORMAT="JSON", PROXY_LOG_LEVEL="Warn")
        self.assertEqual((settings, problems), (LogSettings(LogFormat.JSON, Level.WARN), []))

    def test_unknown_value_is_a_problem(self) -> None:
        """The line names the variable and the possible values."""
        _, problems = self.read(PROXY_LOG_FORMAT="yaml", PROXY_LOG_LEVEL="loud")
        self.assertEqual(
            problems,
            [
                "PROXY_LOG_FORMAT: 'yaml' is neither text nor json",
                "PROXY_LOG_LEVEL: 'loud' is not one of debug, info, warn, error, critical",
            ],
        )


class LogFormatTests(SynchronousTestCase):
    """Text on a terminal, JSON elsewhere."""

    def test_terminal_gets_text(self) -> None:
        """A line has date, time, level and message. Other packages' lines also have the logger."""
        log = log_to_terminal()
        log.logger.warn(
            "{account}: upstream is down: {reason}", account="paper", reason="connection lost"
        )
        [line] = log.lines()
        self.assertRegex(
            line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d warn  paper: upstream is down: connection"
        )
        log = log_to_terminal(namespace="twisted.internet.base")
        log.logger.warn("Unexpected reason.")
        [line] = log.lines()
        self.assertRegex(line, r" warn  \[twisted\.internet\.base\] Unexpected reason")

    def test_pipe_gets_object_with_values(self) -> None:
        """The values in the message are fields, so a program need not parse the message."""
        log = log_to_pipe()
        log.logger.warn(
            "{account}: upstream is down: {reason}; next attempt in {delay:.1f} s",
            account="paper",
            reason="connection lost",
            delay=1.25,
        )
        fields = log.read_object()
        self.assertRegex(fields.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(
            fields,
            {
                "level": "warn",
                "logger": OUR_LOGGER,
                "message": "paper: upstream is down: connection lost; next attempt in 1.2 s",
                "account": "paper",
                "reason": "connection lost",
                "delay": 1.25,
            },
        )

    def test_setting_overrides_stream(self) -> None:
        """Text can be useful in a pipe: journald reads one, and people read journald."""
        for log, first_character in (
            (log_to_terminal(LogSettings(LogFormat.JSON)), "{"),
            (log_to_pipe(LogSettings(LogFormat.TEXT)), "2"),
        ):
            log.logger.info("it is up")
            [line] = log.lines()
            self.assertEqual(line[0], first_character)

    def test_event_below_level_is_omitted(self) -> None:
        """An event at the level is logged."""
        for log in (
            log_to_terminal(LogSettings(level=Level.WARN)),
            log_to_pipe(LogSettings(level=Level.WARN)),
        ):
            log.logger.info("it is up")
            log.logger.warn("it is down")
            [line] = log.lines()
            self.assertIn("it is down", line)

    def test_event_without_message_is_omitted(self) -> None:
        """Twisted logs such events."""
        for log in (log_to_terminal(), log_to_pipe()):
            log.logger.info("")
            self.assertEqual(log.lines(), [])

    def test_traceback_is_part_of_its_event(self) -> None:
        """In text it is indented below the line; in JSON it is a field."""
        log = log_to_terminal()
        log.logger.failure(
            "{account}: the recovery failed", make_failure("no such page"), account="paper"
        )
        first, *others = log.lines()
        self.assertIn("critical paper: the recovery failed", first)
        self.assertTrue(all(line.startswith("    ") for line in others))
        self.assertIn("ValueError: no such page", others[-1])
        log = log_to_pipe()
        log.logger.failure(
            "{account}: the recovery failed", make_failure("no such page"), account="paper"
        )
        self.assertIn("ValueError: no such page", log.read_object()["traceback"])


class LogSafetyTests(SynchronousTestCase):
    """Text from outside cannot forge a line, control a terminal or fill the disk."""

    HOSTILE = "x\n2026-01-01 00:00:00 info  all is well\r\x1b[2J\x9b1m\u202e\u2028\ud800"

    def test_hostile_value_is_escaped(self) -> None:
        """Line ends and control characters are escaped."""
        for log in (log_to_terminal(), log_to_pipe()):
            log.logger.info("dropped {peer}", peer=self.HOSTILE)
            [line] = log.lines()
            self.assertTrue(line.isprintable(), line)
            self.assertIn("\\u202e", line)
        self.assertEqual(log.read_object()["peer"], self.HOSTILE)

    def test_hostile_traceback_is_escaped(self) -> None:
        """The text of an error can come from a peer."""
        log = log_to_terminal()
        log.logger.failure("it failed", make_failure(self.HOSTILE))
        self.assertTrue(all(line.isprintable() for line in log.lines()))
        self.assertFalse(any(line.startswith("2026-01-01") for line in log.lines()))

    def test_long_value_is_cut(self) -> None:
        """The length of a line and of a traceback is limited."""
        log = log_to_terminal()
        log.logger.info("dropped {peer}", peer="x" * 100_000)
        [line] = log.lines()
        self.assertTrue(line.endswith("x…"))
        self.assertLess(len(line), LONGEST + 50)
        log = log_to_pipe()
        log.logger.failure("dropped {peer}", make_failure("y" * 100_000), peer="x" * 100_000)
        [line] = log.lines()
        self.assertLess(len(line), 2 * LONGEST + LONGEST_TRACEBACK + 500)

    def test_only_plain_values_become_fields(self) -> None:
        """The contents of an object are omitted if code logs one by mistake."""
        log = log_to_pipe()
        log.logger.info(
            "one {thing}", thing=Path("/x"), payload=b"secret", request={"key": "secret"}, n=True
        )
        fields = log.read_object()
        self.assertEqual((fields["message"], fields["n"]), ("one /x", True))
        self.assertEqual(fields.keys(), {"time", "level", "logger", "message", "n"})

    def test_other_loggers_values_are_omitted(self) -> None:
        """Autobahn's values are headers and frames; only its message is logged."""
        log = log_to_pipe(namespace=AUTOBAHN_LOGGER)
        log.logger.warn("a handshake", headers="Authorization: secret", octets="secret")
        self.assertEqual(log.read_object().keys(), {"time", "level", "logger", "message"})

    def test_value_with_reserved_name_is_omitted(self) -> None:
        """The fields that every line has are not overwritten."""
        log = log_to_pipe()
        log.logger.info("hello", message="other", time="yesterday", logger="other")
        fields = log.read_object()
        self.assertEqual((fields["message"], fields["logger"]), ("hello", OUR_LOGGER))
        self.assertNotEqual(fields["time"], "yesterday")

    def test_character_outside_encoding_is_escaped(self) -> None:
        """A stream in ASCII does not lose the line."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii")
        log = Logger(
            OUR_LOGGER, observer=LogPublisher(observer(LogSettings(LogFormat.TEXT), stream))
        )
        log.info("events are kept in {place}", place="/home/Jörg")
        self.assertIn(b"events are kept in /home/J\\xf6rg\n", raw.getvalue())


class LibraryLineTests(SynchronousTestCase):
    """What libraries log."""

    def test_information_is_omitted(self) -> None:
        """Text and JSON have only the errors: the state changes have lines of our own."""
        for namespace in ("log_legacy", "twisted.web.http", "twisted.internet.base"):
            for log in (log_to_terminal(namespace=namespace), log_to_pipe(namespace=namespace)):
                log.logger.info("ProxySite starting on 8099")
                log.logger.error("it went wrong")
                [line] = log.lines()
                self.assertIn("it went wrong", line)
