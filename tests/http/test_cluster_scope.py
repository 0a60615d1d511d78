"""What three nodes that share a Redis do one at a time: turns of timers, locks."""

import os
import signal

import pytest

from support.node import command, eventually, write_app
from support.servers import RedisServer

TIMER = r"""
local r = moonshine.redis()
moonshine.every("%(every)s", function()
    local me = moonshine.node()
    r:multi(function(m) m:incr("runs"):rpush("who", me):incr("inside") end)
    if tonumber(r:get("inside") or 1) > 1 then r:set("overlap", me) end
    moonshine.sleep("%(takes)s")
    r:decr("inside")
end, { name = "counted", scope = "cluster", now = true })
app:get("/plain", function() return "plain" end)
"""

LOCK = r"""
local r = moonshine.redis()
local function say(...) return moonshine.json.encode({ (...) or false, select(2, ...) }) end
app:get("/count", function()
    return say(moonshine.lock("count", "10s", function(fence)
        local n = tonumber(r:get("n") or 0)
        moonshine.sleep("2ms")
        r:set("n", n + 1)
        r:rpush("fences", fence)
        return fence
    end, { scope = "cluster", wait = "60s" }))
end)
app:get("/hold", function()
    return say(moonshine.lock("held", "2s", function() moonshine.sleep(30) end,
        { scope = "cluster" }))
end)
app:get("/try", function()
    return say(moonshine.lock("held", "2s", function(fence) return fence end,
        { scope = "cluster" }))
end)
app:get("/long", function()
    return say(moonshine.lock("long", "50ms", function() moonshine.sleep("100ms") return 1 end,
        { scope = "cluster" }))
end)
app:get("/fail", function()
    moonshine.lock("held", "20s", function() error("on purpose") end, { scope = "cluster" })
end)
app:get("/slow", function()
    return say(moonshine.lock("held", "20s", function() moonshine.sleep(30) end,
        { scope = "cluster" }))
end, { timeout = "100ms" })
"""


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


@pytest.fixture
def nodes(start, redis):
    """nodes(app): three of them, with two workers each."""
    def run(app, **settings):
        return [start(app, name=f"n{i}", workers=2,
                      settings={"redis.url": redis.url, "redis.timeout": "2s",
                                **settings})
                for i in range(3)]
    return run


def number(redis, key):
    return int(redis.cli("GET", key) or 0)


def time_ms(redis):
    seconds, micros = redis.cli("TIME").split()
    return int(seconds) * 1000 + int(micros) // 1000


# ---- timers ----

def test_a_timer_runs_once_a_period(redis, nodes):
    began = time_ms(redis)
    nodes(TIMER % {"every": "100ms", "takes": "10ms"})
    eventually(lambda: number(redis, "runs") >= 20, "twenty runs", 60)
    runs = number(redis, "runs")
    assert runs <= (time_ms(redis) - began) / 100 + 1
    assert redis.cli("GET", "overlap") == ""


def test_it_goes_on_without_those_that_die(redis, nodes):
    three = nodes(TIMER % {"every": "50ms", "takes": "1ms"})
    eventually(lambda: number(redis, "runs") >= 3, "it runs")
    for node in three[:2]:
        node.kill()
    redis.cli("DEL", "who")
    # A turn that died with its node ends with its lease.
    eventually(lambda: int(redis.cli("LLEN", "who")) >= 3, "it goes on", 60)
    assert set(redis.cli("LRANGE", "who", -3, -1).split()) == {"n2"}


def test_a_run_longer_than_its_interval(redis, nodes):
    nodes(TIMER % {"every": "20ms", "takes": "150ms"})
    eventually(lambda: number(redis, "runs") >= 5, "five runs", 60)
    assert redis.cli("GET", "overlap") == ""


def test_without_redis_it_does_not_run_and_says_so_once(redis, nodes):
    three = nodes(TIMER % {"every": "100ms", "takes": "1ms"})
    eventually(lambda: number(redis, "runs") >= 3, "it runs")
    redis.kill()
    for node in three:
        node.wait_log("timer counted does not run: redis://")
        assert node.get("/plain").text == "plain"
    redis.start().wait_ready()
    eventually(lambda: number(redis, "runs") >= 3, "it runs again", 60)
    for node in three:
        node.wait_log("timer counted runs again")
        assert node.log().count("timer counted does not run") == 1


