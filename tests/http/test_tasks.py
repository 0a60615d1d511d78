"""Time and tasks: sleep, all, spawn, every, coroutines of the application."""

import pytest

from support.client import Client, build
from support.node import eventually

APP = r'''
local log = {}
app:get("/sleep", function() moonshine.sleep(0.02) return "slept" end)
app:get("/zero", function() moonshine.sleep(0) return "yielded" end)
app:get("/text", function() moonshine.sleep("5ms") return "slept" end)
app:get("/all", function()
    local t = moonshine.clock()
    local a, b, c = moonshine.all(
        function() moonshine.sleep(0.3) return 1 end,
        function() moonshine.sleep(0.3) return 2 end,
        function() return 3 end)
    return { a, b, c, moonshine.clock() - t < 0.59 }
end)
app:get("/spawn", function()
    local handle = moonshine.spawn(function(a, b)
        moonshine.sleep(0.01)
        return a + b
    end, 20, 22)
    return tostring(select(2, handle:wait(5)))
end)
app:get("/spawn-fails", function()
    local handle = moonshine.spawn(function() error("in the task") end)
    local value, message = handle:wait(5)
    return tostring(value) .. " " .. tostring(message)
end)
app:get("/spawn-spins", function()
    moonshine.spawn(function() while true do end end)
    return "spawned"
end)
app:get("/wrap", function()
    local next_value = coroutine.wrap(function()
        moonshine.sleep(0.01)
        coroutine.yield("one")
        moonshine.sleep(0.01)
        return "two"
    end)
    return next_value() .. " " .. next_value()
end)
app:get("/nested", function()
    local co = coroutine.create(function()
        local inner = coroutine.wrap(function()
            moonshine.sleep(0.01)
            coroutine.yield("deep")
        end)
        coroutine.yield(inner())
    end)
    local ok, value = coroutine.resume(co)
    return tostring(ok) .. " " .. value .. " " .. coroutine.status(co)
end)
app:get("/gsub", function()
    return (("a"):gsub("a", function() moonshine.sleep(0.01) return "b" end))
end)
local ticks = 0
moonshine.every("20ms", function()
    ticks = ticks + 1
    if ticks == 3 then error("third tick") end
end, { name = "ticker", scope = "worker" })
app:get("/ticks", function() return tostring(ticks) end)
app:get("/pcall-sleep", function()
    local ok = pcall(function() moonshine.sleep(0.01) end)
    return tostring(ok)
end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


@pytest.mark.parametrize("target, text", [
    ("/sleep", "slept"), ("/zero", "yielded"), ("/text", "slept"),
    ("/spawn", "42"), ("/wrap", "one two"),
    ("/nested", "true deep suspended"), ("/pcall-sleep", "true"),
])
def test_yields(node, target, text):
    with Client(node.address) as client:
        for _ in range(3):
            response = client.get(target)
            assert (response.status, response.text) == (200, text)


def test_all_runs_in_parallel(node):
    assert node.get("/all").json() == [1, 2, 3, True]


def test_spawned_failure_is_a_value(node):
    assert node.get("/spawn-fails").text.startswith("nil ")
    node.wait_log("in the task")


def test_spawned_loop_is_stopped(node):
    assert node.get("/spawn-spins").text == "spawned"
    assert node.get("/sleep").text == "slept"
    node.wait_log("cpu limit")


def test_yield_inside_gsub_is_explained(node):
    assert node.get("/gsub").status == 500
    node.wait_log("(?i)gsub|C-call boundary")


def test_every(node):
    """It goes on after a failure, which is logged."""
    eventually(lambda: int(node.get("/ticks").text) > 6, "seven ticks")
    assert "third tick" in node.log()


def test_many_sleep_at_once(node):
    clients = [node.connect() for _ in range(200)]
    for client in clients:
        client.send(build("GET", "/sleep"))
    for client in clients:
        assert client.read_response().text == "slept"
        client.close()


def test_clients_that_leave_while_it_sleeps(node):
    for _ in range(50):
        client = node.connect()
        client.send(build("GET", "/sleep"))
        client.close()
    assert node.get("/sleep").text == "slept"


def test_no_yield_while_loading(start, tmp_path):
    from support.node import command, write_app
    done = command("check", write_app(tmp_path, "moonshine.sleep(1)"))
    assert done.returncode == 1
    assert "on_start" in done.stderr
