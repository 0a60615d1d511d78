"""Dictionaries and caches that all workers share."""

import os
import signal
import threading

import pytest

from support.node import command, eventually, write_app

APP = r'''
local dict = moonshine.shared("things")
local function result(value, message, code)
    return { value = value, message = message, code = code }
end
app:get("/set", function(c)
    local value = c:query("v")
    if c:query("n") then value = tonumber(c:query("n")) end
    if c:query("b") then value = c:query("b") == "true" end
    return result(dict:set(c:query("k"), value, tonumber(c:query("ttl"))))
end)
app:get("/add", function(c) return result(dict:add(c:query("k"), c:query("v"))) end)
app:get("/get", function(c) return { value = dict:get(c:query("k")) } end)
app:get("/incr", function(c)
    local initial = c:query("i") and tonumber(c:query("i"))
    return result(dict:incr(c:query("k"), tonumber(c:query("by")), initial))
end)
app:get("/delete", function(c) return { dict:delete(c:query("k")) } end)
app:get("/worker", function() return tostring(moonshine.worker().id) end)
app:get("/table", function() dict:set("k", {}) end)

local cache = moonshine.cache("cached", { ttl = "200ms", stale = "10s" })
local strict = moonshine.cache("cached", { ttl = "10s" })
local function slow(key)
    dict:incr("made", 1, 0)
    moonshine.sleep("50ms")
    if dict:get("fail") then error("cannot make it") end
    return { key = key, made = dict:get("made"), list = moonshine.json.array {} }
end
app:get("/cache", function(c) return cache:fetch(c:query("k"), slow) end)
app:get("/strict", function(c) return strict:fetch(c:query("k"), slow) end)
app:get("/nothing", function(c)
    return result(strict:fetch("nothing", function() return nil, "none", 404 end))
end)
app:get("/forget", function(c) return { strict:delete(c:query("k")) } end)
'''
SETTINGS = {"shared": "things=1m,cached=1m"}


@pytest.fixture
def node(start):
    return start(APP, workers=3, settings=SETTINGS)


def test_values_of_all_workers(node):
    assert node.get("/get?k=a").json() == {}
    assert node.get("/set?k=a&v=text").json() == {"value": True}
    seen = set()

    def asked_all():
        with node.connect() as client:
            seen.add(client.get("/worker").text)
            assert client.get("/get?k=a").json() == {"value": "text"}
        return len(seen) == 3

    eventually(asked_all, "every worker was asked")
    node.get("/set?k=a&n=1.5")
    assert node.get("/get?k=a").json() == {"value": 1.5}
    node.get("/set?k=a&b=false")
    assert node.get("/get?k=a").json() == {"value": False}
    assert node.get("/add?k=a&v=x").json() == {
        "message": "exists", "code": 409}
    assert node.get("/delete?k=a").json() == [True]
    assert node.get("/delete?k=a").json() == [False]
    assert node.get("/add?k=a&v=x").json() == {"value": True}
    node.get("/set?k=a")  # nil removes
    assert node.get("/get?k=a").json() == {}


def test_counting(node):
    assert node.get("/incr?k=n").json() == {
        "message": "not found", "code": 404}
    assert node.get("/incr?k=n&i=10").json() == {"value": 11}
    assert node.get("/incr?k=n&by=-2.5").json() == {"value": 8.5}
    node.get("/set?k=s&v=x")
    assert node.get("/incr?k=s&i=1").json() == {
        "message": "not a number", "code": 400}

    def many():
        with node.connect() as client:
            for _ in range(100):
                client.get("/incr?k=total&i=0")

    threads = [threading.Thread(target=many) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert node.get("/get?k=total").json() == {"value": 600}


def test_times_to_live(node):
    node.get("/set?k=a&v=x&ttl=0.05")
    eventually(lambda: node.get("/get?k=a").json() == {}, "it is gone")


def test_bounds(node):
    assert node.get("/set?k=a&v=" + "x" * 7000).json() == {"value": True}
    # An eighth of a part's ring at most: 1 MiB in 16 parts.
    assert node.get("/set?k=a&v=" + "x" * 7900).json() == {
        "message": "too large for this dictionary", "code": 413}
    assert node.get("/table").status == 500
    node.wait_log("must be a string, a number or a boolean, not a table "
                  r"\(moonshine.json.encode")


def test_it_survives_reloads_and_deaths(node):
    node.get("/set?k=a&v=kept")
    node.rewrite(APP + "-- changed")
    assert node.command("reload").returncode == 0
    assert node.get("/get?k=a").json() == {"value": "kept"}
    for pid in node.children():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(node.children()) == 3, "they are back")
    node.wait_ready()
    assert node.get("/get?k=a").json() == {"value": "kept"}