def test_turns_go_on_over_a_reload(redis, nodes):
    """An hourly timer that ran does not run again, whatever node is new."""
    app = TIMER % {"every": "1h", "takes": "1ms"}
    three = nodes(app)
    eventually(lambda: number(redis, "runs") == 1, "the first run")
    late = app + r"""
        moonshine.every("20ms", function() r:incr("late") end,
            { name = "late", scope = "cluster" })"""
    for node in three:
        node.rewrite(late)
        assert node.command("reload").returncode == 0
    eventually(lambda: number(redis, "late") >= 10, "the new code's timer ran")
    assert number(redis, "runs") == 1


def test_the_lease_is_extended_while_it_runs(redis, nodes):
    """Longer than a lease: nobody else takes the turn."""
    nodes(TIMER % {"every": "1s", "takes": "18s"})
    eventually(lambda: number(redis, "runs") == 1 and
               number(redis, "inside") == 1, "it runs")
    eventually(lambda: number(redis, "runs") == 2, "the next run", 60)
    assert redis.cli("GET", "overlap") == ""


# ---- locks ----

def test_a_lock_holds_for_all_nodes(redis, nodes):
    three = nodes(LOCK)
    clients = [node.connect(timeout=100) for node in three for _ in range(5)]
    for _ in range(4):
        for client in clients:
            client.send(b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in clients:
            assert client.read_response().json()[0] is True
    assert redis.cli("GET", "n") == "60"
    fences = [int(word) for word in redis.cli("LRANGE", "fences", 0, -1).split()]
    assert fences == list(range(1, 61))


def test_a_holder_that_dies_lets_go_after_its_time(redis, nodes):
    first, second, _ = nodes(LOCK)
    client = first.connect()
    client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: redis.cli("KEYS", "moonshine:*:lease"), "it is held")
    assert second.get("/try").json() == [False, "locked", 409]
    for pid in first.children():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: second.get("/try").json()[0] is True, "it is free")
    first.wait_ready()


def test_a_lock_ends_with_its_function(redis, nodes):
    first, second, _ = nodes(LOCK)
    for path, status in (("/fail", 500), ("/slow", 503)):
        assert first.get(path).status == status
        eventually(lambda: second.get("/try").json()[0] is True, "it is free", 5)
    assert first.get("/long").json() == [True, 1]
    first.wait_log("lock 'long' was held for longer than its time to live")


def test_a_lock_without_redis(redis, nodes):
    first = nodes(LOCK)[0]
    redis.kill()
    ok, message, code = first.get("/try").json()
    assert ok is False and code in (503, 504)
    assert message.startswith(redis.url + ": "), message


# ---- what it needs ----

def test_it_says_what_it_needs(tmp_path, redis):
    every = 'moonshine.every(1, function() end, { scope = "cluster"%s })'
    named = every % ', name = "a"'
    for source, settings, want in (
            (named, [], 'app.lua:1: moonshine.every: scope = "cluster" needs a '
                        "store shared by the nodes: set redis.url or cluster.url"),
            (every % "", [f"redis.url={redis.url}"],
             'app.lua:1: moonshine.every: scope = "cluster" needs a name'),
            ('app:on_start(function() moonshine.lock("a", 1, print, { scope = '
             '"cluster" }) end)', [],
             'moonshine.lock: scope = "cluster" needs a store'),
            ('app:on_start(function() moonshine.lock("a", 1, print, { scope = '
             '"clusters" }) end)', [],
             "moonshine.lock: no scope 'clusters', did you mean 'cluster'?")):
        done = command("check", write_app(tmp_path, source),
                       *[word for s in settings for word in ("--set", s)])
        assert done.returncode == 1 and want in done.stderr, done.stderr
    done = command("check", write_app(tmp_path, named), "--set",
                   f"cluster.url={redis.url}")
    assert done.returncode == 0 and "no use" not in done.stderr, done.stderr


def test_a_test_process_is_a_cluster_of_its_own(tmp_path):
    app = write_app(tmp_path, {
        "app.lua": r"""
            local runs = 0
            moonshine.every("1h", function() runs = runs + 1 end,
                { name = "a", scope = "cluster" })
            app:get("/runs", function() return { runs,
                (moonshine.lock("l", 1, function() end, { scope = "cluster" })) } end)""",
        "spec/a_spec.lua": r"""
            local t = require "moonshine.test"
            it("runs", function()
                t.advance("61m")
                t.same(t.request(require "app", "GET", "/runs"):json(), { 1, true })
            end)""",
    })
    done = command("test", app)
    assert done.returncode == 0, done.stdout + done.stderr
