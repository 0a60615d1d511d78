"""Quarantine: a route that fails the same way again and again is shut off
alone, on all workers, tried now and then, and opened again. The states are
looked at with a clock by tests/unit/state_quarantine.c."""

import os
import re
import select
import signal

import pytest

from support.admin import Admin
from support.client import Client, build
from support.node import command, eventually, write_app

APP = r"""
local function run(c)
    local at = c:query("at", "none")
    if at == "1" then
        error("boom")
    elseif at == "2" then
        error("bang")
    elseif at == "table" then
        error({ no = "text" })
    elseif at == "cpu" then
        while true do end
    elseif at == "memory" then
        local list = {}
        while true do list[#list + 1] = ("x"):rep(100000) .. #list end
    elseif at == "timeout" then
        moonshine.sleep(60)
    elseif at == "400" or at == "503" then
        c:fail(tonumber(at), "wanted")
    elseif at == "418" then
        return "no", 418
    elseif at == "result" then
        return print
    elseif at == "caught" then
        return tostring(pcall(error, "x"))
    elseif at == "stream" then
        return c:stream(function(write)
            write("a piece")
            error("in the middle")
        end)
    end
    return "fine"
end
local limits = { cpu_limit = "20ms", timeout = "1s" }
app:get("/a", run, limits)
app:get("/b", run)
app:post("/a", run, { timeout = "1s" })
app:get("/off", run, { quarantine = false })
app:get("/own", run, { quarantine = { failures = 2 } })
app:get("/wait", function() moonshine.sleep(60) end, { quarantine = { failures = 1 } })
app:get("/who", function() return tostring(moonshine.worker().id) end)
app:group("/shaped", function(shaped)
    shaped:on(503, function(c, err)
        return "on(503): " .. err.kind .. " of " .. err.route, 503
    end)
    shaped:get("/a", run)
end)
app:group("/fixed", function(fixed)
    fixed:on(503, "later\n")
    fixed:get("/a", run)
end)
"""
LONG = {"quarantine.failures": 3, "quarantine.retry": "1d",
        "request_memory": "4m"}
SHORT = {**LONG, "quarantine.retry": "1s"}
SHAPED = APP + """
app:on_error(function(c, err) return { kind = err.kind, message = err.message }, err.status end)
"""


@pytest.fixture
def node(start):
    return start(APP, workers=2, settings=LONG)


@pytest.fixture
def single(start):
    """Where the order counts: workers may tell in another one."""
    return start(APP, settings=LONG)


@pytest.fixture
def quick(start):
    return start(APP, workers=2, settings=SHORT)


def quarantined(node):
    return Admin(node).status()["quarantined"]


def fail(node, target, count, status=500):
    """Fails so often, each on a connection of its own."""
    for _ in range(count):
        assert node.get(target).status == status


def is_shut(node, target):
    """Is it refused without being run? Then with Retry-After."""
    answer = node.get(target)
    retry = answer.header("Retry-After")
    assert (answer.status == 503) == (retry is not None), answer
    return retry is not None


def shut(node, path="/a"):
    """A success that another worker still has to tell may begin it anew."""
    def more():
        node.get(path + "?at=1")
        return f"GET {path}" in {told["route"] for told in quarantined(node)}
    eventually(more, "it is shut off")


def metric(node, name):
    text = Admin(node).ask("GET", "/-/metrics").text
    return float(re.search(rf"^moonshine_{name} (\S+)$", text, re.M).group(1))


def clients_by_worker(node, count=2):
    """A connection to each worker."""
    found = {}

    def more():
        client = node.connect()
        found.setdefault(client.get("/who").text, client)
        return len(found) == count
    eventually(more, "each worker has answered")
    return found


@pytest.mark.parametrize("kind, status", [
    ("1", 500), ("cpu", 503), ("memory", 503), ("timeout", 503),
    ("table", 500)])
