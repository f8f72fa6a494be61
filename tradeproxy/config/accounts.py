"""The Alpaca accounts in the environment: base URLs and credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tradeproxy.config.command import name_command
from tradeproxy.config.env import Environment
from tradeproxy.config.setting import get_default_port, is_visible_ascii, split_url
from tradeproxy.wire import hosts
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import Dialect

_SECURE = {"https": True, "wss": True, "http": False, "ws": False}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """The base URL of an account. `path` is "" or "/prefix", without a trailing slash."""

    secure: bool
    host: str
    port: int
    path: str = ""

    @property
    def stream(self) -> str:
        """The URL of the account's WebSocket stream."""
        return f"{'wss' if self.secure else 'ws'}://{self._authority}{self.path}/stream"

    @property
    def rest(self) -> str:
        """The URL that the REST paths ("/v2/…") follow."""
        return f"{'https' if self.secure else 'http'}://{self._authority}{self.path}"

    @property
    def _authority(self) -> str:
        host = hosts.format_in_url(self.host)
        return host if self.port == get_default_port(self.secure) else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> BaseUrl:
        """Parse a URL. It removes a trailing "/stream" or "/v2", which Alpaca's examples include.

        Raises ValueError with a reason for the user. The reason never quotes the URL, which may
        contain a password.
        """
        parts, secure, host, port = split_url(
            text, _SECURE, "not a URL such as https://paper-api.alpaca.markets"
        )
        if parts.username is not None or "?" in text or "#" in text:
            raise ValueError("a base URL has no user name, no query and no fragment")
        if not secure and not hosts.is_loopback(host):
            raise ValueError(
                "http and ws would send the keys unencrypted to another machine; use https"
            )
        return cls(secure, host, port, re.sub(r"(/+(stream|v2))*/*\Z", "", parts.path))


PAPER = BaseUrl(secure=True, host="paper-api.alpaca.markets", port=443)
LIVE = BaseUrl(secure=True, host="api.alpaca.markets", port=443)


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One account at Alpaca. Messages about its key name `key_variable`, never the key."""

    name: str
    base_url: BaseUrl
    credentials: Credentials
    dialect: Dialect
    key_variable: str


_PREFIXED = re.compile(
    r"ALPACA_(?:(?P<name>.*)_)?(?P<form>(?:API_KEY|SECRET_KEY|OAUTH_TOKEN)(?:_FILE)?|URL)",
    re.DOTALL,
)
_COMMON = [
    f"ALPACA_{name}{form}"
    for name in ("", "LIVE_")
    for form in ("API_KEY", "SECRET_KEY", "OAUTH_TOKEN", "URL")
]
_NAME = re.compile(r"[A-Z0-9_]{1,64}")
RESERVED_NAMES = frozenset({"healthz", "readyz", "metrics", "dashboard"})
"""Names that no account can have: the proxy serves other things at these paths."""


def read_accounts(env: Environment, dialect: Dialect) -> tuple[AccountSettings, ...]:
    """Read all accounts in the environment. Problems and warnings go to `env.findings`."""
    names = sorted(_find_names(env), key=prefix_variables)
    candidates = (_read_account(env, name, dialect) for name in names)
    accounts = tuple(account for account in candidates if account is not None)
    # Alpaca allows one stream connection per account, so a second one would fail.
    first: dict[tuple[Credentials, BaseUrl], AccountSettings] = {}
    for account in accounts:
        one = first.setdefault((account.credentials, account.base_url), account)
        if one is not account:
            env.findings.problem(
                f"{account.key_variable}: same account as {one.key_variable};"
                " Alpaca allows one connection per account"
            )
    _warn_misspelt(env)
    has_any = any(
        (match := _PREFIXED.fullmatch(variable)) and match["form"] != "URL" for variable in env
    )
    if not has_any:
        # The SDKs of Alpaca read APCA_API_KEY_ID.
        hint = (
            "; APCA_API_KEY_ID is called ALPACA_API_KEY here" if env.get("APCA_API_KEY_ID") else ""
        )
        env.findings.problem(
            "ALPACA_API_KEY, ALPACA_SECRET_KEY: not set, and no other account is set;"
            f" set them in {env.directory / '.env'}, where `{name_command('init')}` writes them,"
            f" or try `{name_command('demo')}`, which needs no account{hint}"
        )
    return accounts


def _warn_misspelt(env: Environment) -> None:
    # Other programs may own ALPACA_* variables too, so only a close match causes a warning.
    for variable in env:
        env.warn_case(variable, _PREFIXED.fullmatch)
        if variable.startswith("ALPACA_") and not _PREFIXED.fullmatch(variable):
            # The SDKs of Alpaca call the pair APCA_API_KEY_ID and APCA_API_SECRET_KEY.
            likely = variable.replace("API_SECRET", "SECRET")
            if suggestion := env.findings.suggest(likely, _COMMON, cutoff=0.8):
                env.findings.warning(f"{variable}: unknown variable{suggestion}")


DEMO_ACCOUNTS = ("paper", "live")
"""The accounts of the demo."""


def demo_accounts(port: int, dialect: Dialect) -> tuple[AccountSettings, ...]:
    """Return the accounts of the demo: each has a simulator on this machine, with fixed keys.

    No other server accepts these keys. The simulators have `port` and the ports after it.
    """
    credentials = KeyPair(Secret("demo-key"), Secret("demo-secret"))
    return tuple(
        AccountSettings(
            name,
            BaseUrl(secure=False, host="127.0.0.1", port=port + number),
            credentials,
            dialect,
            key_variable="--demo",
        )
        for number, name in enumerate(DEMO_ACCOUNTS)
    )


def name_variables(name: str) -> str:
    """Return the names of the variables that configure this account, joined by "and"."""
    return f"{prefix_variables(name)}API_KEY and {prefix_variables(name)}SECRET_KEY"


def prefix_variables(name: str) -> str:
    """Return the start of the names of an account's variables, with its underscore."""
    return "ALPACA_" if name == "paper" else f"ALPACA_{name.upper()}_"


