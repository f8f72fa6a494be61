"""Variables of the process and of a .env file, and the problems found in them."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from dotenv.parser import parse_stream

from tradeproxy.config.files import find_distrust, find_weakness, open_text, read_text
from tradeproxy.config.setting import ListSetting, flag
from tradeproxy.wire.printable import make_one_line
from tradeproxy.wire.quote import hide_keys

T = TypeVar("T")

ALLOW_FOREIGN = "PROXY_ALLOW_FOREIGN_ENV_FILE"
"""The variable that allows a .env of another user. Such a file cannot set it."""


_QUOTED = re.compile(
    r"""[^=\n]*=[ \t]*(?P<quote>['"])(?P<text>(?:\\.|(?!(?P=quote)).)*)(?P<end>['"])?""", re.DOTALL
)
"""A value that begins with a quote; it has no `end` if the quote is not closed."""


MAX_FINDINGS = 50
"""Problems, and warnings, that are listed. A wrong file may have one in each of its lines."""

MAX_TEXT = 10_000
"""Characters of a value that is quoted, and of a finding. A wrong file may have longer ones."""

MAX_LINES = 10_000
"""Lines of a .env, and items of a list. A reload stops the proxy for 20 µs with each of them."""


@dataclass(slots=True)
class Findings:
    """Problems and warnings about the settings, a line each. A problem prevents the start.

    Names of variables and files may contain any character except NUL. After MAX_FINDINGS of a
    kind, one line says how many more there are.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _more_problems: int = 0
    _more_warnings: int = 0
    _searches: int = 0
    _has_fatal: bool = False

    def problem(self, text: str) -> None:
        """Record a problem, which the user must fix before a start."""
        if not self._has_fatal:
            self._more_problems += not _add(self.problems, text, self._more_problems)

    def fatal(self, text: str) -> None:
        """Record a fatal problem and suppress later ones."""
        self.problem(text)
        self._has_fatal = True

    def warning(self, text: str) -> None:
        """Record a probable mistake."""
        self._more_warnings += not _add(self.warnings, text, self._more_warnings)

    def suggest(
        self, name: str, known: Iterable[str], *, prefix: str = "", cutoff: float = 0.0
    ) -> str:
        """Return a clause with the known name that is most like another one; "" if none is.

        Only MAX_FINDINGS names are compared: each takes half a millisecond.

        Args:
            name: the name that is not known.
            known: the names that are.
            prefix: what the clause has before the known name.
            cutoff: how like they must be, from 0 to 1.
        """
        self._searches += 1
        if self._searches > MAX_FINDINGS:
            return ""
        nearest = get_close_matches(name[:100], list(known), n=1, cutoff=cutoff)
        return f"; did you mean {prefix}{nearest[0]}?" if nearest else ""

    def attempt(self, name: str, parse: Callable[[str], T], text: str, default: T) -> T:
        """Return `parse(text)`. On ValueError, record a problem of `name`; return the default.

        The problem does not quote what may be a key: see `hide_keys`.
        """
        try:
            return parse(text)
        except ValueError as error:
            # `hide_keys` looks for each word of the text. A problem without room is only counted.
            can_quote = len(text) <= MAX_TEXT and len(self.problems) < MAX_FINDINGS
            reason = hide_keys(str(error), text) if can_quote else "is not valid, and very long"
            self.problem(f"{name}: {reason}")
            return default


class Environment:
    """Variables by name. Values are stripped, and a blank value counts as unset.

    An invalid value adds a problem to `findings`, and the default replaces it. Read all
    settings first, then check `findings`.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        directory: Path,
        findings: Findings,
        *,
        is_running: bool = False,
    ) -> None:
        stripped = {name: value.strip() for name, value in variables.items()}
        self._variables = {name: value for name, value in stripped.items() if value}
        self.directory = directory
        """The base directory of .env and of relative file names."""
        self.is_running = is_running
        """Whether the process runs: then no reading may block."""
        self.findings = findings

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str],
        directory: Path,
        env_file: str | None,
        *,
        is_running: bool = False,
    ) -> Environment:
        """Read `env_file`, which must exist, or by default the directory's .env, if it exists.

        A variable of `environ` overrides the file, unless it is blank. A .env whose content others
        can set is a problem, unless ALLOW_FOREIGN is set in `environ`. In a process that
        `is_running`, a file that is a pipe is a problem.
        """
        findings = Findings()
        given = {name: value for name, value in environ.items() if value.strip()}
        allowed = findings.attempt(
            ALLOW_FOREIGN, flag, given.get(ALLOW_FOREIGN, "no").strip(), default=False
        )
        variables = _read_env_file(
            directory, env_file, findings, is_allowed=allowed, is_running=is_running
        )
        return cls({**variables, **given}, directory, findings, is_running=is_running)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the sorted names of the set variables."""
        return iter(sorted(self._variables))

    def get(self, name: str) -> str | None:
        """Return a variable's stripped text, or None if it is unset."""
        return self._variables.get(name)

    def parse(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Return the parsed variable, or the default if it is unset or invalid."""
        text = self.get(name)
        return default if text is None else self.findings.attempt(name, parse, text, default)

    def read_list(self, setting: ListSetting) -> tuple[str, ...]:
        """Return the valid items of a list, parsed."""
        name, parse = setting.name, setting.parse
        items = self._variables.get(name, "").split(setting.separator)
        if len(items) > MAX_LINES:
            self.findings.problem(f"{name}: has more than {MAX_LINES} items")
            return ()
        stripped = (item.strip() for item in items)
        parsed = (self.findings.attempt(name, parse, item, "") for item in stripped if item)
        return tuple(item for item in parsed if item)

    def find_source(self, name: str) -> str | None:
        """Return the variable that sets it: `name`, `<name>_FILE` (for secrets) or None."""
        return next(
            (source for source in (name, f"{name}_FILE") if source in self._variables), None
        )

    def warn_case(self, name: str, is_known: Callable[[str], object]) -> None:
        """Record a warning if the name is that of a known variable, but not in upper case."""
        if name != name.upper() and is_known(name.upper()):
            self.findings.warning(f"{name}: not used; the variable is {name.upper()}")

    def warn_unused(self, names: Iterable[str], reason: str) -> None:
        """Record a warning for each of the variables that is set but not used."""
        for source in filter(None, map(self.find_source, names)):
            self.findings.warning(f"{source}: not used {reason}")

    def read_secret(self, name: str) -> str:
        """Return the text of a secret, from the variable or from the file that `<name>_FILE` names.

        It is "" if unset or invalid. No finding quotes the text or the file name: a user may
        put the secret in the wrong one of the two variables.
        """
        text, file = self.get(name), self.get(f"{name}_FILE")
        if text is not None and file is not None:
            self.findings.problem(f"{name}: {name}_FILE is set too; keep one of them")
            return ""
        source, secret = name, text or ""
        if file is not None:
            source = f"{name}_FILE"
            self.warn_of_others(source, file)
            secret = self.findings.attempt(source, self._read_content, file, "")
        self.warn_of_quotes(source, secret)
        return secret

    def warn_of_quotes(self, source: str, text: str) -> None:
        """Record a warning, without the text, if it is in quotes. Those of a .env are removed."""
        if is_quoted(text):
            self.findings.warning(
                f"{source}: begins and ends with a quote, which counts as a part of it; leave both"
                " out (a shell and .env remove one pair, docker run --env-file removes none)"
            )

    def warn_of_others(self, source: str, file: str) -> None:
        """Record a warning, without its name, if others can write the file that `source` names."""
        with suppress(OSError, ValueError):  # the reading reports it
            if weakness := find_weakness(self.directory / file):
                self.findings.warning(f"{source}: the file that it names: {weakness}")

    def _read_content(self, file: str) -> str:
        try:
            with open_text(self.directory / file, is_running=self.is_running) as opened:
                text = read_text(opened).strip()
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the file it names cannot be read ({_describe_error(error)})"
            ) from None
        if not text:
            raise ValueError("the file it names is empty")
        return text


def _add(findings: list[str], text: str, more: int) -> bool:
    """Add a finding; return whether there was room. Otherwise the last line counts `more` + 1."""
    if len(findings) < MAX_FINDINGS:
        findings.append(make_one_line(text[:MAX_TEXT]))
        return True
    findings[MAX_FINDINGS:] = [f"and {more + 1} more"]
    return False


def is_quoted(text: str) -> bool:
    """Whether a text begins and ends with the same quote."""
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def _read_env_file(
    directory: Path, named: str | None, findings: Findings, *, is_allowed: bool, is_running: bool
) -> dict[str, str]:
    path = directory / (".env" if named is None else named)
    label = str(path) if named is None else f"--env-file {path}"
    try:
        # Before the opening: a pipe would block. A file that was found may have been made to be.
        distrust = find_distrust(path)
        if distrust is not None and named is None and not is_allowed:
            findings.fatal(
                f"{label}: refused: {distrust}; correct that, name it with --env-file,"
                f" or set {ALLOW_FOREIGN}=1 in the environment"
            )
            return {}
        with open_text(path, is_running=is_running) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = read_text(file)
    except (OSError, ValueError) as error:
        if named is not None or not isinstance(error, FileNotFoundError):
            findings.fatal(f"{label}: cannot be read ({_describe_error(error)})")
        return {}
    if distrust is not None:
        findings.warning(f"{label}: {distrust}")
    elif mode & 0o020:
        findings.warning(f"{label}: its group can write it; run chmod 600 on it")
    elif mode & 0o044:
        findings.warning(f"{label}: others can read it; run chmod 600 on it")
    if len(text.splitlines()) > MAX_LINES:
        findings.fatal(f"{label}: has more than {MAX_LINES} lines")
        return {}
    variables: dict[str, str] = {}
    for name, value in _parse_assignments(text, label, findings):
        if name in variables:
            findings.warning(f"{label}: {name} is set twice; the last one counts")
        variables[name] = value
    if variables.pop(ALLOW_FOREIGN, None) is not None:
        findings.warning(f"{label}: {ALLOW_FOREIGN}: not used; only the environment can set it")
    return variables


def _parse_assignments(text: str, label: str, findings: Findings) -> Iterator[tuple[str, str]]:
    for binding in parse_stream(io.StringIO(text)):
        if binding.key is not None and binding.value is not None:
            yield binding.key, binding.value
        elif binding.key is not None or binding.error:
            # A binding starts with the blank lines before it. Do not quote it: it may be a secret.
            written = binding.original.string
            blank_lines = written[: len(written) - len(written.lstrip())].count("\n")
            line = binding.original.line + blank_lines
            findings.problem(f"{label}: line {line} {_explain_line(written)}")


def _explain_line(written: str) -> str:
    match = _QUOTED.match(written.strip())
    if match is None:
        return "is not NAME=value"
    if not match["end"] or "\n" in match["text"]:
        return f"has a value that begins with {match['quote']} and does not end with it"
    return "has text after the quoted value"


def _describe_error(error: OSError | ValueError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text"