def test_shut_off_on_all_workers(node, kind, status):
    clients = clients_by_worker(node)
    fail(node, f"/a?at={kind}", 3, status)
    eventually(lambda: quarantined(node), "it is shut off")
    for client in clients.values():
        for _ in range(3):
            answer = client.get("/a")
            assert answer.status == 503
            assert 86000 < int(answer.header("Retry-After")) <= 86400
            assert "application/problem+json" in answer.header("Content-Type")
            assert "boom" not in answer.text
        # The rest of the application serves, another method of it as well.
        assert client.get("/b").text == "fine"
        assert client.request("POST", "/a").text == "fine"
    name = "error" if kind in ("1", "table") else kind
    told, = quarantined(node)
    assert told["kind"] == name and told["route"] == "GET /a"
    node.wait_log(rf"quarantine: GET /a is shut off: it failed 3 times in a "
                  rf"row \({name}.*\); tried again in 1d")


def test_fewer_do_nothing(single):
    for _ in range(4):
        fail(single, "/a?at=1", 2)
        assert single.get("/a").text == "fine"
    assert quarantined(single) == []


def test_another_place_or_kind_begins_anew(single):
    for _ in range(4):
        fail(single, "/a?at=1", 2)
        fail(single, "/a?at=2", 2)
    fail(single, "/a?at=1", 2)
    fail(single, "/a?at=cpu", 1, 503)
    fail(single, "/a?at=1", 2)
    assert quarantined(single) == []
    fail(single, "/a?at=1", 1)
    told, = eventually(lambda: quarantined(single), "it is shut off")
    assert told["place"] == "app.lua:5" and told["message"] == "boom"
    assert told["failures"] == 3


@pytest.mark.parametrize("how, status", [
    ("400", 400), ("503", 503), ("418", 418), ("result", 500)])
def test_what_does_not_count(single, how, status):
    fail(single, f"/a?at={how}", 6, status)
    assert quarantined(single) == []
    assert single.get("/a?at=caught").status == 200
    # Nor does it say that the route works.
    fail(single, "/a?at=1", 2)
    fail(single, f"/a?at={how}", 2, status)
    fail(single, "/a?at=1", 1)
    eventually(lambda: quarantined(single), "three, whatever was between")


def test_clients_that_leave_do_not_count(single):
    for _ in range(4):
        with Client(single.address) as client:
            client.send(build("GET", "/wait"))
            eventually(lambda: [r for r in Admin(single).requests()
                                if r["route"] == "/wait"], "it waits")
        eventually(lambda: not Admin(single).requests(), "it is gone")
    assert quarantined(single) == []


def test_a_stream_that_breaks_counts(node):
    for _ in range(3):
        with Client(node.address) as client:
            client.send(build("GET", "/a?at=stream"))
            assert b"a piece" in client.read_rest()
    eventually(lambda: quarantined(node), "it is shut off")
    assert is_shut(node, "/a")


def test_options_of_a_route(node):
    fail(node, "/off?at=1", 5)
    fail(node, "/own?at=1", 2)
    eventually(lambda: quarantined(node), "two are enough")
    assert is_shut(node, "/own")
    assert [t["route"] for t in quarantined(node)] == ["GET /own"]


def test_options_without_a_configuration(start):
    node = start("""
    app:get("/own", function() error("boom") end, { quarantine = { failures = 2, retry = "1d" } })
    app:get("/on", function() error("boom") end, { quarantine = true })
    app:get("/none", function() error("boom") end)
    """)
    fail(node, "/none", 25)
    fail(node, "/own", 2)
    assert eventually(lambda: is_shut(node, "/own"), "two are enough")
    fail(node, "/on", 20)  # the default
    assert eventually(lambda: is_shut(node, "/on"), "twenty are enough")
    assert not is_shut(node, "/none")


