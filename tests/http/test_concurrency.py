"""Limits of concurrency: how many requests run at once, on all workers, and
that each one gives its place back however it ends."""

import contextlib
import os
import signal

import pytest

from support.client import Client, Closed
from support.node import command, eventually, write_app

APP = r'''
local limit = moonshine.limit
local gate = moonshine.shared("gate")
local busy = limit.concurrency { name = "busy", max = 3, key = "all" }
local function wait_for_gate()
    gate:incr("inside", 1, 0)
    while not gate:get("open") do moonshine.sleep("5ms") end
    return "passed"
end
app:get("/inside", function() return tostring(gate:get("inside") or 0) end)
app:get("/open", function() gate:set("open", true) return "" end)
app:get("/shut", function() gate:delete("open") gate:set("inside", 0) return "" end)
app:get("/left", function()
    local _, left = busy:peek("*")
    return tostring(left)
end)
app:get("/wait", busy, wait_for_gate)
app:post("/wait", busy, wait_for_gate)
app:get("/error", busy, function() error("broken") end)
app:get("/timeout", busy, function() moonshine.sleep("1h") end, { timeout = "100ms" })
app:get("/loop", busy, function() while true do end end)
app:get("/fine", busy, function() return "fine" end)
app:post("/small", busy, function() return "fine" end, { body_limit = 10 })
app:get("/stream", busy, function(c)
    c:stream(function(write)
        write("begun\n")
        gate:incr("inside", 1, 0)
        while not gate:get("open") do
            if not write(".") then return end
            moonshine.sleep("5ms")
        end
    end)
end)
app:get("/behind", function(c, proceed) return proceed(c) end, busy, wait_for_gate)
app:get("/function", limit.concurrency { max = 1,
    key = function(c) return c:query("k") end }, wait_for_gate)
app:get("/in-handler", function()
    if not busy:take("*") then return "full" end
    return wait_for_gate()
end)
app:get("/outside", function()
    local ok, why = moonshine.spawn(function() busy:take("*") end):wait()
    return tostring(why)
end)
app:get("/short", limit.concurrency { name = "short", max = 1, lease = "200ms" }, wait_for_gate)
app:get("/dry", limit.concurrency { name = "dry", max = 1, dry_run = true }, wait_for_gate)
app:get("/status", limit.concurrency { name = "status", max = 1, status = 503 }, wait_for_gate)
app:get("/two", limit.concurrency { name = "wide", max = 100, key = "all" },
    limit.concurrency { name = "one", max = 1, key = "all" }, wait_for_gate)
'''
FILES = {"app.lua": APP, "config.lua": 'return { shared = { gate = "64k" } }'}


@pytest.fixture
def node(start):
    return start(FILES)


def begin(client, target, method="GET", rest=""):
    client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{rest}\r\n"
                .encode())


def inside(node, count):
    eventually(lambda: node.get("/inside").text == str(count),
               f"{count} are inside")


def left(node):
    """How many more may run; None from a worker that is being killed."""
    try:
        return node.get("/left").text
    except (Closed, OSError):
        return None


def all_free(node, most=3):
    eventually(lambda: left(node) == str(most), "all are free")


