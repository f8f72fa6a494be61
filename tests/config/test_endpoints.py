"""Tests for tradeproxy.config.endpoints: it parses descriptions as Twisted does."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.plugins.twisted_core import systemdEndpointParser
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority, Identity
from tests.support.properties import examples
from tradeproxy.config.endpoints import (
    complete,
    describe_tcp,
    find_bind_problems,
    find_expired,
    format_url,
    has_ipv6_loopback,
    is_local,
    loopback_descriptions,
    read_inherited,
)

CERTIFICATE = "privateKey=key.pem"


class InheritedSocketTestCase(SynchronousTestCase):
    """Each test has inherited sockets of its own; this base has no test."""

    def setUp(self) -> None:
        read_inherited.cache_clear()
        self.addCleanup(read_inherited.cache_clear)


def listen_in_memory(description: str) -> tuple[int, str, int]:
    """Return the port, the interface and the backlog that Twisted uses for a description."""
    reactor = MemoryReactor()
    serverFromString(reactor, description).listen(Factory())
    [(port, _factory, backlog, interface)] = reactor.tcpServers
    return port, interface, backlog


def listener(
    family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1", shared: bool = False
) -> socket.socket:
    """Return a socket that listens on a free port, which others can share if `shared`."""
    listening = socket.socket(family)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, 0))
    listening.listen()
    return listening


class DescribeTests(SynchronousTestCase):
    """Hosts and ports become descriptions."""

    def test_describe_tcp_host_reaches_twisted_unchanged(self) -> None:
        """IPv4, IPv6 and names do, with a backlog for many reconnects."""
        for host in ("127.0.0.1", "0.0.0.0", "::1", "fe80::1%eth0", "proxy.example"):
            self.assertEqual(listen_in_memory(describe_tcp(host, 8099)), (8099, host, 4096))

    def test_loopback_with_ipv6_has_both_addresses(self) -> None:
        """The name localhost can resolve to either."""
        both = [
            listen_in_memory(description) for description in loopback_descriptions(80, ipv6=True)
        ]
        self.assertEqual(both, [(80, "127.0.0.1", 4096), (80, "::1", 4096)])
        self.assertEqual(len(loopback_descriptions(80, ipv6=False)), 1)

    def test_ipv6_loopback_without_ipv6_is_false(self) -> None:
        """A kernel without IPv6 raises an error for the socket."""

        def fail(*_: object) -> None:
            raise OSError

        self.patch(socket, "socket", fail)
        self.assertFalse(has_ipv6_loopback())


class CompleteTests(SynchronousTestCase):
    """A description gets our defaults, or an error with the reason."""

    def test_complete_adds_only_missing_parameters(self) -> None:
        """A given backlog or mode stays, by name or by position."""
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

    def test_complete_haproxy_default_reaches_wrapped_endpoint(self) -> None:
        """Twisted passes keywords to the wrapped description."""
        self.assertEqual(listen_in_memory(complete("haproxy:tcp:80")), (80, "", 4096))

    def test_complete_invalid_description_raises_with_reason(self) -> None:
        """It is a ValueError, whatever Twisted raises."""
        for description, reason in [
            ("", "Unknown endpoint type"),
            ("=", "cannot be listened on"),
            ("foo:1", "Unknown endpoint type: 'foo'"),
            ("tcp:", "it has no port"),
            ("tcp:x", "invalid literal"),
            ("tcp:80\\", "cannot be listened on"),
            ("tcp:80:colour=blue", "unexpected keyword argument 'colour'"),
            ("tcp:65536", "65536 is not a port"),
            ("tcp:80:interface=a/b", "'a/b' is neither a host name nor an address"),
            ("unix:", "it has no path"),
            ("ssl:443:privateKey=/nonexistent.pem", "No such file"),
            (f"ssl:443:{CERTIFICATE}:sslmethod=TLS_METHOD", "leave out sslmethod"),
            (f"haproxy:ssl:443:{CERTIFICATE}", "HAProxy sends its header before TLS"),
            ("systemd:domain=INET:index=7", "no such socket was passed to this process"),
            ("systemd:domain=INET", "Specify exactly one"),
        ]:
            error = self.assertRaises(ValueError, complete, description)
            self.assertIn(reason, str(error))

    def test_complete_tls_directory_with_a_root_raises(self) -> None:
        """Twisted would add the root to its chain of certificates without end."""
        directory = Path(self.mktemp())
        directory.mkdir()
        identity = Authority(str(directory)).issue("localhost")
        served = directory / "localhost.pem"
        served.write_bytes(identity.key.read_bytes() + identity.certificate.read_bytes())
        error = self.assertRaises(ValueError, complete, f"tls:{directory}:443")
        self.assertIn(f"{directory}/authority.pem has a root certificate", str(error))
        (directory / "authority.pem").unlink()
        self.assertEqual(complete(f"tls:{directory}:443"), f"tls:{directory}:443:backlog=4096")

    def test_complete_refused_pair_raises_with_reason(self) -> None:
        """The proxy started, and then no client could connect: OpenSSL refused each handshake."""
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(str(directory))
        weak, one = authority.issue("weak", rsa_bits=1024), authority.issue("one")
        other = Identity(authority.issue("other").key, one.certificate)
        nonsense = Identity(directory / "nonsense.key", one.certificate)
        nonsense.key.write_bytes(one.key.read_bytes()[:60])
        for identity, reason in (
            (weak, "OpenSSL refuses its key or certificate: ee key too small"),
            (other, "Certificate public and private keys do not match."),
            (nonsense, "OpenSSL refuses its key or certificate: unsupported"),
        ):
            error = self.assertRaises(ValueError, complete, identity.endpoint())
            self.assertIn(f"cannot be listened on: {reason}", str(error))
        self.assertEqual(complete(one.endpoint()), f"{one.endpoint()}:backlog=4096")

    def test_complete_refused_pair_in_a_tls_directory_raises_with_reason(self) -> None:
        """Nor could a client of that name. A passphrase would be asked for while the proxy runs.

        Twisted reads the directory again for each name that it does not know.
        """
        for bits, reason in ((1024, "ee key too small"), (2048, "a key with a passphrase")):
            directory = Path(self.mktemp())
            directory.mkdir()
            identity = Authority(str(directory)).issue("served", rsa_bits=bits)
            if bits == 2048:
                identity.encrypt_key(b"secret")
            (directory / "authority.pem").unlink()
            served = directory / "served.pem"
            served.write_bytes(identity.key.read_bytes() + identity.certificate.read_bytes())
            error = self.assertRaises(ValueError, complete, f"tls:{directory}:443")
            self.assertIn(reason, str(error))

    def test_complete_in_a_running_process_opens_no_file(self) -> None:
        """OpenSSL asked for the passphrase in the reactor, and a FIFO blocked it."""
        directory = Path(self.mktemp())
        directory.mkdir()
        os.mkfifo(directory / "key.pem")
        for description in (f"ssl:443:privateKey={directory}/key.pem", f"tls:{directory}/none:443"):
            completed = complete(description, is_running=True)
            self.assertEqual(completed, f"{description}:backlog=4096")

    def test_find_expired_names_the_file(self) -> None:
        """Clients refuse such a certificate, so the log says so. A missing file is no error."""
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(str(directory))
        old, new = authority.issue("old", days=-1), authority.issue("new")
        authority.certificate.unlink()
        served = directory / "old.pem"
        served.write_bytes(old.key.read_bytes() + old.certificate.read_bytes())
        for description, file in (
            (old.endpoint(), old.certificate),
            (f"tls:{directory}:443", directory.resolve() / "old.pem"),
        ):
            expected = [f"the certificate in {file} has expired"]
            self.assertEqual(find_expired(description), expected)
        for description in (new.endpoint(), "ssl:443:privateKey=/nonexistent", "tcp:80"):
            self.assertEqual(find_expired(description), [])

    def test_complete_tls_directory_with_a_self_signed_server_is_valid(self) -> None:
        """Its private key is there, so it ends its chain."""
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(str(directory))
        with authority.certificate.open("ab") as file:
            file.write(authority.private_bytes())
        self.assertEqual(complete(f"tls:{directory}:443"), f"tls:{directory}:443:backlog=4096")


class IsLocalTests(InheritedSocketTestCase):
    """An address is local only if it is certain that no other machine can reach it."""

    def test_is_local_depends_on_the_interface(self) -> None:
        """This applies to TCP of all kinds. Twisted's default is all interfaces."""
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

    def test_is_local_inherited_socket_depends_on_its_address(self) -> None:
        """The domain in the description does not matter. The socket stays open."""
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

    def test_is_local_inherited_file_is_false(self) -> None:
        """A descriptor that is not a socket has no address."""
        with open(os.devnull) as file:
            self.patch(systemdEndpointParser, "_sddaemon", ListenFDs([file.fileno()], ["file"]))
            self.assertFalse(is_local("systemd:domain=INET:index=0"))

    @examples()
    @given(st.text(":=\\a1é ", max_size=8), st.text(":=\\a1é ", max_size=8))
    def test_arguments_of_quote_string_argument_are_preserved(
        self, path: str, interface: str
    ) -> None:
        """It does not escape "=", so a positional argument cannot contain that character."""
        quoted = f"unix:address={quoteStringArgument(path)}"
        self.assertEqual(format_url(quoted), f"unix:{path}")
        if "=" not in path:
            self.assertEqual(format_url(f"unix:{quoteStringArgument(path)}"), f"unix:{path}")
        description = f"tcp:80:interface={quoteStringArgument(interface)}"
        self.assertEqual(listen_in_memory(description)[1], interface)
        self.assertEqual(
            format_url(description),
            format_url(f"tcp:interface={quoteStringArgument(interface)}:port=80"),
        )


