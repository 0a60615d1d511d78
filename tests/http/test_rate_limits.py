"""Rate limits of a node: in front of Lua and inside it, over all workers."""

import os
import re
import signal
import threading
import time

import pytest

from support.client import Client
from support.node import command, eventually, write_app

APP = r'''
local limit = moonshine.limit
local entered = {}
local function handler(c)
    entered[c:path()] = (entered[c:path()] or 0) + 1
    return "passed"
end
app:get("/entered", function(c) return tostring(entered[c:query("of")] or 0) end)
app:get("/token", limit.token_bucket { rate = 1, per = "1h", burst = 3 }, handler)
app:get("/header", limit.sliding_window { rate = 2, per = "1h", key = "header:X-Key" }, handler)
app:get("/function", limit.token_bucket { rate = 1, per = "1h", burst = 1,
    key = function(c) return c:query("k") end }, handler)
app:get("/both", limit.token_bucket { rate = 1, per = "1h", burst = 100, name = "wide" },
    limit.token_bucket { rate = 1, per = "1h", burst = 2, name = "tight" }, handler)
local shared = limit.token_bucket { rate = 1, per = "1h", burst = 2, name = "shared" }
app:get("/shared/a", shared, shared, handler)
app:get("/shared/b", shared, handler)
app:get("/behind", function(c, proceed)
    if c:query("stop") then return "stopped" end
    return proceed(c)
end, limit.token_bucket { rate = 1, per = "1h", burst = 1, name = "behind" }, handler)
app:get("/leaky", limit.leaky_bucket { rate = 10, burst = 2, key = "all" }, handler)
app:get("/leaky-slow", limit.leaky_bucket { rate = 1, per = "1h", burst = 2, key = "all" },
    handler)
app:get("/dry", limit.token_bucket { rate = 1, per = "1h", burst = 1, dry_run = true,
    name = "dry" }, handler)
app:get("/status", limit.token_bucket { rate = 1, per = "1h", burst = 1, status = 503 }, handler)
app:get("/costly", limit.token_bucket { rate = 1, per = "1h", burst = 5, cost = 3 }, handler)
app:post("/body", limit.token_bucket { rate = 1, per = "1h", burst = 1 }, handler)
local own = limit.token_bucket { rate = 1, per = "1h", burst = 2, name = "own" }
app:get("/take", function(c)
    local ok, left, seconds = own:take(c:query("k"), tonumber(c:query("cost")))
    return { ok, left, seconds > 0 }
end)
app:get("/peek", function(c) local ok, left = own:peek(c:query("k")) return { ok, left } end)
app:get("/reset", function(c) own:reset(c:query("k")) return "done" end)
app:group("/group", limit.token_bucket { rate = 1, per = "1h", burst = 2, key = "route" },
    function(g)
        g:get("/a", handler)
        g:get("/b", handler)
    end)
'''


@pytest.fixture
def node(start):
    return start(APP)


def statuses(node, target, count, headers=None):
    with Client(node.address) as client:
        return [client.get(target, headers).status for _ in range(count)]


def test_a_burst_passes_and_no_more(node):
    assert statuses(node, "/token", 5) == [200] * 3 + [429] * 2
    assert node.get("/entered?of=/token").text == "3"  # not even Lua


def test_what_the_answers_say(node):
    answer = node.get("/token")
    assert answer.header("RateLimit") == \
        '"GET /token token_bucket 1";r=2;t=3600'
    assert answer.header("RateLimit-Policy") == \
        '"GET /token token_bucket 1";q=1;w=3600'
    assert answer.header("Retry-After") is None
    statuses(node, "/token", 2)
    answer = node.get("/token")
    assert answer.status == 429
    assert answer.header("Content-Type") == "application/problem+json"
    left = int(answer.header("Retry-After"))
    assert 3590 <= left <= 3600
    assert answer.header("RateLimit") == \
        f'"GET /token token_bucket 1";r=0;t={left}'


def test_keys(node):
    assert statuses(node, "/header", 3, {"X-Key": "a"}) == [200, 200, 429]
    assert statuses(node, "/header", 3, {"X-Key": "b"}) == [200, 200, 429]
    assert statuses(node, "/header", 3) == [200, 200, 429]  # by address
    assert statuses(node, "/function?k=a", 2) == [200, 429]
    assert statuses(node, "/function?k=b", 2) == [200, 429]
    assert statuses(node, "/function", 5) == [200] * 5  # nil: not limited
    assert statuses(node, "/group/a", 3) == [200, 200, 429]
    assert statuses(node, "/group/b", 3) == [200, 200, 429]


def test_several_limits_report_the_tightest(node):
    with Client(node.address) as client:
        assert client.get("/both").header("RateLimit").startswith('"tight";r=1')
        assert client.get("/both").status == 200
        for _ in range(5):
            assert client.get("/both").header("RateLimit").startswith(
                '"tight";r=0')
    # One object is one set of buckets, and counts a request once.
    assert statuses(node, "/shared/a", 1) == [200]
    assert statuses(node, "/shared/b", 2) == [200, 429]


def test_behind_lua(node):
    assert statuses(node, "/behind?stop=1", 3) == [200] * 3
    assert statuses(node, "/behind", 2) == [200, 429]
    assert node.get("/entered?of=/behind").text == "1"


def test_a_leaky_bucket_delays(node):
    """Three at once: one passes, two wait for their turns."""
    begun, answers = time.monotonic(), []

    def ask():
        answer = node.get("/leaky")
        answers.append((time.monotonic() - begun, answer.status))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for _, status in answers] == [200] * 3
    passed = sorted(when for when, _ in answers)
    assert passed[1] >= 0.1 and passed[2] >= 0.2


