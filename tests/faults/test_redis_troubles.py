"""Every kind of trouble with Redis, for everything that uses it.

Sessions, limits of the cluster and moonshine.redis go through one proxy, which
counts who connects.
"""

import contextlib
import threading
import time

import pytest

from support.client import Client
from support.faults import Proxy
from support.node import Node, eventually
from support.servers import RedisServer

WORKERS = 2
FAR = 3.0      # seconds; what is allowed is a quarter of one
TROUBLE = 1.5  # seconds of it
APP = r"""
local r = moonshine.redis()
app:get("/plain", function() return "plain" end)
app:post("/count", function(c)
    local s = c:session()
    s:set("n", (s:get("n") or 0) + 1)
    return tostring(s:get("n"))
end, { session = "required" })
app:get("/maybe", function(c)
    return tostring(c:session():get("n"))
end, { session = "optional" })
app:get("/limited", moonshine.limit.token_bucket { rate = 1e6, per = 1, burst = 1e6,
    key = "all", scope = "cluster", name = "l" }, function() return "passed" end)
app:get("/closed", moonshine.limit.token_bucket { rate = 1e6, per = 1, burst = 1e6,
    key = "all", scope = "cluster", name = "c", on_store_error = "closed" },
    function() return "passed" end)
app:get("/redis", function(c)
    local value, why = r:set("k", "v")
    if why then c:fail(503, "no redis") end
    return value
end)
"""
OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"


def kill(redis, proxy):
    redis.kill()
    proxy.cut()
    return lambda: redis.start().wait_ready()


def stop(redis, _):
    redis.pause()
    return redis.resume


def pause(redis, _):
    redis.cli("CLIENT", "PAUSE", 3000, "ALL")  # it answers nobody until then
    return lambda: None


def full(redis, _):
    redis.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.cli("CONFIG", "SET", "maxmemory", "1")
    return lambda: redis.cli("CONFIG", "SET", "maxmemory", "0")


def read_only(redis, _):
    redis.cli("REPLICAOF", "127.0.0.1", "1")
    return lambda: redis.cli("REPLICAOF", "NO", "ONE")


def refuse(_, proxy):
    proxy.refuse()
    return proxy.accept


def mode(name, seconds=0.1, says=b"", cut=False):
    def begin(_, proxy):
        proxy.seconds, proxy.line, proxy.mode = seconds, says, name
        if cut:
            proxy.cut()

        def end():
            proxy.mode = "pass"
            proxy.cut()
        return end
    return begin


TROUBLES = {
    "killed": kill,
    "stopped": stop,
    "paused": pause,
    "full": full,
    "read-only": read_only,
    "refusing": refuse,
    "partitioned": mode("freeze"),
    "partitioned, and cut": mode("freeze", cut=True),
    "deaf": mode("deaf"),
    "mute": mode("mute"),
    "slow": mode("delay", 0.6),
    "loading": mode("say", says=b"-LOADING Redis is loading the dataset in "
                                b"memory\r\n"),
    "loading, and cut": mode("say", cut=True, says=b"-LOADING Redis is "
                             b"loading the dataset in memory\r\n"),
    "full, all of it": mode("say", says=OOM),
    "garbage": mode("say", says=b"\x7f\x00not redis\r\n"),
    "garbage, and cut": mode("say", says=b"HTTP/1.1 400 Bad Request\r\n\r\n",
                             cut=True),
    "wrong types": mode("say", says=b"*2\r\n:1\r\n$-1\r\n"),
    "too long": mode("say", says=b"$999999999999\r\n"),
    "deep": mode("say", says=b"*1\r\n" * 200),
    "saying OK to all": mode("say", says=b"+OK\r\n"),
}


class Users(threading.Thread):
    """Asks for everything over one connection, until told to end."""

    def __init__(self, node, cookie):
        super().__init__(daemon=True)
        self.node, self.cookie = node, cookie
        self.ending, self.failure = False, None
        self.seen, self.slowest = {}, 0.0

    def ask(self, client, method, target, statuses, texts):
        began = time.monotonic()
        answer = client.request(method, target, {"Cookie": self.cookie})
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert answer.status in statuses, (target, answer)
        if answer.status == 200:
            assert texts(answer.text), (target, answer)
        assert not answer.all("Set-Cookie"), (target, answer)
        self.seen.setdefault(target, set()).add(answer.status)

    def run(self):
        try:
            with Client(self.node.address) as client:
                while not self.ending:
                    self.ask(client, "GET", "/plain", {200}, "plain".__eq__)
                    self.ask(client, "POST", "/count", {200, 503}, str.isdigit)
                    self.ask(client, "GET", "/maybe", {200},
                             lambda t: t.isdigit() or t == "nil")
                    self.ask(client, "GET", "/limited", {200}, "passed".__eq__)
                    self.ask(client, "GET", "/closed", {200, 503},
                             "passed".__eq__)
                    self.ask(client, "GET", "/redis", {200, 503},
                             lambda t: True)
        except BaseException as error:  # pylint: disable=broad-except
            self.failure = error


@contextlib.contextmanager
def running(node, cookie, count=4):
    users = [Users(node, cookie) for _ in range(count)]
    for user in users:
        user.start()
    yield users
    for user in users:
        user.ending = True
    for user in users:
        user.join(30)
        if user.failure:
            raise user.failure


def begin(node):
    """The cookie of a new session, or nothing."""
    answer = node.request("POST", "/count")
    return answer.header("Set-Cookie", "").split(";")[0] \
        if answer.status == 200 else None


def all_work(node, cookie):
    headers = {"Cookie": cookie}
    return node.request("POST", "/count", headers).status == 200 and \
        node.get("/maybe", headers).text.isdigit() and \
        node.get("/closed").status == 200 and \
        node.get("/redis").text == "OK"


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble(name):
    with RedisServer() as redis, \
            Proxy(("127.0.0.1", redis.port)) as proxy, \
            Node(APP, workers=WORKERS, settings={
                "redis.url": f"redis://127.0.0.1:{proxy.port}"}) as node:
        cookie = eventually(lambda: begin(node), "a session begins")
        eventually(lambda: all_work(node, cookie), "everything works")
        end = TROUBLES[name](redis, proxy)
        began, before = time.monotonic(), proxy.tried
        with running(node, cookie) as users:
            eventually(lambda: time.monotonic() - began > TROUBLE or
                       any(u.failure for u in users), "it lasts")
        lasted, connects = time.monotonic() - began, proxy.tried - before
        seen = {target: set().union(*(u.seen.get(target, set())
                                      for u in users))
                for target in users[0].seen}
        assert 503 in seen["/count"], seen
        assert max(u.slowest for u in users) < FAR
        # Each worker tries each of its links now and then, requests or not.
        assert connects <= 12 * WORKERS * (lasted + 1), (connects, lasted)
        end()
        if name == "killed":  # and what it had is gone
            cookie = eventually(lambda: begin(node), "a session begins", 10)
        eventually(lambda: all_work(node, cookie), "everything works again",
                   10)
        with running(node, cookie) as users:
            eventually(lambda: all("/redis" in u.seen for u in users) or
                       any(u.failure for u in users), "all ask")