def test_an_undeclared_dictionary_does_not_load(tmp_path):
    done = command("check", write_app(
        tmp_path, '\nlocal d = moonshine.shared("thing")'),
        "--set", "shared=things=1m")
    assert done.returncode == 1
    assert "app.lua:2: moonshine.shared: there is no 'thing', did you mean " \
        "'things'? Or declare it in config.lua: shared = { thing = \"1m\" }" \
        in done.stderr


def test_new_dictionaries_come_with_a_reload(start):
    node = start({"app.lua": 'app:get("/", function() return "old" end)',
                  "config.lua": 'shared = { a = "1m" }'})
    node.rewrite({
        "app.lua": 'local d = moonshine.shared("b") d:set("k", "new")\n'
                   'app:get("/", function() return d:get("k") end)',
        "config.lua": 'shared = { a = "1m", b = "128k" }'})
    assert node.command("reload").returncode == 0
    assert node.get("/").text == "new"


# Locks

def test_locks(start):
    node = start(r'''
local function result(ok, ...) return { ok = ok, rest = { ... } } end
app:get("/hold", function(c)
    return result(moonshine.lock("l", "10s", function() moonshine.sleep("100ms") return 1, 2 end))
end)
app:get("/try", function(c) return result(moonshine.lock("l", "10s", function() return 3 end)) end)
app:get("/wait", function(c)
    return result(moonshine.lock("l", "10s", function() return 3 end, { wait = "10s" }))
end)
app:get("/fail", function(c) moonshine.lock("l", "10s", function() error("inside") end) end)
app:get("/long", function(c)
    return result(moonshine.lock("l", "20ms", function() moonshine.sleep("50ms") end))
end)
''', workers=2)
    assert node.get("/try").json() == {"ok": True, "rest": [3]}
    with node.connect() as holder:
        holder.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: node.get("/try").json() == {
            "rest": ["locked", 409]}, "it is held")
        assert node.get("/wait").json() == {"ok": True, "rest": [3]}
        assert holder.read_response().json() == {"ok": True, "rest": [1, 2]}
    assert node.get("/fail").status == 500
    assert node.get("/try").json()["ok"] is True
    assert node.get("/long").json() == {"ok": True, "rest": {}}
    node.wait_log("lock 'l' was held for longer than its time to live")


# Caches

def ask(node, target, count):
    answers = []
    threads = [threading.Thread(
        target=lambda: answers.append(node.get(target))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_many_who_ask_are_served_by_one(node):
    answers = ask(node, "/strict?k=a", 30)
    assert all(a.json() == {"key": "a", "made": 1, "list": []}
               for a in answers)
    assert node.get("/get?k=made").json() == {"value": 1}
    assert node.get("/forget?k=a").json() == [True]
    assert node.get("/strict?k=a").json()["made"] == 2


def test_a_stale_value_is_served_while_one_makes_a_new_one(node):
    assert node.get("/cache?k=a").json()["made"] == 1

    def aged():
        answers = [a.json()["made"] for a in ask(node, "/cache?k=a", 10)]
        return 2 in answers and answers

    answers = eventually(aged, "it was made again")
    assert answers.count(2) >= 1 and set(answers) <= {1, 2}


def test_a_failure_serves_the_stale_value(node):
    assert node.get("/cache?k=a").json()["made"] == 1
    node.get("/set?k=fail&v=yes")
    eventually(lambda: "is served stale" in node.log() or
               node.get("/cache?k=a").status != 200, "it is stale")
    assert node.get("/cache?k=a").json()["made"] == 1
    assert node.get("/cache?k=b").status == 500
    node.wait_log("cannot make it")
    assert node.get("/nothing").json() == {"message": "none", "code": 404}


def test_a_maker_that_dies_does_not_block_the_key(node):
    node.get("/set?k=fail&v=yes")
    assert [a.status for a in ask(node, "/strict?k=a", 5)] == [500] * 5
    node.get("/delete?k=fail")
    assert node.get("/strict?k=a").status == 200