class FormatUrlTests(InheritedSocketTestCase):
    """An address is formatted as a client would write it."""

    def test_format_url_depends_on_the_kind(self) -> None:
        """It is a URL for TCP, a path for a socket file, and else the description."""
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

    def test_format_url_of_an_inherited_socket_has_its_address(self) -> None:
        """The log said `listening on systemd:domain=INET:index=0`, which no client can use."""
        with (
            listener() as near,
            listener(host="::1", family=socket.AF_INET6) as ipv6,
            socket.socket(socket.AF_UNIX) as unix,
            socket.socket(socket.AF_UNIX) as abstract,
        ):
            path = os.path.relpath(self.mktemp())
            unix.bind(path)
            abstract.bind("\0tradeproxy-test-of-format-url")
            sockets = (near, ipv6, unix, abstract)
            names = ["near", "ipv6", "unix", "abstract"]
            descriptors = ListenFDs([each.fileno() for each in sockets], names)
            self.patch(systemdEndpointParser, "_sddaemon", descriptors)
            for description, expected in (
                ("systemd:domain=INET:index=0", f"http://127.0.0.1:{near.getsockname()[1]}"),
                ("systemd:domain=INET6:name=ipv6", f"http://[::1]:{ipv6.getsockname()[1]}"),
                ("systemd:domain=UNIX:index=2", f"unix:{path}"),
                ("systemd:domain=UNIX:index=3", "unix:@tradeproxy-test-of-format-url"),
                ("haproxy:systemd:domain=INET:index=0", "haproxy:systemd:domain=INET:index=0"),
            ):
                self.assertEqual(format_url(description), expected)