def _find_names(env: Environment) -> set[str]:
    names = set()
    for variable in env:
        if (match := _PREFIXED.fullmatch(variable)) is None:
            continue
        name, form = match["name"], match["form"]
        if name is None:
            names.add("paper")
        elif not _NAME.fullmatch(name):
            env.findings.problem(
                f"{variable}: the account's name must be [A-Z0-9_]+, at most 64 characters"
            )
        elif name == "API" or name.endswith("_API"):
            likely = f"ALPACA_{name.removesuffix('API')}{form}"
            env.findings.problem(f"{variable}: the name {name} is reserved; did you mean {likely}?")
        elif name == "PAPER":
            env.findings.problem(f"{variable}: the name PAPER is reserved; use ALPACA_{form}")
        elif name.lower() in RESERVED_NAMES:
            env.findings.problem(f"{variable}: the name {name} is reserved")
        else:
            names.add(name.lower())
    return names


def _read_account(env: Environment, name: str, dialect: Dialect) -> AccountSettings | None:
    prefix = prefix_variables(name)
    key, secret, token = (
        env.find_source(prefix + form) for form in ("API_KEY", "SECRET_KEY", "OAUTH_TOKEN")
    )
    key_variable = key or token
    if key_variable is None and secret is None:
        # ALPACA_URL alone is no mistake: it overrides the default for keys that come later.
        if name != "paper":
            env.findings.warning(f"{prefix}URL: not used, as {prefix}API_KEY is not set")
        return None
    base_url = env.parse(f"{prefix}URL", BaseUrl.parse, LIVE if name == "live" else PAPER)
    credentials = _read_credentials(env, prefix, key, secret, token)
    # Alpaca documents the `auth` message for a key pair only.
    if dialect is Dialect.AUTH and isinstance(credentials, OAuthToken):
        env.findings.problem(
            f"PROXY_UPSTREAM_AUTH: 'auth' does not support {token}; use authenticate"
        )
    if credentials is None or key_variable is None:
        return None
    return AccountSettings(name, base_url, credentials, dialect, key_variable)


def _read_credentials(
    env: Environment, prefix: str, key: str | None, secret: str | None, token: str | None
) -> Credentials | None:
    """Return the key pair or the token of an account, or None after a problem.

    `key`, `secret` and `token` are the variables that set the key, the secret key and the OAuth
    token, or None. Problems go to `env.findings`.
    """
    if token and (pair := key or secret):
        env.findings.problem(f"{token}: {pair} is set too; an account has a key pair or a token")
    elif token:
        if text := _read_visible_secret(env, f"{prefix}OAUTH_TOKEN"):
            return OAuthToken(text)
    elif not secret:
        env.findings.problem(f"{prefix}SECRET_KEY is missing: {key} is set")
    elif not key:
        env.findings.problem(f"{prefix}API_KEY is missing: {secret} is set")
    else:
        key_id, secret_key = (
            _read_visible_secret(env, prefix + form) for form in ("API_KEY", "SECRET_KEY")
        )
        if key_id and secret_key:
            return KeyPair(key_id, secret_key)
    return None


def _read_visible_secret(env: Environment, name: str) -> Secret | None:
    text = env.read_secret(name)
    if not is_visible_ascii(text):
        env.findings.problem(
            f"{env.find_source(name)}: contains white space,"
            " or a character that is not visible ASCII"
        )
        return None
    return Secret(text) if text else None