@contextlib.contextmanager
def held(node, target, count):
    """So many requests that run until the block is left; they then pass."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(node.address))
                   for _ in range(count)]
        for client in clients:
            begin(client, target)
        inside(node, count)
        yield clients
        node.get("/open")
        for client in clients:
            assert client.read_response().status == 200


def test_as_many_as_may_be_and_no_more(start):
    node = start(FILES, workers=3)
    with held(node, "/wait", 3) as clients:
        for _ in range(6):
            answer = node.get("/wait")
            assert answer.status == 429
            assert answer.header("Retry-After") == "1"
            assert answer.header("RateLimit") == '"busy";r=0'
            assert answer.header("RateLimit-Policy") == \
                '"busy";q=3;qu="concurrent-requests"'
        assert node.get("/inside").text == "3"  # none of them came in
    assert clients
    all_free(node)
    answer = node.get("/wait")  # the gate is open now
    assert answer.status == 200
    assert answer.header("RateLimit") == '"busy";r=2'


@pytest.mark.parametrize("target, status", [
    ("/error", 500), ("/timeout", 503), ("/loop", 503), ("/fine", 200)])
def test_a_place_comes_back_however_it_ends(start, target, status):
    node = start(FILES, settings={"cpu_limit": "50ms"})
    for _ in range(4):
        assert node.get(target).status == status
    all_free(node)


def test_a_client_that_leaves_frees_its_place(node):
    with Client(node.address) as client:
        begin(client, "/wait")
        inside(node, 1)
        assert node.get("/left").text == "2"
    all_free(node)


def test_a_stream_holds_its_place_until_its_end(node):
    for leaves in (False, True):
        node.get("/shut")
        with Client(node.address) as client:
            begin(client, "/stream")
            inside(node, 1)
            assert node.get("/left").text == "2"
            if not leaves:
                node.get("/open")
                assert client.read_response().status == 200
        all_free(node)


def test_requests_that_never_run_free_their_place(node):
    """Refused for their body, or gone while it arrives."""
    with Client(node.address) as client:
        assert client.request("POST", "/small", None, b"x" * 11).status == 413
    with Client(node.address) as client:
        begin(client, "/wait", "POST", "Content-Length: 10\r\n")
        eventually(lambda: node.get("/left").text == "2", "it is counted")
    all_free(node)


def test_behind_lua_and_by_function(node):
    with held(node, "/behind", 3):
        assert node.get("/behind").status == 429
        assert node.get("/wait").status == 429  # one object, one limit
    all_free(node)
    node.get("/shut")
    with held(node, "/function?k=a", 1):
        assert node.get("/function?k=a").status == 429


def test_from_a_handler(node):
    with held(node, "/in-handler", 3):
        assert node.get("/in-handler").text == "full"
    all_free(node)
    assert "only in a request" in node.get("/outside").text


def test_a_lease_bounds_how_long_one_counts(node):
    with Client(node.address) as client:
        begin(client, "/short")
        inside(node, 1)

        def another():
            with Client(node.address, timeout=0.5) as other:
                begin(other, "/short")
                try:
                    return other.read_response().status == 429
                except TimeoutError:
                    return False  # it came in

        eventually(lambda: not another(), "its lease is over")
        node.get("/open")
        assert client.read_response().status == 200


def test_dry_run_and_status(node):
    with held(node, "/dry", 2):
        node.wait_log('limit "dry" would refuse')
    node.get("/shut")
    with held(node, "/status", 1):
        assert node.get("/status").status == 503


def test_several_are_taken_together(node):
    with held(node, "/two", 1):
        for _ in range(3):
            answer = node.get("/two")
            assert answer.status == 429
            assert answer.header("RateLimit") == '"one";r=0'
    # What was refused took nothing of the wide one either.
    answer = node.get("/two")
    assert answer.header("RateLimit") == '"one";r=0'
    assert answer.status == 200


def test_a_reload_keeps_what_is_held(node):
    with held(node, "/wait", 2):
        node.rewrite({"app.lua": APP.replace("max = 3", "max = 4")})
        assert node.command("reload").returncode == 0
        assert node.get("/left").text == "2"
    all_free(node, 4)


def test_a_killed_worker_gives_back_what_it_held(start):
    node = start(FILES, workers=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(node.address))
                   for _ in range(3)]
        for client in clients:
            begin(client, "/wait")
        inside(node, 3)
        assert node.get("/left").text == "0"
        for pid in node.children():
            os.kill(pid, signal.SIGKILL)
        all_free(node)


def test_one_killed_worker_of_several(start):
    """Only what it held comes back: the others' places stay taken."""
    node = start(FILES, workers=2)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(node.address, timeout=0.5))
                   for _ in range(3)]
        for client in clients:
            begin(client, "/wait")
        inside(node, 3)
        victim = node.children()[0]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in node.children(), "it is gone")
        lost = sum(client.closed() for client in clients)
        eventually(lambda: left(node) == str(lost), f"{lost} came back")


def test_a_hang_that_is_killed(start):
    node = start({"app.lua": r'''
local busy = moonshine.limit.concurrency { max = 1, key = "all", name = "busy" }
app:get("/seen", function() return tostring(moonshine.shared("gate"):get("seen")) end)
app:get("/hang", busy, function()
    local _, left = busy:peek("*")
    moonshine.shared("gate"):set("seen", left)
    require("ffi").cdef "unsigned sleep(unsigned)"
    require("ffi").C.sleep(1000)
end)
app:get("/left", function() local _, left = busy:peek("*") return tostring(left) end)
''', "config.lua": FILES["config.lua"]}, settings={"hang_timeout": "300ms"},
                 workers=2)
    with Client(node.address) as client:
        begin(client, "/hang")
        node.wait_log("killed")
        all_free(node, 1)
        assert node.get("/seen").text == "0"  # it was held


@pytest.mark.parametrize("source, words", [
    ("limit.concurrency { rate = 1 }", "no option 'rate'"),
    ("limit.concurrency { max = 0 }", "max must be a whole number from 1"),
    ("limit.concurrency { max = 1, lease = 0 }", "lease must be more than 0"),
    ("limit.concurrency { max = 1, lease = '400d' }", "is out of range"),
    ("limit.concurrency { max = 1, cost = 2 }", "no option 'cost'"),
])
def test_wrong_use_does_not_load(tmp_path, source, words):
    done = command("check", write_app(tmp_path, (
        "local limit = moonshine.limit\n"
        'app:get("/", %s, function() end)' % source)))
    assert done.returncode == 1
    assert words in done.stderr