@pytest.mark.parametrize("option, message", [
    ("1", "quarantine must be true, false or a table"),
    ("{ failure = 2 }", "quarantine has no option 'failure', did you mean "
                        "'failures'?"),
    ("{ failures = 0 }", "quarantine: failures must be a whole number from "
                         "1 to 1000000, not 0"),
    ("{ retry = 'soon' }", "quarantine: retry must be a duration"),
    ("{ retry = '10ms' }", "quarantine: retry must be from 1s to 1d, not "
                           "10ms")])
def test_wrong_options(tmp_path, option, message):
    write_app(tmp_path, 'app:get("/", function() end, { quarantine = '
              + option + " })")
    done = command("check", tmp_path)
    assert done.returncode != 0
    assert f"app.lua:1: {message}" in done.stderr + done.stdout


def test_success_reopens(quick):
    shut(quick)
    # Asked with what works: the first one that gets through opens it.
    eventually(lambda: not is_shut(quick, "/a"), "it is tried")
    eventually(lambda: quarantined(quick) == [], "it is open")
    for client in clients_by_worker(quick).values():
        assert client.get("/a").text == "fine"
    quick.wait_log(r"quarantine: GET /a is tried by request \w+")
    quick.wait_log(r"quarantine: GET /a answers again, after \d+s")
    # From the beginning.
    fail(quick, "/a?at=1", 2)
    assert quick.get("/a").text == "fine"


def test_each_failed_probe_doubles_the_wait(quick):
    shut(quick)
    for wait in ("2s", "4s"):
        eventually(lambda: not is_shut(quick, "/a?at=1"), "it is tried")
        quick.wait_log(r"quarantine: GET /a stays shut off: it failed when it "
                       rf"was tried \(error at app\.lua:5: boom\); "
                       rf"tried again in {wait}")
    told, = quarantined(quick)
    assert told["failures"] == 5
    # Another failure is no reason to wait longer.
    eventually(lambda: not is_shut(quick, "/a?at=2"), "it is tried")
    quick.wait_log(r"app\.lua:7: bang\); tried again in 1s")
    assert quarantined(quick)[0]["place"] == "app.lua:7"


def hold_probe(node, path="/a"):
    """A POST whose body is not there yet: the probe, if it is not refused."""
    while True:
        client = node.connect()
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\n"
                    "Content-Length: 1\r\n\r\n".encode())

        def decided():
            now = quarantined(node)
            return now and (now[0]["probing"] or
                            select.select([client.sock], [], [], 0)[0])
        eventually(decided, "it got through or not")
        if quarantined(node)[0]["probing"]:
            return client
        client.close()


def post_fails(node):
    for _ in range(3):
        assert node.request("POST", "/a?at=1").status == 500
    eventually(lambda: quarantined(node), "it is shut off")


def test_one_probe_at_a_time(quick):
    post_fails(quick)
    client = hold_probe(quick)
    for _ in range(10):
        answer = quick.request("POST", "/a")
        if not quarantined(quick) or not quarantined(quick)[0]["probing"]:
            break  # a slow machine: the request ran out of time
        assert (answer.status, answer.header("Retry-After")) == (503, "1")
    client.send(b"x")
    eventually(lambda: quick.request("POST", "/a").status == 200, "it is open")


def test_a_probe_that_says_nothing_makes_room(quick):
    post_fails(quick)
    hold_probe(quick).close()  # the client leaves
    eventually(lambda: quick.request("POST", "/a?at=400").status == 400,
               "the next one is the probe")
    assert quarantined(quick)
    eventually(lambda: quick.request("POST", "/a").status == 200, "it is open")
    eventually(lambda: quarantined(quick) == [], "so it is told")


def test_a_worker_that_is_killed_while_probing(quick):
    post_fails(quick)
    client = hold_probe(quick)
    place, = [r["worker"] for r in Admin(quick).requests()
              if r["route"] == "/a"]
    pid, = [w["pid"] for w in Admin(quick).workers() if w["id"] == int(place)]
    os.kill(pid, signal.SIGKILL)
    assert client.closed()
    eventually(lambda: quick.request("POST", "/a").status == 200,
               "another one is let through once the lease is over")
    eventually(lambda: quarantined(quick) == [], "so it is told")


