"""Tasks of an application: sleep, all, spawn, every, streams, and their end."""

import re

import pytest

from support.node import eventually

TASKS = r"""
local log = {}
app:get("/sleep", function() moonshine.sleep("20ms") return "slept" end)
app:get("/long", function() moonshine.sleep("30s") end)
app:get("/bad-sleep", function() moonshine.sleep("20 minutes") end)
app:get("/all", function(c)
    local a, b, none, d = moonshine.all(
        function() moonshine.sleep(0.05) return "a" end, function() return c:path() end,
        function() end, function() moonshine.sleep(0) return { 1 } end)
    return { a, b, none == nil, d }
end)
app:get("/all-error", function()
    moonshine.all(function() moonshine.sleep(30) end, function() error("part failed") end)
end)
app:get("/all-fail", function(c)
    moonshine.all(function() moonshine.sleep(30) end, function() c:fail(409, "part") end)
end)
app:get("/spawn", function()
    local task = moonshine.spawn(function(a, b) moonshine.sleep(0.02) return a + b, "two" end, 40, 2)
    local ok, sum, two = task:wait("5s")
    return { ok, sum, two }
end)
app:get("/spawn-late", function()
    local task = moonshine.spawn(function() moonshine.sleep(30) end)
    local ok, message, code = task:wait("20ms")
    task:cancel()
    return { ok == nil, message, code }
end)
app:get("/spawn-error", function()
    local ok, message, code = moonshine.spawn(function() error("task broke") end):wait()
    return { ok == nil, message, code }
end)
app:get("/coroutine", function()
    local co = coroutine.wrap(function(first)
        for i = 1, 3 do
            moonshine.sleep(0.005)
            first = first + coroutine.yield(first + i)
        end
        return "end"
    end)
    return { co(10), co(1), co(1), co(1) }
end)
app:get("/coroutine-error", function()
    local co = coroutine.create(function() moonshine.sleep(0.005) error("in coroutine") end)
    local ok, message = coroutine.resume(co)
    return { ok, message, coroutine.status(co) }
end)
app:get("/gsub", function() return (("abc"):gsub("b", function() moonshine.sleep(0) end)) end)
app:get("/gsub-coroutine", function()
    return (("abc"):gsub("b", function()
        return coroutine.wrap(function() moonshine.sleep(0) return "x" end)()
    end))
end)
app:get("/yield", function() coroutine.yield(1) end)
app:get("/stream", function(c)
    c:set_header("X-Head", "1")
    c:stream(function(write)
        for i = 1, 5 do assert(write("part " .. i .. "\n")) moonshine.sleep("5ms") end
    end)
end)
app:get("/stream-error", function(c)
    c:stream(function(write) write("some") moonshine.sleep("5ms") error("in stream") end)
end)
app:get("/stream-big", function(c)
    c:stream(function(write) for i = 1, 200 do if not write(("x"):rep(50000)) then return end end end)
end)
app:get("/stream-gone", function(c)
    c:defer(function() print("stream over") end)
    c:stream(function(write) while write("tick\n") do moonshine.sleep("5ms") end end)
end)
local ticks, starts = 0, {}
moonshine.every("10ms", function() ticks = ticks + 1 end)
moonshine.every("50ms", function() error("timer broke") end, { name = "breaks" })
app:get("/ticks", function() return { ticks = ticks } end)
app:on_start(function() moonshine.sleep(0.01) starts[#starts + 1] = "one" end)
app:on_start(function() starts[#starts + 1] = "two" end)
app:get("/starts", function() return starts end)
app:on_stop(function() print("stopped here") end)
"""


@pytest.fixture(scope="module")
def tasks(start_shared):
    return start_shared(TASKS)


@pytest.mark.parametrize("path, answer", [
    ("/all", ["a", "/all", True, [1]]),
    ("/spawn", [True, 42, "two"]),
    ("/spawn-late", [True, "timeout", 504]),
    ("/coroutine", [11, 13, 15, "end"]),
    ("/starts", ["one", "two"]),
])
def test_tasks(tasks, path, answer):
    assert tasks.get(path).json() == answer


def test_sleep(tasks):
    assert tasks.get("/sleep").text == "slept"
    assert tasks.get("/bad-sleep").status == 500
    tasks.wait_log(r"app.lua:\d+: moonshine.sleep: the time must be")


def test_status_says_what_a_request_waits_on(tasks):
    with tasks.connect() as client:
        client.send(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: re.search(r"/long.*sleep", tasks.command("status", "--requests").stdout),
                   "status --requests names the sleep")


