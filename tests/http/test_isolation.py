"""One bad request hurts only itself: errors, endless loops, memory hogs.

Each hostile route is asked while others are served, and then again, so that
what it left behind would show.
"""

import threading

import pytest

from support.admin import Admin
from support.client import Client
from support.node import eventually

APP = r'''
app:get("/ok", function() return "ok" end)
app:get("/spin/while", function() while true do end end)
app:get("/spin/for", function() for i = 1, 1e18 do end end)
app:get("/spin/generic", function()
    for _ in function() return 1 end do end
end)
app:get("/spin/repeat", function() local i = 0 repeat i = i + 1 until i < 0 end)
app:get("/spin/goto", function() ::top:: goto top end)
app:get("/spin/continue", function()
    local i = 0
    while i >= 0 do
        if i % 2 == 0 then goto continue end
        i = i + 1
        ::continue::
        i = i + 1
    end
end)
app:get("/spin/tail", function()
    local function f(n) return f(n + 1) end
    return f(0)
end)
app:get("/spin/mutual", function()
    local a, b
    function a(n) return b(n + 1) end
    function b(n) return a(n + 1) end
    return a(0)
end)
app:get("/spin/fib", function()
    local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
    return tostring(fib(60))
end)
app:get("/spin/pcall", function()
    while true do pcall(function() while true do end end) end
end)
app:get("/spin/xpcall", function()
    while true do
        xpcall(function() while true do end end,
            function() while true do end end)
    end
end)
app:get("/spin/coroutine", function()
    while true do
        local co = coroutine.wrap(function() while true do end end)
        pcall(co)
    end
end)
app:get("/spin/yielding-coroutine", function()
    local co = coroutine.wrap(function() while true do coroutine.yield() end end)
    while true do co() end
end)
app:get("/spin/load", function()
    local f = assert(load or loadstring)("local i = 0 while true do i = i + 1 end")
    f()
end)
app:get("/spin/loadstring", function()
    assert(loadstring("for i = 1, 1e18 do end"))()
end)
app:get("/spin/module", function() require("spinner").spin() end)
app:get("/spin/jit-off", function()
    local function f() while true do end end
    jit.off(f)
    f()
end)
app:get("/spin/sort", function()
    local t = {}
    for i = 1, 300000 do t[i] = (i * 7919) % 1000003 end
    for _ = 1, 1e6 do table.sort(t, function(a, b) return a < b end) end
end)
app:get("/spin/after-yield", function()
    moonshine.sleep(0.01)
    while true do end
end)
app:get("/spin/limit", function() while true do end end, { cpu_limit = "20ms" })
app:get("/patient", function()
    local t = moonshine.clock()
    local n = 0
    while moonshine.clock() - t < 0.6 do n = n + 1 end
    return "done"
end, { cpu_limit = "5s" })

app:get("/hog/string", function()
    local s = "x"
    while true do s = s .. s end
end)
app:get("/hog/table", function()
    local t = {}
    while true do t[#t + 1] = { 1, 2, 3 } end
end)
app:get("/hog/rep", function() return ("x"):rep(2000000000) end)
app:get("/hog/closures", function()
    local t = {}
    while true do t[#t + 1] = function() return t end end
end)
app:get("/hog/concat", function()
    local t = {}
    for i = 1, 1e9 do t[i] = ("%d"):format(i) end
    return table.concat(t)
end)
app:get("/hog/pcall", function()
    local keep = {}
    while true do
        pcall(function() while true do keep[#keep + 1] = ("x"):rep(1000) .. #keep end end)
    end
end)
app:get("/hog/buffered", function()
    local t = {}
    for i = 1, 40 do t[i] = ("x"):rep(1048576 * 4) end
    return table.concat(t)
end)
app:get("/hog/json", function()
    local t, s = {}, ("x"):rep(1048576)
    for i = 1, 300 do t[i] = s end
    return t
end)
app:get("/hog/all", function()
    moonshine.all(function() moonshine.sleep(10) end, function()
        local s = "x"
        while true do s = s .. s end
    end)
end)
app:get("/spin/all", function()
    moonshine.all(function() moonshine.sleep(10) end, function() while true do end end)
end)
app:get("/headers", function(c)
    for i = 1, 1e9 do c:add_header("X-" .. i, ("x"):rep(1000)) end
end)
app:get("/replaced", function(c)
    for i = 1, 1e9 do c:set_header("X-A", ("x"):rep(1000)) end
end)
app:get("/encode", function()
    local t, s = {}, ("x"):rep(1048576)
    for i = 1, 300 do t[i] = s end
    return tostring(pcall(moonshine.json.encode, t)) .. moonshine.json.encode({ 1 })
end)
app:get("/error", function() error("boom") end)
app:get("/overflow", function()
    local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end })
    return t[1]
end)
app:get("/fast-errors", function() local t; t() end)
app:get("/sleep", function() moonshine.sleep(60) end, { timeout = "200ms" })
app:get("/sleep-pcall", function()
    while true do pcall(moonshine.sleep, 60) end
end, { timeout = "200ms" })
'''
SPINNER = 'return { spin = function() local n = 0 while true do n = n + 1 end end }'
SPINS = [line.split('"')[1] for line in APP.splitlines()
         if line.startswith('app:get("/spin/')]
HOGS = [line.split('"')[1] for line in APP.splitlines()
        if line.startswith('app:get("/hog/')]


@pytest.fixture(scope="module", params=["jit", "interpreter"])
def node(request, start_shared):
    first = "" if request.param == "jit" else "jit.off() "
    return start_shared({"app.lua": first + APP, "spinner.lua": SPINNER},
                        settings={"memory_limit": "128m",
                                  "request_memory": "32m"})