def test_a_new_worker_knows(node):
    shut(node)
    before = {w["pid"] for w in Admin(node).wait_serving(2)}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len({w["pid"] for w in Admin(node).workers()
                            if w["state"] == "serving"} - before) == 2,
               "both are new")
    for client in clients_by_worker(node).values():
        assert client.get("/a").status == 503


def test_a_reload_clears(node):
    shut(node)
    node.rewrite("syntax error")
    assert not Admin(node).reload()[0]
    assert is_shut(node, "/a"), "code that does not load changes nothing"
    node.rewrite(APP)
    assert Admin(node).reload()[0]
    assert quarantined(node) == [] and metric(node, "quarantined_routes") == 0
    for client in clients_by_worker(node).values():
        assert client.get("/a").text == "fine"
    fail(node, "/a?at=1", 2)
    assert quarantined(node) == []
    shut(node)
    node.rewrite(APP + "-- another version")
    assert Admin(node).reload()[0] and not is_shut(node, "/a")
    shut(node)
    assert Admin(node).rollback()[0]
    assert not is_shut(node, "/a")


def test_the_page_of_the_application(start):
    node = start(SHAPED, workers=2, settings=LONG)
    shut(node)
    answer = node.get("/a")
    assert answer.status == 503 and answer.header("Retry-After")
    assert answer.json() == {"kind": "quarantine", "message": ""}
    shut(node, "/shaped/a")
    assert node.get("/shaped/a").text == "on(503): quarantine of /shaped/a"
    shut(node, "/fixed/a")
    assert node.get("/fixed/a").text == "later\n"


def test_a_page_that_fails_is_not_the_route(start):
    """What shapes errors may fail itself: the count is of the route."""
    node = start(APP + 'app:on_error(function() error("page") end)',
                 settings=LONG)
    fail(node, "/a?at=1", 3)
    told, = eventually(lambda: quarantined(node), "it is shut off")
    assert told["message"] == "boom"
    assert node.get("/a").status == 500  # the page, which fails again
    assert quarantined(node)[0]["failures"] == 3


def test_status_and_metrics(node):
    assert quarantined(node) == []
    assert metric(node, "quarantined_routes") == 0
    assert "quarantine" not in node.command("status").stdout
    shut(node)
    refused = metric(node, "quarantine_refusals_total")
    for _ in range(5):
        assert is_shut(node, "/a")
    assert metric(node, "quarantined_routes") == 1
    eventually(lambda: metric(node, "quarantine_refusals_total") ==
               refused + 5, "they are counted")
    told, = quarantined(node)
    assert told["route"] == "GET /a" and told["kind"] == "error"
    assert told["place"] == "app.lua:5" and told["message"] == "boom"
    assert told["failures"] == 3 and told["probing"] is False
    assert 86000000 < told["next_try_ms"] <= 86400000
    now = Admin(node).ask("GET", "/-/metrics").text
    start_s = float(re.search(r"^process_start_time_seconds (\S+)$", now,
                              re.M).group(1))
    assert start_s - 1 <= told["since"]
    assert re.search(
        r"^quarantine   GET /a is shut off for \d+s, next try in 23h 59m: 3 "
        r"failures in a row, error at app\.lua:5: boom$",
        node.command("status").stdout, re.M)


def test_the_route_command(tmp_path):
    write_app(tmp_path, APP)

    def row(path, *settings):
        done = command("route", "GET", path, tmp_path, *settings)
        assert done.returncode == 0, done.stderr
        found = re.search(r"^ +quarantine  +(.*)$", done.stdout, re.M)
        return found and re.split("  +", found.group(1).strip())

    three = ("--set", "quarantine.failures=3", "--set", "quarantine.retry=5s")
    assert row("/a") is None and row("/off", *three) is None
    assert row("/a", *three) == ["3 failures, tried after 5s", "--set"]
    assert row("/own") == ["2 failures, tried after 30s", "this route"]
