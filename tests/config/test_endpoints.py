"""Tests for tradeproxy.config.endpoints: what Twisted does with a description is what we say it does."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.plugins.twisted_core import systemdEndpointParser
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.endpoints import (
    complete,
    describe_tcp,
    find_bind_problems,
    format_url,
    has_ipv6_loopback,
    is_local,
    loopback_descriptions,
)

CERTIFICATE = "privateKey=key.pem"


def listening_at(description: str) -> tuple[int, str, int]:
    """Let Twisted listen, on no network, and return the port, the interface and the backlog it took."""
    reactor = MemoryReactor()
    serverFromString(reactor, description).listen(Factory())
    [(port, _factory, backlog, interface)] = reactor.tcpServers
    return port, interface, backlog


def listener(
    family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1", shared: bool = False
) -> socket.socket:
    """Return a socket that listens on a free port."""
    listening = socket.socket(family)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, 0))
    listening.listen()
    return listening


class DescribeTests(SynchronousTestCase):
    """Hosts and ports become descriptions that Twisted reads as meant."""

    def test_addresses_and_names(self) -> None:
        """IPv4, IPv6 and names arrive at Twisted as they are, with a backlog for many reconnects."""
        for host in ("127.0.0.1", "0.0.0.0", "::1", "fe80::1%eth0", "proxy.example"):
            self.assertEqual(listening_at(describe_tcp(host, 8099)), (8099, host, 4096))

    def test_loopback_is_both_families_where_both_exist(self) -> None:
        """The name localhost may be either."""
        both = [listening_at(description) for description in loopback_descriptions(80, ipv6=True)]
        self.assertEqual(both, [(80, "127.0.0.1", 4096), (80, "::1", 4096)])
        self.assertEqual(len(loopback_descriptions(80, ipv6=False)), 1)

    def test_ipv6_loopback_is_missing_where_the_system_refuses_it(self) -> None:
        """A kernel without IPv6 refuses the socket; it is asked by trying, not by its settings."""

        def refuse(*_: object) -> None:
            raise OSError

        self.patch(socket, "socket", refuse)
        self.assertFalse(has_ipv6_loopback())


class CompletedTests(SynchronousTestCase):
    """A description gets our defaults, or a reason why it cannot be used."""

    def test_defaults_are_added_only_where_it_is_silent(self) -> None:
        """A backlog or a mode that is given stays, by name or by position."""
        for description, expected in [
            ("tcp:80", "tcp:80:backlog=4096"),
            ("tcp:80:127.0.0.1:7", "tcp:80:127.0.0.1:7"),
            ("tcp6:80:7", "tcp6:80:7"),
            ("tcp6:80:backlog=7", "tcp6:80:backlog=7"),
            ("tls:certs", "tls:certs:backlog=4096"),
            ("unix:/run/x.sock", "unix:/run/x.sock:mode=600"),
            ("unix:/run/x.sock:660", "unix:/run/x.sock:660"),
            ("haproxy:tcp:80", "haproxy:tcp:80:backlog=4096"),
            ("stdio:", "stdio:"),
        ]:
            self.assertEqual(complete(description), expected)

    def test_the_addition_behind_haproxy_reaches_the_wrapped_endpoint(self) -> None:
        """Twisted hands keywords on to the description inside."""
        self.assertEqual(listening_at(complete("haproxy:tcp:80")), (80, "", 4096))

    def test_nonsense_is_refused_with_a_reason(self) -> None:
        """Each is told in a phrase, whatever Twisted raises for it."""
        for description, reason in [
            ("", "Unknown endpoint type"),
            ("=", "cannot be listened on"),
            ("foo:1", "Unknown endpoint type: 'foo'"),
            ("tcp:", "invalid literal"),
            ("tcp:80\\", "cannot be listened on"),
            ("tcp:80:colour=blue", "unexpected keyword argument 'colour'"),
            ("tcp:65536", "65536 is not a port"),
            ("tcp:80:interface=a/b", "'a/b' is neither a host name nor an address"),
            ("unix:", "it has no path"),
            ("ssl:443:privateKey=/nonexistent.pem", "No such file"),
            ("systemd:domain=INET:index=7", "no such socket was passed to this process"),
            ("systemd:domain=INET", "Specify exactly one"),
        ]:
            error = self.assertRaises(ValueError, complete, description)
            self.assertIn(reason, str(error))


class IsLocalTests(SynchronousTestCase):
    """What only this machine can reach is told from the rest, and doubt counts as the rest."""

    def test_by_the_interface(self) -> None:
        """TCP in all its kinds goes by the interface; Twisted's default is every one."""
        for description, expected in [
            ("tcp:80", False),
            ("tcp:80:interface=", False),
            ("tcp:80:interface=0.0.0.0", False),
            ("tcp:80:interface=192.0.2.1", False),
            ("tcp:80:interface=proxy.example", False),
            ("tcp:80:interface=127.0.0.1", True),
            ("tcp:80:127.0.0.2", True),
            ("tcp:interface=127.0.0.1:port=80", True),
            ("tcp:80:interface=localhost", True),
            (r"tcp:80:interface=\:\:1", True),
            ("tcp6:80", False),
            (r"tcp6:80:interface=\:\:", False),
            (r"tcp6:80:50:\:\:1", True),
            (f"ssl:443:{CERTIFICATE}", False),
            (f"ssl:443:{CERTIFICATE}:interface=127.0.0.1", True),
            ("tls:certs", False),
            (r"tls:certs:interface=\:\:1", True),
            ("haproxy:tcp:80", False),
            ("haproxy:tcp:80:interface=127.0.0.1", True),
            ("unix:/run/x.sock", True),
            ("haproxy:unix:/run/x.sock", True),
            ("haproxy:", False),
            ("stdio:", False),
            ("onion:80:interface=127.0.0.1", False),
            ("", False),
        ]:
            self.assertIs(is_local(description), expected, description)

    def test_an_inherited_socket_goes_by_its_own_address(self) -> None:
        """Whatever domain the description claims, the socket itself is asked; it stays open."""
        path = self.mktemp()
        with (
            listener() as near,
            listener(host="0.0.0.0") as far,
            socket.socket(socket.AF_UNIX) as unix,
        ):
            unix.bind(os.path.relpath(path))
            descriptors = [near.fileno(), far.fileno(), unix.fileno()]
            self.patch(
                systemdEndpointParser, "_sddaemon", ListenFDs(descriptors, ["near", "far", "unix"])
            )
            for description, expected in [
                ("systemd:domain=INET:index=0", True),
                ("systemd:INET:0", True),
                ("systemd:domain=INET:name=near", True),
                ("haproxy:systemd:domain=INET:name=near", True),
                ("systemd:domain=INET:index=1", False),
                ("systemd:domain=UNIX:index=1", False),
                ("systemd:domain=UNIX:name=unix", True),
                ("systemd:domain=INET:index=3", False),
                ("systemd:domain=INET:name=other", False),
                ("systemd:domain=NONE:index=0", False),
                ("systemd:domain=INET", False),
            ]:
                self.assertIs(is_local(description), expected, description)
            self.assertEqual(near.getsockname()[0], "127.0.0.1")

    def test_a_descriptor_that_is_no_socket_is_not_local(self) -> None:
        """It cannot be inspected."""
        with open(os.devnull) as file:
            self.patch(systemdEndpointParser, "_sddaemon", ListenFDs([file.fileno()], ["file"]))
            self.assertFalse(is_local("systemd:domain=INET:index=0"))

    @settings(deadline=None, derandomize=True)
    @given(st.text(":=\\a1é ", max_size=8), st.text(":=\\a1é ", max_size=8))
    def test_what_twisted_quotes_is_read_back(self, path: str, interface: str) -> None:
        """Colons and backslashes arrive, by position and by keyword, and so does all but the first "="."""
        quoted = f"unix:address={quoteStringArgument(path)}"
        self.assertEqual(format_url(quoted), f"unix:{path}")
        if "=" not in path:
            self.assertEqual(format_url(f"unix:{quoteStringArgument(path)}"), f"unix:{path}")
        description = f"tcp:80:interface={quoteStringArgument(interface)}"
        self.assertEqual(listening_at(description)[1], interface)
        self.assertEqual(
            format_url(description),
            format_url(f"tcp:interface={quoteStringArgument(interface)}:port=80"),
        )