@pytest.mark.parametrize("target", SPINS)
def test_endless_loop_is_stopped(node, target):
    with Client(node.address) as client:
        response = client.get(target)
        assert response.status == 503, response
        assert b"app.lua" not in response.body
        assert client.get("/ok").text == "ok"
    assert len(node.children()) == 1


def test_the_log_names_the_line(node):
    response = node.get("/spin/while")
    line = APP[:APP.index('"/spin/while"')].count("\n") + 1
    node.wait_log(rf"app\.lua:{line}:.*cpu")
    node.wait_log(response.header("X-Request-Id"))


def test_a_route_may_have_more_time(node):
    assert node.get("/patient").text == "done"


@pytest.mark.parametrize("target", HOGS)
def test_memory_hog_is_stopped(node, target):
    with Client(node.address) as client:
        response = client.get(target)
        assert response.status == 503, response
        assert client.get("/ok").text == "ok"
    assert len(node.children()) == 1


def test_hogs_again_and_again(node):
    worker = node.children()
    with Client(node.address) as client:
        for _ in range(5):
            for target in HOGS:
                assert client.get(target).status == 503
                assert client.get("/ok").text == "ok"
    assert node.children() == worker

    def resident():
        with open(f"/proc/{worker[0]}/statm") as statm:
            return int(statm.read().split()[1]) * 4096 < 40 * 2**20

    # What the hogs held (the VM grows to its 128 MiB) goes back to the system
    # but for what fragments keep: 18 MiB were seen. AddressSanitizer keeps
    # freed memory for a while to see who still uses it.
    if not node.sanitized():
        eventually(resident, "memory is given back")


@pytest.mark.parametrize("target", ["/headers", "/replaced"])
def test_headers_have_an_end(node, target):
    with Client(node.address) as client:
        assert client.get(target).status == 500
        assert client.get("/ok").text == "ok"
    node.wait_log("the headers take more than 64 KiB together")


def test_encoded_text_has_an_end(node):
    assert node.get("/encode").text == "false[1]"


def test_errors_again_and_again(node):
    worker = node.children()
    with Client(node.address) as client:
        for _ in range(500):
            assert client.get("/error").status == 500
            assert client.get("/fast-errors").status == 500
        assert client.get("/overflow").status == 500
        assert client.get("/ok").text == "ok"
    assert node.children() == worker


@pytest.mark.parametrize("target", ["/sleep", "/sleep-pcall"])
def test_timeout(node, target):
    with Client(node.address) as client:
        assert client.get(target).status == 503
        assert client.get("/ok").text == "ok"


def test_others_go_on_meanwhile(node):
    """While some spin, requests on other connections are all answered."""
    stop = threading.Event()
    results = []

    def ask():
        with Client(node.address) as client:
            while not stop.is_set():
                results.append(client.get("/ok").status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for target in ("/spin/while", "/error", "/hog/table", "/spin/tail"):
            assert node.get(target).status in (500, 503)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert results and set(results) == {200}


CRASH = r'''
app:get("/pid", function() return tostring(moonshine.worker().id) end)
app:get("/ok", function() return "ok" end)
app:get("/crash", function()
    local ffi = require "ffi"
    ffi.cast("int *", 8)[0] = 1
end)
app:get("/match", function() return tostring(("a"):rep(400):find(".-.-.-b")) end)
app:get("/sleep-c", function()
    local ffi = require "ffi"
    ffi.cdef "unsigned sleep(unsigned);"
    ffi.C.sleep(100)
end)
'''


def survives(node, target, workers):
    """The request is lost, its worker replaced, the others serve on."""
    before = set(node.children())
    assert len(before) == workers
    client = node.connect(60)
    client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert client.read_rest() == b""
    eventually(lambda: len(node.children()) == workers and
               set(node.children()) != before, "a new worker")
    for _ in range(20):
        assert node.get("/ok").text == "ok"


def test_a_full_vm_is_replaced(start):
    """What the application keeps fills it up; the code starts anew."""
    node = start("""
        local kept = {}
        app:get("/keep", function()
            kept[#kept + 1] = ("x"):rep(2^18) .. #kept
            return tostring(#kept)
        end)
        app:get("/ok", function() return "ok" end)""",
        settings={"memory_limit": "32m"})
    worker = node.children()[0]
    answers = []

    def begins_anew():
        answers.append(node.get("/keep"))
        assert answers[-1].status in (200, 503)
        return len(answers) > 1 and answers[-1].text == "1"

    eventually(begins_anew, "it is replaced", 60)
    assert max(int(a.text) for a in answers if a.status == 200) > 60
    node.wait_log(r"the VM of generation 1 is full \(\d+ of \d+ bytes")
    node.wait_log("replaced the VM of generation 1")
    assert node.get("/ok").text == "ok"
    assert node.children() == [worker]
    assert Admin(node).workers()[0]["generation"] == 1


def test_segfault_takes_one_worker(start):
    node = start(CRASH, workers=2, env={"ASAN_OPTIONS": "handle_segv=0"})
    for _ in range(3):
        survives(node, "/crash", 2)


def test_segfault_of_the_only_worker(start):
    node = start(CRASH, workers=1, env={"ASAN_OPTIONS": "handle_segv=0"})
    survives(node, "/crash", 1)


def test_long_c_call_is_killed(start):
    node = start(CRASH, workers=2)
    survives(node, "/match", 2)


def test_blocking_c_call_is_killed(start):
    node = start(CRASH, workers=2, settings={"hang_timeout": "1s"})
    survives(node, "/sleep-c", 2)
