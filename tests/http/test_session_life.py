"""How long sessions live, what their cookie says, what does not end them."""

import re
import time

import pytest

from support.crowd import APP
from support.node import Node, eventually
from support.servers import RedisServer


@pytest.fixture(name="redis", scope="module")
def fixture_redis():
    with RedisServer() as server:
        yield server


def begin(node, headers=None):
    """What the answer says of the cookie, and the cookie."""
    answer = node.request("POST", "/begin?owner=a", headers)
    assert answer.status == 200, answer.text
    line, = answer.all("Set-Cookie")
    return line, {**(headers or {}), "Cookie": line.split(";")[0]}


def alive(node, cookie):
    return node.get("/who", cookie).json().get("owner") == "a"


@pytest.mark.parametrize("store", ["memory:", "redis"])
def test_the_idle_time_ends_them(redis, store):
    url = redis.url if store == "redis" else store
    with Node(APP, settings={"session.url": url, "session.idle": "2s"}) as node:
        _, busy = begin(node)
        _, idle = begin(node)
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            assert alive(node, busy)
            time.sleep(0.05)
        assert not alive(node, idle)
        eventually(lambda: time.sleep(2.1) or not alive(node, busy),
                   "without requests it ends, too")


def test_the_absolute_time_ends_them_however_busy(redis):
    settings = {"session.url": redis.url, "session.absolute": "2s"}
    with Node(APP, settings=settings) as node:
        began = time.monotonic()
        _, cookie = begin(node)
        while time.monotonic() - began < 1.5:
            assert alive(node, cookie)
            assert node.request("POST", "/count", cookie).status == 200
        eventually(lambda: not alive(node, cookie), "it ends", 10)
        assert time.monotonic() - began >= 1.9


def test_reads_tell_the_store_now_and_then(redis):
    """With an idle time of 30 s every 3 s, not each time."""
    with RedisServer() as own, Node(APP, settings={
            "session.url": own.url, "session.idle": "30s"}) as node:
        _, cookie = begin(node)

        def calls(name):
            line = re.search(rf"cmdstat_{name}:calls=(\d+)",
                             own.cli("INFO", "commandstats"))
            return int(line[1]) if line else 0
        written, reads, scripts = calls("hset"), calls("hgetall"), calls("evalsha")
        with node.connect() as client:
            for _ in range(300):
                assert client.request("GET", "/who", cookie).status == 200
        assert calls("hgetall") == reads + 300
        assert calls("evalsha") + calls("eval") <= scripts + 3
        before = calls("evalsha") + calls("eval")
        eventually(lambda: alive(node, cookie) and
                   calls("evalsha") + calls("eval") > before, "a touch")
        assert calls("hset") <= written + 1


def test_other_secrets_and_a_reload_end_none(redis):
    secret = "one secret of 16 bytes"
    with Node({"app.lua": APP, "config.lua": (
            f'return {{ secrets = {{ new = "{secret}" }} }}')},
            settings={"session.url": redis.url}) as node:
        _, cookie = begin(node)
        node.rewrite({"config.lua": (
            'return { secrets = { new = "another secret of 16", '
            f'old = "{secret}" }} }}')})
        done = node.command("reload")
        assert done.returncode == 0, done.stderr
        assert alive(node, cookie)


@pytest.mark.parametrize("settings, headers, want", [
    ({}, {}, "id={}; Path=/; HttpOnly; SameSite=Lax"),
    ({"name": "sid"}, {}, "sid={}; Path=/; HttpOnly; SameSite=Lax"),
    ({"same_site": "strict"}, {}, "id={}; Path=/; HttpOnly; SameSite=Strict"),
    ({"secure": "on"}, {}, "id={}; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ({"secure": "on", "same_site": "none"}, {},
     "id={}; Path=/; Secure; HttpOnly; SameSite=None"),
    ({"domain": "shop.test"}, {},
     "id={}; Path=/; Domain=shop.test; HttpOnly; SameSite=Lax"),
])
def test_its_cookie(settings, headers, want):
    settings = {f"session.cookie.{k}": v for k, v in settings.items()}
    with Node(APP, settings={"session.url": "memory:", **settings}) as node:
        line, cookie = begin(node, headers)
        parts = lambda text: set(text.split("; "))
        value = line.split(";")[0].partition("=")[2]
        assert parts(line) == parts(want.format(value))
        assert alive(node, cookie)