class UrlTests(SynchronousTestCase):
    """An address is shown as what a client would write."""

    def test_each_kind(self) -> None:
        """A URL for TCP, the path for a socket file, and the description for what has neither."""
        for description, expected in [
            ("tcp:8099:interface=127.0.0.1:backlog=4096", "http://127.0.0.1:8099"),
            ("tcp:8099", "http://0.0.0.0:8099"),
            (r"tcp6:8099:interface=\:\:1", "http://[::1]:8099"),
            (f"ssl:443:{CERTIFICATE}:interface=proxy.example", "https://proxy.example:443"),
            ("tls:certs", "https://[::]:443"),
            ("unix:/run/x.sock:mode=600", "unix:/run/x.sock"),
            ("haproxy:tcp:80", "haproxy:tcp:80"),
            ("haproxy:unix:/run/x.sock", "haproxy:unix:/run/x.sock"),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ]:
            self.assertEqual(format_url(description), expected)


class BindProblemsTests(SynchronousTestCase):
    """What would keep us from listening is found before the start, and nothing stays open."""

    def test_a_busy_port_is_named(self) -> None:
        """IPv4 and IPv6 alike; a port that is free, once the other is gone, is no problem."""
        with listener() as busy:
            port = busy.getsockname()[1]
            descriptions = (
                describe_tcp("127.0.0.1", port),
                "systemd:domain=INET:index=0",
                "stdio:",
            )
            self.assertEqual(find_bind_problems(descriptions), (f"127.0.0.1:{port} is in use",))
        self.assertEqual(find_bind_problems(descriptions), ())
        self.assertEqual(find_bind_problems(descriptions), ())

    def test_a_busy_ipv6_port_is_named(self) -> None:
        """The address is in brackets."""
        if not has_ipv6_loopback():
            self.skipTest("there is no ::1 here")
        with listener(socket.AF_INET6, "::1") as busy:
            port = busy.getsockname()[1]
            self.assertEqual(
                find_bind_problems([describe_tcp("::1", port)]), (f"[::1]:{port} is in use",)
            )

    def test_addresses_that_exclude_each_other_are_found(self) -> None:
        """Each alone would do; together the second cannot have the port."""
        with listener() as free:
            port = free.getsockname()[1]
        twice = [describe_tcp("127.0.0.1", port), describe_tcp("127.0.0.1", port)]
        self.assertEqual(find_bind_problems(twice), (f"127.0.0.1:{port} is in use",))

    def test_a_port_that_is_shared_is_free_to_those_who_share_it(self) -> None:
        """It is not, if only one of the two shares; what the trial opened is in nobody's way."""
        with listener(shared=True) as other:
            port = other.getsockname()[1]
            description = describe_tcp("127.0.0.1", port)
            self.assertEqual(find_bind_problems([description], reuse_port=True), ())
            self.assertEqual(find_bind_problems([description]), (f"127.0.0.1:{port} is in use",))
            with socket.create_connection(("127.0.0.1", port)), closing(other.accept()[0]):
                pass
        with listener() as other:
            port = other.getsockname()[1]
            busy = (f"127.0.0.1:{port} is in use",)
            self.assertEqual(
                find_bind_problems([describe_tcp("127.0.0.1", port)], reuse_port=True), busy
            )

    def test_an_address_of_another_machine_is_named(self) -> None:
        """192.0.2.1 is set aside for documentation."""
        expected = ("192.0.2.1:8099 is not an address of this machine",)
        self.assertEqual(find_bind_problems([describe_tcp("192.0.2.1", 8099)]), expected)

    def test_a_socket_file_may_be_made(self) -> None:
        """The trial leaves no file behind."""
        path = os.path.relpath(self.mktemp())
        self.assertEqual(find_bind_problems([f"unix:{path}"]), ())
        self.assertFalse(os.path.lexists(path))

    def test_a_socket_file_whose_folder_is_missing_is_named(self) -> None:
        """The system's own reason is given."""
        expected = ("unix:/nonexistent/x.sock: No such file or directory",)
        self.assertEqual(find_bind_problems(["unix:/nonexistent/x.sock"]), expected)

    def test_a_path_that_is_too_long_is_named(self) -> None:
        """Python refuses it without an error number."""
        [problem] = find_bind_problems([f"unix:/{'x' * 200}"])
        self.assertIn("too long", problem)

    def test_a_path_that_exists_is_named(self) -> None:
        """A file, or a socket that nobody says is left behind, is not ours to remove."""
        path = os.path.relpath(self.mktemp())
        Path(path).touch()
        for description in (f"unix:{path}", f"unix:{path}:lockfile=0"):
            self.assertEqual(find_bind_problems([description]), (f"unix:{path} already exists",))

    def test_a_living_owner_is_named(self) -> None:
        """Twisted's lock file says who it is, ours or another user's."""
        path = os.path.relpath(self.mktemp())
        for owner in (os.getpid(), 1):
            os.symlink(str(owner), f"{path}.lock")
            [problem] = find_bind_problems([f"unix:{path}"])
            self.assertEqual(
                problem, f"unix:{path} is in use by process {owner}, according to {path}.lock"
            )
            os.unlink(f"{path}.lock")

    def test_another_users_process_counts_as_living(self) -> None:
        """The system forbids to signal it, which it would not of a dead one."""

        def forbid(*_: object) -> None:
            raise PermissionError

        path = os.path.relpath(self.mktemp())
        os.symlink("1", f"{path}.lock")
        self.patch(os, "kill", forbid)
        self.assertEqual(len(find_bind_problems([f"unix:{path}"])), 1)

    def test_what_a_dead_owner_left_is_no_problem(self) -> None:
        """Twisted removes the socket and the lock of a process that is gone, but no other file."""

        def gone(*_: object) -> None:
            raise ProcessLookupError

        self.patch(os, "kill", gone)
        path = os.path.relpath(self.mktemp())
        os.symlink("12345", f"{path}.lock")
        with closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(path)
        self.assertEqual(find_bind_problems([f"unix:{path}"]), ())
        self.assertTrue(os.path.lexists(path))
        os.unlink(path)
        self.assertEqual(find_bind_problems([f"unix:{path}"]), ())
        Path(path).touch()
        self.assertEqual(find_bind_problems([f"unix:{path}"]), (f"unix:{path} already exists",))