def test_errors_of_tasks(tasks):
    assert tasks.get("/all-error").status == 500
    tasks.wait_log("request failed: app.lua:.*part failed")
    r = tasks.get("/all-fail")
    assert r.status == 409 and "part" in r.text
    ok, message, code = tasks.get("/spawn-error").json()
    assert ok and "task broke" in message and code == 500
    tasks.wait_log("spawned task failed: app.lua:.*task broke")
    ok, message, status = tasks.get("/coroutine-error").json()
    assert not ok and message.endswith("in coroutine") and status == "dead"


def test_where_nothing_can_wait(tasks):
    for path in ("/gsub", "/gsub-coroutine"):
        assert tasks.get(path).status == 500
        assert tasks.get("/sleep").text == "slept"
    tasks.wait_log(r"moonshine.sleep cannot wait here: a callback of string.gsub")
    assert tasks.get("/yield").status == 500
    tasks.wait_log(r"app.lua:\d+: attempt to yield from outside a coroutine")


def test_streams(tasks):
    r = tasks.get("/stream")
    assert r.text == "".join(f"part {i}\n" for i in range(1, 6)) and r.header("X-Head") == "1"
    assert r.header("Transfer-Encoding") == "chunked"
    with tasks.connect() as client:
        client.send(b"GET /stream-error HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"some" in client.read_rest() and not client.pending.endswith(b"0\r\n\r\n")
    tasks.wait_log("request failed: app.lua:.*in stream")
    assert len(tasks.get("/stream-big").body) == 10_000_000
    with tasks.connect() as client:
        client.send(b"GET /stream-gone HTTP/1.1\r\nHost: x\r\n\r\n")
        client.take_until(b"tick")
    tasks.wait_log("stream over")


def test_timers(tasks):
    eventually(lambda: tasks.get("/ticks").json()["ticks"] >= 3, "the timer runs")
    tasks.wait_log(r"(?s)timer breaks failed.*timer breaks failed")


def test_on_stop(start):
    node = start('app:on_stop(function() moonshine.sleep(0.01) print("stopped here") end)')
    node.process.terminate()
    node.wait_log("stopped here")
    assert node.process.wait(20) == 0


CANCELS = r"""
local function long(c)
    c:defer(function() print("deferred " .. c:method() .. " " .. c:path()) end)
    moonshine.sleep("400ms")
    print("finished " .. c:method() .. " " .. c:path())
    return "x"
end
app:get("/get", long)
app:post("/post", long)
app:post("/cancelled", long, { cancel_on_disconnect = true })
app:get("/all", function(c)
    moonshine.all(function() long(c) end, function() moonshine.sleep(30) end)
end)
app:get("/coroutine", function(c)
    return coroutine.wrap(function() return long(c) end)()
end)
app:get("/pcall", function(c)
    for _ = 1, 3 do pcall(long, c) end
    print("survived")
end)
app:get("/timeout", function(c)
    c:defer(function() print("deferred timeout") end)
    pcall(moonshine.sleep, 30)
    moonshine.sleep(30)
end, { timeout = "50ms" })
app:get("/timeout-all", function(c)
    moonshine.all(function() moonshine.sleep(30) end, function() pcall(moonshine.sleep, 30) end)
end, { timeout = "50ms" })
app:get("/ok", function() return "ok" end)
"""


@pytest.fixture(scope="module")
def cancels(start_shared):
    return start_shared(CANCELS)


@pytest.mark.parametrize("method, path, finishes", [
    ("GET", "/get", False), ("GET", "/all", False), ("GET", "/coroutine", False),
    ("GET", "/pcall", False), ("POST", "/cancelled", False), ("POST", "/post", True),
])
def test_disconnect(cancels, method, path, finishes):
    with cancels.connect() as client:
        length = "Content-Length: 0\r\n" if method == "POST" else ""
        client.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode())
        cancels.get("/ok")  # so that the other has begun
    cancels.wait_log(f"deferred {method} {path}")
    assert (f"finished {method} {path}" in cancels.log()) is finishes
    assert "survived" not in cancels.log()
    assert cancels.get("/ok").text == "ok"


def test_timeouts_cannot_be_swallowed(cancels):
    assert cancels.get("/timeout").status == 503
    cancels.wait_log("deferred timeout")
    assert cancels.get("/timeout-all").status == 503
    assert cancels.get("/ok").text == "ok"
