"""Tests for tradeproxy.config.storage: the settings of Redis, which never show a password."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.storage import RedisSettings, read_redis
from tradeproxy.wire.credentials import Secret

HERE = Path("/here")


def read(url: str, password: str = "") -> tuple[RedisSettings | None, Findings]:
    """Return the Redis settings for this URL and this password, and the findings."""
    findings = Findings()
    variables = {"PROXY_REDIS_URL": url, "PROXY_REDIS_PASSWORD": password}
    return read_redis(Environment(variables, HERE, findings)), findings


def at(
    host: str = "localhost",
    port: int = 6379,
    path: str | None = None,
    tls: bool = False,
    username: str | None = None,
    password: str | None = None,
    db: int = 0,
) -> RedisSettings:
    """Return settings, with a default for every field."""
    return RedisSettings(
        host, port, path, tls, username, Secret(password) if password else None, db
    )


def at_file(
    path: str, username: str | None = None, password: str | None = None, db: int = 0
) -> RedisSettings:
    """Return settings with a socket file."""
    return at("", 0, path, username=username, password=password, db=db)


class RedisUrlTests(SynchronousTestCase):
    """The forms of the URL, and the label of each."""

    def test_url_valid_returns_settings_with_label(self) -> None:
        """Special characters of a user or a password are percent-encoded."""
        for url, expected, label in [
            ("redis://localhost", at(), "redis://localhost:6379/0"),
            ("redis://localhost/", at(), "redis://localhost:6379/0"),
            ("REDIS://LocalHost:6380/15", at(port=6380, db=15), "redis://localhost:6380/15"),
            ("redis://[::1]:6380", at("::1", 6380), "redis://[::1]:6380/0"),
            (
                "rediss://cache.example",
                at("cache.example", tls=True),
                "rediss://cache.example:6379/0",
            ),
            (
                "redis://:hush@127.0.0.1",
                at("127.0.0.1", password="hush"),
                "redis://127.0.0.1:6379/0",
            ),
            ("redis://@localhost", at(), "redis://localhost:6379/0"),
            (
                "redis://me:h%40s%3Ah%2f%25%C3%BC@localhost/1",
                at(username="me", password="h@s:h/%\u00fc", db=1),
                "redis://localhost:6379/1",
            ),
            (
                "redis://me%2Fyou:a@b@localhost",
                at(username="me/you", password="a@b"),
                "redis://localhost:6379/0",
            ),
            ("unix:///run/redis.sock", at_file("/run/redis.sock"), "unix:///run/redis.sock?db=0"),
            (
                "unix:/run/redis.sock?db=3",
                at_file("/run/redis.sock", db=3),
                "unix:///run/redis.sock?db=3",
            ),
            ("unix:///a%20b?", at_file("/a b"), "unix:///a%20b?db=0"),
            ("unix://me:hush@/run/r", at_file("/run/r", "me", "hush"), "unix:///run/r?db=0"),
        ]:
            found, findings = read(url)
            self.assertEqual((found, findings), (expected, Findings()), url)
            assert found is not None
            self.assertEqual(found.label, label)

    def test_url_invalid_is_one_problem_without_its_text(self) -> None:
        """The problem names the variable and quotes no part of the URL."""
        for url in [
            "hush",
            "hush:6379",
            "redis:hush",
            "redis:///0",
            "redis://:hush@",
            "redis://hush_host^/0",
            "redis://:hu/sh@localhost",
            "redis://:hu?sh@localhost",
            "redis://:hu#sh@localhost",
            "redis://:hush @localhost",
            "redis://:hush\u00fc@localhost",
            "redis://:hush%ff@localhost",
            "redis://:100%hush@localhost",
            "redis://:hush@localhost:0",
            "redis://:hush@localhost:65536",
            "redis://:hush@localhost:port",
            "redis://:hush@localhost/hush",
            "redis://:hush@localhost/-1",
            "redis://:hush@localhost/1234567",
            "redis://:hush@localhost/0/1",
            "redis://:hush@localhost/0?ssl_cert_reqs=none",
            "redis://:hush@[::1/0",
            "http://:hush@localhost",
            "unix://hush/redis.sock",
            "unix://me:hush@host/redis.sock",
            "unix:hush.sock",
            "unix:",
            "unix:///hush%00",
            "unix:///hush?database=1",
            "unix:///hush?db=one",
        ]:
            found, findings = read(url)
            self.assertEqual((found, len(findings.problems), findings.warnings), (None, 1, []), url)
            self.assertTrue(findings.problems[0].startswith("PROXY_REDIS_URL: "), findings.problems)
            self.assertNotIn("hush", findings.problems[0])

    @examples()
    @given(st.text(":/@%?#[]=.a1\u00e9 ", max_size=20))
    def test_url_with_any_text_is_parsed_or_a_problem(self, text: str) -> None:
        """No text after the scheme raises an exception or appears in a problem."""
        for scheme in ("redis", "rediss", "unix"):
            found, findings = read(f"{scheme}://hush{text}")
            lacks_password = found is not None and found.username and not found.password
            has_problem = found is None or bool(lacks_password)
            self.assertEqual(has_problem, bool(findings.problems), text)
            self.assertNotIn("hush" + text, "".join(findings.problems), text)


class RedisPasswordTests(SynchronousTestCase):
    """The password comes from the URL or from its own variable, and is never shown."""

    def test_password_variable_is_used(self) -> None:
        """The URL may contain a user for it, or none."""
        self.assertEqual(read("redis://localhost", "hush")[0], at(password="hush"))
        found, findings = read("redis://me@localhost", "hush")
        self.assertEqual((found, findings), (at(username="me", password="hush"), Findings()))

    def test_password_in_url_and_variable_is_a_problem(self) -> None:
        """Which of the two is right is not known."""
        _, findings = read("redis://:hush@localhost", "other")
        [problem] = findings.problems
        self.assertTrue(
            problem.startswith("PROXY_REDIS_URL: contains a password, and PROXY_REDIS_PASSWORD")
        )

    def test_user_without_password_is_a_problem(self) -> None:
        """It is probably a password without the colon before it."""
        _, findings = read("redis://hush@localhost")
        [problem] = findings.problems
        self.assertIn("no password", problem)
        self.assertNotIn("hush", problem)

    def test_password_to_another_machine_without_tls_is_a_warning(self) -> None:
        """A URL without a password causes no warning."""
        for url, count in [
            ("redis://:hush@redis.example", 1),
            ("redis://:hush@192.0.2.1", 1),
            ("redis://redis.example", 0),
            ("rediss://:hush@redis.example", 0),
            ("redis://:hush@localhost", 0),
            ("redis://:hush@127.0.0.2", 0),
            ("unix://:hush@/run/redis.sock", 0),
        ]:
            findings = read(url)[1]
            self.assertEqual((len(findings.warnings), findings.problems), (count, []), url)
        self.assertIn("unencrypted", read("redis://redis.example", "hush")[1].warnings[0])

    def test_password_without_url_is_a_warning(self) -> None:
        """The password has no effect then."""
        found, findings = read("", "hush")
        self.assertIsNone(found)
        self.assertEqual(
            findings.warnings, ["PROXY_REDIS_PASSWORD: not used without PROXY_REDIS_URL"]
        )
        self.assertEqual(read(""), (None, Findings()))

    def test_files_with_url_and_password_are_read(self) -> None:
        """Problems name the variable that is set, and quote no text of the file."""
        url, password = Path(self.mktemp()).resolve(), Path(self.mktemp()).resolve()
        password.write_text("hush\n")
        files = {"PROXY_REDIS_URL_FILE": str(url), "PROXY_REDIS_PASSWORD_FILE": str(password)}
        for text, expected, problems in [
            ("redis://localhost\n", at(password="hush"), []),
            ("redis://:hush@localhost", None, ["PROXY_REDIS_URL_FILE: contains a password"]),
            ("hush", None, ["PROXY_REDIS_URL_FILE: not a URL"]),
            ("", None, ["PROXY_REDIS_URL_FILE: the file it names is empty"]),
        ]:
            url.write_text(text)
            findings = Findings()
            found = read_redis(Environment(files, HERE, findings))
            if not problems:
                self.assertEqual(found, expected)
            self.assertEqual(len(findings.problems), len(problems), findings)
            for problem, beginning in zip(findings.problems, problems, strict=True):
                self.assertTrue(problem.startswith(beginning), problem)
                self.assertNotIn("hush", problem)

    def test_repr_shows_neither_user_nor_password(self) -> None:
        """A log or a traceback may contain the repr."""
        self.assertNotIn("hush", repr(read("redis://hush1:hush2@localhost")[0]))


class RedisLibraryTests(SynchronousTestCase):
    """The libraries for Redis are an extra of the package."""

    def test_library_missing_is_one_problem(self) -> None:
        """Redis needs both libraries. Without a URL, neither is needed."""
        found = importlib.util.find_spec
        for missing in ("txredisapi", "hiredis"):

            def find(name: str, missing: str = missing) -> ModuleSpec | None:
                return None if name == missing else found(name)

            self.patch(importlib.util, "find_spec", find)
            self.assertEqual(
                read("redis://localhost")[1].problems,
                [
                    f"PROXY_REDIS_URL: needs two libraries: {sys.executable} -m pip install"
                    " txredisapi hiredis"
                ],
            )
            self.assertEqual(read(""), (None, Findings()))
