"""The admin endpoints over TCP, with clients that should not be there."""

import os
import signal
import socket
import time

import pytest

from support.admin import Admin
from support.client import Client
from support.node import eventually, free_port

APP = 'app:get("/", function() return "ok" end)'
TOKEN = "correct horse battery"
GOOD = {"Authorization": f"Bearer {TOKEN}"}
BAD = {"Authorization": "Bearer correct horse batterz"}


@pytest.fixture(name="over_tcp")
def fixture_over_tcp(start):
    port = free_port()
    node = start(APP, "--admin", f"127.0.0.1:{port}",
                 env={"MOONSHINE_ADMIN_TOKEN": TOKEN})
    return node, Admin(node, ("127.0.0.1", port))


def denied(admin):
    text = admin.ask("GET", "/-/metrics", GOOD).text
    line, = [l for l in text.splitlines()
             if l.startswith("moonshine_admin_denied_total ")]
    return int(line.split()[1])


def test_all_that_needs_the_token(over_tcp):
    _, admin = over_tcp
    for method, target in (("GET", "/-/status"), ("GET", "/-/metrics"),
                           ("GET", "/-/requests"), ("POST", "/-/reload"),
                           ("POST", "/-/rollback"), ("POST", "/-/stop")):
        assert admin.ask(method, target).status == 401, target
    for target in ("/-/status", "/-/metrics", "/-/requests"):
        assert admin.ask("GET", target, GOOD).status == 200, target
    assert admin.ask("POST", "/-/reload", GOOD).status == 200
    assert admin.ask("POST", "/-/rollback", GOOD).status in (200, 500)
    assert denied(admin) == 6


def test_guessing_is_bounded_and_logged_once(over_tcp):
    node, admin = over_tcp
    with Client(admin.address) as client:
        statuses = [client.request("GET", "/-/status", BAD).status
                    for _ in range(40)]
        # Ten at once; one a second comes back.
        assert statuses[:10] == [401] * 10
        assert statuses.count(429) >= 25
        refused = client.request("GET", "/-/status", GOOD)
        while refused.status != 429:  # a guess came back meanwhile
            client.request("GET", "/-/status", BAD)
            refused = client.request("GET", "/-/status", GOOD)
        assert refused.header("Retry-After") == "1"
        # Health needs no token, and is not a guess.
        assert client.get("/-/live").status == 200
    eventually(lambda: admin.ask("GET", "/-/status", GOOD).status == 200,
               "the right token is heard again")
    assert denied(admin) >= 40
    assert node.log().count("without the right token") == 1
    assert TOKEN not in node.log() and "batterz" not in node.log()


def test_slow_clients_do_not_hold_up_the_master(over_tcp):
    """More connections than the endpoint takes, each with half a request."""
    node, admin = over_tcp
    slow = []
    try:
        for _ in range(300):
            slow.append(socket.create_connection(admin.address, 5))
            slow[-1].sendall(b"GET /-/status HTTP/1.1\r\nHost: a\r\nX: ")
        before, = node.children()
        os.kill(before, signal.SIGKILL)
        eventually(lambda: [p for p in node.children() if p != before],
                   "the worker is replaced")
        eventually(lambda: node.get("/").text == "ok", "the app serves")
        # Those that dribble are cut off at their deadline.
        deadline = time.monotonic() + 40
        while True:
            try:
                if admin.ask("GET", "/-/status", GOOD, timeout=15).status == 200:
                    break
            except OSError:
                assert time.monotonic() < deadline
    finally:
        for one in slow:
            one.close()


def test_garbage(over_tcp):
    node, admin = over_tcp
    for data in (b"\0" * 5000, b"GET /-/status HTTP/1.1\r\n" + b"A: b\r\n" * 5000,
                 b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: "
                 b"99999999\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"):
        with Client(admin.address) as client:
            client.send(data)
            client.half_close()
            client.read_rest()
    assert admin.ask("GET", "/-/status", GOOD).status == 200
    assert node.get("/").text == "ok"