def test_a_full_leaky_bucket_refuses(node):
    """Nothing leaks out within this test, however slow the machine is."""
    assert statuses(node, "/leaky-slow", 1) == [200]
    with Client(node.address) as second, Client(node.address) as third:
        for client in (second, third):
            client.send(b"GET /leaky-slow HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: node.get("/leaky-slow").status == 429, "it is full")
        assert statuses(node, "/leaky-slow", 2) == [429] * 2


def test_a_client_that_leaves_while_delayed(node):
    node.get("/leaky")
    with Client(node.address) as client:
        client.send(b"GET /leaky HTTP/1.1\r\nHost: x\r\n\r\n")
    assert node.get("/entered?of=/leaky").text == "1"


def test_dry_run_only_tells(node):
    assert statuses(node, "/dry", 3) == [200] * 3
    node.wait_log('limit "dry" would refuse')


def test_status_cost_and_bodies(node):
    assert statuses(node, "/status", 2) == [200, 503]
    assert statuses(node, "/costly", 2) == [200, 429]
    with Client(node.address) as client:
        assert client.request("POST", "/body", None, b"x").status == 200
    with Client(node.address) as client:
        # Refused before the body is there.
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: 1000000\r\n\r\n")
        assert client.read_response().status == 429


def test_from_a_handler(node):
    def ask(what):
        return node.get(what).json()

    assert ask("/take?k=a") == [True, 1, False]
    assert ask("/peek?k=a") == [True, 1]
    assert ask("/take?k=a") == [True, 0, False]
    assert ask("/take?k=a") == [False, 0, True]
    assert ask("/take?k=b&cost=2") == [True, 0, False]
    assert ask("/take?k=c&cost=3")[0] is False
    assert node.get("/reset?k=a").text == "done"
    assert ask("/take?k=a") == [True, 1, False]


def test_the_app_shapes_the_refusal(start):
    node = start(r'''
local limit = moonshine.limit
app:on(429, function(c, err)
    return { kind = err.kind, wait = c:response_header("Retry-After") }, 429
end)
app:get("/native", limit.token_bucket { rate = 1, per = "1h", burst = 1 }, function() end)
app:get("/lua", function(c, proceed) return proceed(c) end,
    limit.token_bucket { rate = 1, per = "1h", burst = 1 }, function() end)
''')
    for target in ("/native", "/lua"):
        node.get(target)
        answer = node.get(target)
        assert answer.status == 429
        assert answer.json()["kind"] == "limit"
        assert 3590 <= int(answer.json()["wait"]) <= 3600


def test_limits_hold_over_workers_reloads_and_deaths(start):
    node = start(APP, workers=3)
    assert statuses(node, "/token", 2) == [200, 200]
    node.rewrite(APP + "\n-- changed")
    assert node.command("reload").returncode == 0
    for pid in node.children():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(node.children()) == 3, "the workers are back")
    node.wait_ready()
    seen = [node.get("/token").status for _ in range(6)]
    assert seen == [200] + [429] * 5


def test_a_changed_rate_keeps_the_state(start):
    app = '''
app:get("/", moonshine.limit.token_bucket { rate = 1, per = "1h", burst = %d, name = "n" },
    function() return "" end)'''
    node = start(app % 5)
    assert statuses(node, "/", 3) == [200] * 3
    node.rewrite(app % 4)
    assert node.command("reload").returncode == 0
    assert statuses(node, "/", 2) == [200, 429]


@pytest.mark.parametrize("source, words", [
    ("limit.token_bucket { rat = 1 }", "no option 'rat', did you mean 'rate'"),
    ("limit.token_bucket { rate = 0 }", "rate must be a whole number from 1"),
    ("limit.token_bucket { rate = 1, per = 0 }", "per must be more than 0"),
    ("limit.token_bucket { rate = 1, key = 'cookie' }", 'key must be "ip"'),
    ("limit.sliding_window { rate = 1, burst = 2 }", "takes no burst"),
    ("limit.token_bucket { rate = 1, per = '300d', burst = 9 }",
     "is out of range"),
    ("limit.token_bucket { rate = 1, name = 'x' }, "
     "limit.token_bucket { rate = 1, name = 'x' }", "name 'x' is taken"),
    ("limit.token_buckt {}", "limit has no 'token_buckt'"),
])
def test_wrong_use_does_not_load(tmp_path, source, words):
    done = command("check", write_app(tmp_path, (
        "local limit = moonshine.limit\n"
        'app:get("/", %s, function() end)' % source)))
    assert done.returncode == 1
    assert re.search(r"app\.lua:[12]: ", done.stderr), done.stderr
    assert words in done.stderr


def test_by_session(start):
    node = start("""
        app:use(moonshine.limit.token_bucket {
            rate = 1, per = "1h", burst = 2, key = "session", name = "mine" })
        app:post("/login", function(c)
            c:session():set("user", "ann")
            return "in"
        end)
        app:get("/", function() return "ok" end)""")
    cookies = []
    for i in range(2):  # without a session: by address
        answer = node.request("POST", "/login", None, b"")
        assert answer.status == 200, i
        cookies.append(answer.header("Set-Cookie").split(";")[0])
    assert node.get("/").status == 429
    # An id that nobody was given counts by address, too.
    assert node.get("/", {"Cookie": "id=" + "A" * 43}).status == 429
    for cookie in cookies:  # each has its own
        assert [node.get("/", {"Cookie": cookie}).status
                for _ in range(3)] == [200, 200, 429]
