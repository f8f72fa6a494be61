"""Tests for tradeproxy.config.files: files of settings that others can change."""

from __future__ import annotations

import os

from twisted.trial.unittest import SkipTest

from tests.config.settings_case import PAIR, SettingsTestCase
from tradeproxy.config.settings import Settings, SettingsError

ALLOW = "PROXY_ALLOW_FOREIGN_ENV_FILE"
STRANGER, USER = 4001, 4002
FOREIGN = f"another user (uid {STRANGER}) owns it"
EVERYONE = "everyone can write it"


class TrustCase(SettingsTestCase):
    """A base class with a .env that only its owner can write. Only root can change owners."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file to another user")
        self.path = self.directory / ".env"
        self.path.write_text("PROXY_MAX_CLIENTS=7\n")
        self.path.chmod(0o600)

    def run_as(self, uid: int) -> None:
        """Let the code see this user. The test itself keeps its rights."""
        self.patch(os, "geteuid", lambda: uid)

    def outcome(self, variables: dict[str, str] | None = None, env_file: str | None = None) -> str:
        """Return what becomes of the file: `refused: …`, `warning: …` or `used`."""
        try:
            settings: Settings = self.read({**PAIR, **(variables or {})}, env_file=env_file)
        except SettingsError as error:
            [line] = error.problems
            label, _, reason = line.partition(": ")
            self.assertEqual(label, str(self.path))
            return reason.partition(";")[0]
        self.assertEqual(settings.limits.max_clients, 7)
        return (
            f"warning: {settings.warnings[0].partition(': ')[2]}" if settings.warnings else "used"
        )


class FoundFileTests(TrustCase):
    """A .env of the working directory. It could name a server of its author for the keys."""

    def test_owner_is_user_or_root(self) -> None:
        """Anyone else could have left it where the user starts a command."""
        self.run_as(USER)
        for owner, outcome in ((USER, "used"), (0, "used"), (STRANGER, f"refused: {FOREIGN}")):
            os.chown(self.path, owner, -1)
            self.assertEqual(self.outcome(), outcome)

    def test_started_as_root_owner_of_directory_counts(self) -> None:
        """With sudo, in the user's own directory, but not in /tmp."""
        os.chown(self.path, USER, -1)
        for owner, outcome in (
            (USER, "used"),
            (0, f"refused: another user (uid {USER}) owns it"),
            (STRANGER, f"refused: another user (uid {USER}) owns it"),
        ):
            os.chown(self.directory, owner, -1)
            self.assertEqual(self.outcome(), outcome)
        self.run_as(STRANGER + 10)
        os.chown(self.directory, USER, -1)
        self.assertEqual(self.outcome(), f"refused: another user (uid {USER}) owns it")

    def test_file_that_everyone_can_write_is_refused(self) -> None:
        """If only the group can, that is a warning: it may be the user's own group."""
        group = "warning: its group can write it; run chmod 600 on it"
        for mode, outcome in (
            (0o666, f"refused: {EVERYONE}"),
            (0o602, f"refused: {EVERYONE}"),
            (0o660, group),
            (0o664, group),
            (0o600, "used"),
        ):
            self.path.chmod(mode)
            self.assertEqual(self.outcome(), outcome)

    def test_link_needs_trusted_owner_target_and_directory(self) -> None:
        """The owner of the link has chosen the target, and could choose another."""
        self.run_as(USER)
        other = self.directory / "other"
        other.mkdir(mode=0o755)
        target = self.path.rename(other / "settings")
        self.path.symlink_to("other/settings")
        self.assertEqual(self.outcome(), "used")
        os.chown(self.path, STRANGER, -1, follow_symlinks=False)
        self.assertEqual(self.outcome(), f"refused: {FOREIGN}")
        os.chown(self.path, USER, -1, follow_symlinks=False)
        os.chown(target, STRANGER, -1)
        self.assertEqual(self.outcome(), f"refused: {FOREIGN}")
        os.chown(target, USER, -1)
        target.chmod(0o666)
        self.assertEqual(self.outcome(), f"refused: {EVERYONE}")
        target.chmod(0o600)
        other.chmod(0o777)
        self.assertEqual(self.outcome(), "refused: everyone can replace it in its directory")

    def test_directory_of_everyone_needs_sticky_bit(self) -> None:
        """Without it, everyone can rename another file of the user to .env."""
        for mode, outcome in (
            (0o777, "refused: everyone can replace it in its directory"),
            (0o1777, "used"),
            (0o775, "used"),
        ):
            self.directory.chmod(mode)
            self.assertEqual(self.outcome(), outcome)

    def test_foreign_pipe_is_not_opened(self) -> None:
        """The command would hang. The link to /dev/null of a user who wants no .env is fine."""
        self.path.unlink()
        os.mkfifo(self.path)
        os.chown(self.path, STRANGER, -1)
        self.assertEqual(self.outcome(), f"refused: {FOREIGN}")
        self.path.unlink()
        self.path.symlink_to("/dev/null")
        self.assertEqual(self.problems({}), [])

    def test_variable_of_environment_allows_foreign_file(self) -> None:
        """A container may have a file of its host. The file itself cannot allow it."""
        self.path.write_text(f"PROXY_MAX_CLIENTS=7\n{ALLOW}=1\n")
        os.chown(self.path, STRANGER, -1)
        self.assertEqual(self.outcome({ALLOW: "1"}), f"warning: {FOREIGN}")
        for value in ("", "0"):
            self.assertEqual(self.outcome({ALLOW: value}), f"refused: {FOREIGN}")
        os.chown(self.path, 0, -1)
        ignored = f"warning: {ALLOW}: not used; only the environment can set it"
        self.assertEqual(self.outcome(), ignored)
        [problem] = self.problems({ALLOW: "maybe"})[:1]
        self.assertEqual(problem, f"{ALLOW}: 'maybe' is neither yes (1, true) nor no (0, false)")


class NamedFileTests(TrustCase):
    """The user has chosen the file, so it is used, with a warning."""

    def test_env_file_option_causes_a_warning(self) -> None:
        """The owner, everyone, and the group."""
        os.chown(self.path, STRANGER, -1)
        self.assertEqual(self.outcome(env_file=".env"), f"warning: {FOREIGN}")
        os.chown(self.path, 0, -1)
        self.path.chmod(0o666)
        self.assertEqual(self.outcome(env_file=".env"), f"warning: {EVERYONE}")

    def test_file_of_a_secret_causes_a_warning(self) -> None:
        """The name of the file is not shown: it may be the secret, by mistake."""
        secret = self.directory / "hush"
        secret.write_text("a-token-of-some-length")
        for owner, mode, clause in (
            (0, 0o600, None),
            (STRANGER, 0o600, FOREIGN),
            (0, 0o666, EVERYONE),
            (0, 0o660, "its group can write it"),
        ):
            os.chown(secret, owner, -1)
            secret.chmod(mode)
            settings = self.read({**PAIR, "PROXY_TOKENS_FILE": "hush"})
            line = f"PROXY_TOKENS_FILE: the file that it names: {clause}"
            self.assertEqual(settings.warnings, () if clause is None else (line,))
            self.assertEqual(len(settings.tokens), 1)
