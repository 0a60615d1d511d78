"""A node whose session store is not there, or is not what it should be: it says
so once, serves what needs no session, and begins when the store does."""

import contextlib
import http.server
import re
import threading
import time

import pytest

from support.admin import Admin
from support.crowd import APP, UNAVAILABLE
from support.node import Node, command, eventually, write_app
from support.servers import MemcachedServer, RedisServer, free_ports

STRANGER = {"Cookie": "id=" + "A" * 43}


class Servers:
    """One of each, for all cases."""

    def __init__(self, stack):
        self.web = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        self.web.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        stack.callback(self.web.server_close)
        stack.callback(self.web.shutdown)
        self.redis = stack.enter_context(RedisServer(password="right"))
        self.open = stack.enter_context(RedisServer())
        self.memcached = stack.enter_context(MemcachedServer())

    def names(self):
        return {"nobody": free_ports(1)[0], "web": self.web.server_port,
                "redis": self.redis.port, "open": self.open.port,
                "memcached": self.memcached.port}


@pytest.fixture(name="servers", scope="module")
def fixture_servers():
    with contextlib.ExitStack() as stack:
        yield Servers(stack)


@contextlib.contextmanager
def waiting_node(url):
    """That serves, and is not ready."""
    settings = {"session.url": url}
    with Node(APP, settings=settings, wait=False) as node:
        def serves():
            try:
                return node.get("/plain").status == 200
            except OSError:
                return False
        eventually(serves, "it serves")
        yield node


def check_waits(node, reason):
    node.wait_log(": ready: ")
    ready = node.get("/-/ready")
    assert (ready.status, ready.text.strip()) == (503, UNAVAILABLE)
    node.wait_log(re.escape(reason))
    for _ in range(5):
        began = time.monotonic()
        answer = node.get("/who", STRANGER)
        assert answer.status == 503 and time.monotonic() - began < 2
        assert answer.json()["detail"] == UNAVAILABLE
        assert not answer.all("Set-Cookie")
        assert node.get("/maybe", STRANGER).json() == {}
        assert node.get("/plain").status == 200
    node.wait_log(" warn .*" + re.escape(UNAVAILABLE))  # a thread writes it
    warned = [line for line in node.log().splitlines() if " warn " in line]
    assert len(warned) == 2, warned  # the store, and the first request
    assert sum(UNAVAILABLE in line for line in warned) == 1


@pytest.mark.parametrize("url, reason", [
    ("redis://127.0.0.1:{nobody}", "is down: connection refused"),
    ("redis://nowhere.invalid:6379", "is down: host not found"),
    ("redis+unix:///nowhere/redis.sock", "is down: no such file"),
    ("redis://:wrong@127.0.0.1:{redis}", "the password is refused: WRONGPASS"),
    ("redis://127.0.0.1:{redis}", "a password is needed: NOAUTH"),
    ("redis://bob:right@127.0.0.1:{redis}", "is refused: WRONGPASS"),
    ("redis://127.0.0.1:{open}/99", "cannot use database 99"),
    ("redis://127.0.0.1:{web}", 'is down: Protocol error, got "'),
    ("redis://127.0.0.1:{memcached}", 'is down: Protocol error, got "'),
    ("redis+sentinel://127.0.0.1:{open}/mymaster",
     "no sentinel knows where the master is"),
    ("redis+cluster://127.0.0.1:{open}", "cluster support disabled"),
    ("memcached://127.0.0.1:{nobody}", "is down: connection refused"),
    ("memcached://127.0.0.1:{open}", "that is no reply of memcached"),
    ("memcached://127.0.0.1:{web}", "is down: "),
])
def test_it_is_not_there(servers, url, reason):
    with waiting_node(url.format(**servers.names())) as node:
        check_waits(node, reason)
        assert "right@" not in node.log() and "wrong@" not in node.log()


def test_it_comes(servers):
    port = servers.names()["nobody"]
    with waiting_node(f"redis://127.0.0.1:{port}") as node:
        check_waits(node, "is down: connection refused")
        with RedisServer(port=port):
            node.wait_ready()
            assert node.request("POST", "/begin?owner=a").status == 200


def test_its_user_may_not(servers):
    servers.redis.cli("ACL", "SETUSER", "ann", "reset", "on", ">pw", "~*",
                      "+@connection")
    with waiting_node(f"redis://ann:pw@127.0.0.1:{servers.redis.port}") as node:
        check_waits(node, "cannot keep sessions: NOPERM")
        servers.redis.cli("ACL", "SETUSER", "ann", "+@all")
        node.wait_ready()
        assert node.request("POST", "/begin?owner=a").status == 200


def test_a_restart_without_the_store_serves_after_a_while(servers):
    """Else all nodes that start anew stay out."""
    with waiting_node(f"redis://127.0.0.1:{servers.names()['nobody']}") as node:
        node.wait_ready(20)
        assert node.get("/who", STRANGER).status == 503
        eventually(lambda: re.search(
            r"^moonshine_session_store_errors_total [1-9]",
            Admin(node).ask("GET", "/-/metrics").text, re.M),
            "the failure is counted")


@pytest.mark.parametrize("url, message", [
    ("redsi://a", "redis://, redis+unix://, redis+sentinel://"),
    ("rediss://a", "run a TLS tunnel"),
    ("memcache://a", "memcached://"),
    ("lmdb:here", "an absolute path"),
    ("memory:x", "nothing stands behind memory:"),
    ("redis://a:99999", "a port must be a number"),
    ("redis://a/x", "database"),
    ("memcached://", "memcached://"),
])
def test_a_url_that_is_none(tmp_path, url, message):
    done = command("check", write_app(tmp_path, APP), "--set",
                   f"session.url={url}")
    assert done.returncode != 0
    assert "session.url" in done.stderr and message in done.stderr, done.stderr
