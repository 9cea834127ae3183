"""Names of hosts, as headers and AGENTKIT_HOSTS write them."""

from __future__ import annotations

import pytest

from agentkit.core.hosts import Host, HostPattern


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("localhost", Host("localhost")),
        ("LocalHost.", Host("localhost")),
        ("app.example.com:8443", Host("app.example.com", 8443)),
        ("app.example.com.:80", Host("app.example.com", 80)),
        ("web_1", Host("web_1")),
        ("127.0.0.1:8000", Host("127.0.0.1", 8000)),
        ("[::1]", Host("::1")),
        ("[0:0:0:0:0:0:0:1]:8000", Host("::1", 8000)),
        ("[2001:DB8::1]", Host("2001:db8::1")),
        ("localhost:", Host("localhost")),
    ],
)
def test_a_host_is_read_with_its_port(text: str, host: Host) -> None:
    assert Host.read(text) == host


@pytest.mark.parametrize(
    "text",
    [
        *("", ":80", "a b", "a,b", "localhost,evil.example", "user@localhost", "localhost/", "http://localhost"),
        *("localhost:port", "localhost:123456", "localhost:٣", "..", "a..b", "localhost..", ".localhost", "-a", "a-"),
        *("[::1", "::1", "[::1]x", "[::1%lo]", "[:::]", "[localhost]", "[]", "lo%63alhost", "localhost\n", "löcal"),
    ],
)
def test_what_is_no_host_is_none(text: str) -> None:
    assert Host.read(text) is None


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("localhost", ["localhost", "LOCALHOST:8000", "localhost."], ["a.localhost", "localhost.evil.example"]),
        ("a.example:8000", ["a.example:8000", "A.EXAMPLE.:8000"], ["a.example", "a.example:80"]),
        ("*.example.com", ["a.example.com", "b.a.example.com:1"], ["example.com", "xexample.com", "example.com.evil"]),
        ("[::1]", ["[::1]", "[0::1]:8000"], ["localhost", "[::2]"]),
        ("::1", ["[::1]"], ["[::2]"]),
        ("[::1]:80", ["[::1]:80"], ["[::1]"]),
        ("127.0.0.1", ["127.0.0.1:8000"], ["127.0.0.2", "127.1", "2130706433"]),
    ],
)
def test_a_pattern_matches_its_hosts_and_no_others(pattern: str, matching: list[str], others: list[str]) -> None:
    read = HostPattern.read(pattern)
    assert read is not None
    hosts = {text: Host.read(text) for text in (*matching, *others)}
    assert [text for text, host in hosts.items() if host and read.matches(host)] == matching


@pytest.mark.parametrize("text", ["", "*", "*.", "a.*.b", "*a.example", "https://a.example", "a b", "[*.::1]"])
def test_what_is_no_pattern_is_none(text: str) -> None:
    assert HostPattern.read(text) is None
