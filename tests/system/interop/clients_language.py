"""The clients in other languages, with Debian's packages, and those of the shell."""

from __future__ import annotations

from tests.system.interop.clients import InteropClient
from tests.system.interop.environments import CACHE

CLIENTS = (
    InteropClient(
        "Go, gorilla/websocket 1.5.0",
        ("./client",),
        "gorilla.go",
        build=("go", "build", "-o", "client"),
        debian=("golang-go", "golang-github-gorilla-websocket-dev"),
        environment={
            "GO111MODULE": "off",
            "GOPATH": "/usr/share/gocode",
            "GOCACHE": str(CACHE / "go"),
        },
        resumes=True,
    ),
    InteropClient(
        "Java 17 HttpClient",
        ("java",),
        "JavaHttpClient.java",
        debian=("openjdk-17-jdk-headless",),
        resumes=True,
    ),
    InteropClient(
        "C, libwebsockets 4.1.6",
        ("./client",),
        "libwebsockets.c",
        build=("cc", "-o", "client", "-Wl,--no-as-needed", "-lwebsockets"),
        debian=("gcc", "libc6-dev", "libwebsockets-dev"),
        resumes=True,
    ),
    InteropClient(
        "Ruby, faye-websocket 0.11.0",
        ("ruby",),
        "faye_websocket.rb",
        debian=("ruby", "ruby-faye-websocket", "ruby-eventmachine"),
        resumes=True,
    ),
    InteropClient(
        "Perl, Mojolicious 9.31",
        ("perl",),
        "mojolicious.pl",
        debian=("libmojolicious-perl",),
        resumes=True,
    ),
    InteropClient("curl", ("sh",), "curl.sh", debian=("curl", "jq")),
    InteropClient(
        "wscat 6.1.0", ("sh",), "wscat.sh", npm=("wscat@6.1.0",), debian=("jq",), needs="a loop"
    ),
    InteropClient("websocat", ("sh",), "websocat.sh", debian=("websocat", "jq"), needs="a loop"),
)