class BindProblemsTests(SynchronousTestCase):
    """Obstacles to listening are found before the start, and no socket stays open."""

    def test_bind_port_in_use_is_a_problem(self) -> None:
        """It is free again after the other socket closes."""
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

    def test_bind_ipv6_port_in_use_is_a_problem(self) -> None:
        """The problem has the address in brackets."""
        if not has_ipv6_loopback():
            self.skipTest("this machine has no ::1")
        with listener(socket.AF_INET6, "::1") as busy:
            port = busy.getsockname()[1]
            self.assertEqual(
                find_bind_problems([describe_tcp("::1", port)]), (f"[::1]:{port} is in use",)
            )

    def test_bind_conflicting_addresses_is_a_problem(self) -> None:
        """Each address alone is free. Together, the second one is in use."""
        with listener() as free:
            port = free.getsockname()[1]
        twice = [describe_tcp("127.0.0.1", port), describe_tcp("127.0.0.1", port)]
        self.assertEqual(find_bind_problems(twice), (f"127.0.0.1:{port} is in use",))

    def test_bind_shared_port_is_free_only_with_reuse_port(self) -> None:
        """Both sides must share it. The check takes no connection from the other process."""
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

    def test_bind_foreign_address_is_a_problem(self) -> None:
        """192.0.2.1 is reserved for documentation (RFC 5737)."""
        expected = ("192.0.2.1:8099 is not an address of this machine",)
        self.assertEqual(find_bind_problems([describe_tcp("192.0.2.1", 8099)]), expected)

    def test_bind_free_path_leaves_no_file(self) -> None:
        """The check removes its socket file."""
        path = os.path.relpath(self.mktemp())
        self.assertEqual(find_bind_problems([f"unix:{path}"]), ())
        self.assertFalse(os.path.lexists(path))

    def test_bind_missing_directory_is_a_problem(self) -> None:
        """The problem contains the reason of the operating system."""
        expected = ("unix:/nonexistent/x.sock: No such file or directory",)
        self.assertEqual(find_bind_problems(["unix:/nonexistent/x.sock"]), expected)

    def test_bind_long_path_is_a_problem(self) -> None:
        """Python raises an OSError without an error number."""
        [problem] = find_bind_problems([f"unix:/{'x' * 200}"])
        self.assertIn("too long", problem)

    def test_bind_existing_path_is_a_problem(self) -> None:
        """Twisted does not remove a file, or a socket without a lock file."""
        path = os.path.relpath(self.mktemp())
        Path(path).touch()
        for description in (f"unix:{path}", f"unix:{path}:lockfile=0"):
            self.assertEqual(find_bind_problems([description]), (f"unix:{path} already exists",))

    def test_bind_path_of_running_process_is_a_problem(self) -> None:
        """Twisted's lock file contains the process id. The process may have another user."""
        path = os.path.relpath(self.mktemp())
        for owner in (os.getpid(), 1):
            os.symlink(str(owner), f"{path}.lock")
            [problem] = find_bind_problems([f"unix:{path}"])
            self.assertEqual(
                problem, f"unix:{path} is in use by process {owner}, according to {path}.lock"
            )
            os.unlink(f"{path}.lock")

    def test_bind_path_of_another_users_process_is_a_problem(self) -> None:
        """A signal raises PermissionError, which means that the process exists."""

        def forbid(*_: object) -> None:
            raise PermissionError

        path = os.path.relpath(self.mktemp())
        os.symlink("1", f"{path}.lock")
        self.patch(os, "kill", forbid)
        self.assertEqual(len(find_bind_problems([f"unix:{path}"])), 1)

    def test_bind_stale_socket_file_is_no_problem(self) -> None:
        """Twisted removes the socket and the lock of an ended process, but no other file."""

        def not_found(*_: object) -> None:
            raise ProcessLookupError

        self.patch(os, "kill", not_found)
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
