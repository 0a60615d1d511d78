"""What a node counts about itself on /-/metrics: each metric is made to move,
and by how much is looked at."""

import os
import re
import signal
import subprocess

import pytest

from support.admin import Admin
from support.client import Client
from support.node import ROOT, eventually
from support.servers import RedisServer

APP = r"""
local limit = moonshine.limit
app:get("/", function() return "hello" end)
app:get("/item/:id", function(c) return c:param("id") end)
app:post("/item/:id", function(c) return c:param("id"), 201 end)
app:get("/odd\"quote\\back", function() return "odd" end)
app:get("/fail", function() error "no" end)
app:get("/teapot", function(c) return "short and stout", 418 end)
app:get("/slow", function(c) moonshine.sleep(0.3) return "slow" end)
app:get("/stream", function(c)
    return c:stream(function(write) write("a") moonshine.sleep(0.2) write("b") end)
end)
app:get("/spin", function() while true do end end)
app:get("/busy", function()
    local until_ = os.clock() + 0.15
    while os.clock() < until_ do end
    return "busy"
end)
app:get("/limited", limit.token_bucket { rate = 1, per = "1h", burst = 2, name = "few" },
    function() return "ok" end)
app:get("/long", function() moonshine.sleep(20) end)
app:get("/hog", function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end)
app:get("/task", function()
    moonshine.spawn(function() moonshine.sleep(0.5) end)
    return "started"
end)
app:get("/c-call", function() return (("a"):rep(40) .. "b"):rep(40):find((".-"):rep(30) .. "c") end)
app:get("/pid", function() return tostring(moonshine.worker().id) end)
"""


def scrape(node):
    answer = Admin(node).ask("GET", "/-/metrics")
    assert answer.status == 200
    values = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in values, f"twice: {name}"
            values[name] = float(value)
    return values


def value(node, name, **labels):
    text = ",".join(f'{k}="{v}"' for k, v in labels.items())
    return scrape(node).get(f"moonshine_{name}" +
                            (f"{{{text}}}" if text else ""), 0)


def requests(node, route, method, status):
    return value(node, "route_requests_total", route=route, method=method,
                 status=status)


def reaches(node, wanted, name, **labels):
    """Counters are published with the beat of a worker, or when an exchange
    ends; never beyond what is wanted."""
    eventually(lambda: value(node, name, **labels) >= wanted,
               f"{name} {labels} is {wanted}: {value(node, name, **labels)}")
    assert value(node, name, **labels) == wanted


def settled(node):
    """All counts, none of which is still to be published: a worker writes the
    errors after those of its server."""
    assert node.get("/fail").status == 500
    eventually(lambda: value(node, "lua_errors_total") == 1, "published")
    return scrape(node)


def promtool(node):
    text = Admin(node).ask("GET", "/-/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text,
                          text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip(), done.stderr


def test_by_route_method_and_status(start):
    node = start(APP)
    for i in range(3):
        assert node.get(f"/item/{i}").text == str(i)
    assert node.request("POST", "/item/9", body="x").status == 201
    assert node.get("/teapot").status == 418
    assert node.get("/fail").status == 500
    assert node.get("/odd%22quote%5Cback").text == "odd"
    for path in ("/nothing", "/no/such/thing", "/-/nothing"):
        assert node.get(path).status == 404
    assert node.request("DELETE", "/teapot").status == 405
    reaches(node, 3, "route_requests_total", route="/item/:id", method="GET",
            status="200")
    assert requests(node, "/item/:id", "POST", "201") == 1
    assert requests(node, "/teapot", "GET", "418") == 1
    assert requests(node, "/fail", "GET", "500") == 1
    assert requests(node, "unmatched", "GET", "404") == 3
    assert requests(node, "unmatched", "DELETE", "405") == 1
    # Whatever waited for the node asked this; it is not an application's.
    assert requests(node, "health", "GET", "200") >= 1
    text = Admin(node).ask("GET", "/-/metrics").text
    assert "/nothing" not in text and "/no/such" not in text
    promtool(node)


def test_methods_and_statuses_of_one_route_in_turn(start):
    node = start('''
        app:route({ "GET", "POST" }, "/turn/:status", function(c)
            return "x", tonumber(c:param("status"))
        end)
    ''')
    wanted = {}
    for i in range(60):
        key = ("GET", "POST")[i % 2], ("200", "201", "404")[i % 3]
        wanted[key] = wanted.get(key, 0) + 1
        assert node.request(key[0], f"/turn/{key[1]}").status == int(key[1])
    assert len(wanted) == 6
    reaches(node, 60, "route_duration_seconds_count", route="/turn/:status")
    for (method, status), count in wanted.items():
        assert requests(node, "/turn/:status", method, status) == count


def test_a_request_that_cannot_be_parsed(start):
    node = start(APP)
    assert b" 400 " in node.raw(b"GET / HTTP/1.1\r\nBad header\r\n\r\n")
    eventually(lambda: sum(v for k, v in scrape(node).items()
                           if 'status="400"' in k) == 1, "it is counted")


def test_a_client_that_leaves(start):
    node = start(APP)
    with Client(node.address) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: Admin(node).requests(), "it runs")
    reaches(node, 1, "route_requests_total", route="/slow", method="GET",
            status="none")


def test_durations(start):
    node = start(APP)
    for _ in range(4):
        node.get("/")
    assert node.get("/slow").text == "slow"
    assert node.get("/stream").text == "ab"
    name = "route_duration_seconds"
    reaches(node, 4, f"{name}_count", route="/")
    reaches(node, 1, f"{name}_count", route="/slow")
    assert value(node, f"{name}_bucket", route="/slow", le="0.25") == 0
    assert value(node, f"{name}_bucket", route="/slow", le="+Inf") == 1
    assert value(node, f"{name}_sum", route="/slow") >= 0.3
    before = 0
    for bound in ("0.0001", "0.001", "0.1", "10", "+Inf"):
        now = value(node, f"{name}_bucket", route="/", le=bound)
        assert now >= before
        before = now
    assert before == 4
    # Its length is up to the application.
    assert requests(node, "/stream", "GET", "200") == 1
    assert value(node, f"{name}_count", route="/stream") == 0


def test_time_on_the_processor_counts(start):
    """A handler that never waits ends in the turn of the loop it began in."""
    node = start(APP, settings={"cpu_limit": "5s", "slow_slice": "50ms"})
    assert node.get("/busy").text == "busy"
    reaches(node, 1, "slow_slices_total")
    # Less than 0.15: os.clock counts what other threads use meanwhile, too.
    assert value(node, "route_duration_seconds_sum", route="/busy") > 0.1
    # The beat of the loop was late by as much, less its period.
    eventually(lambda: value(node, "loop_lag_seconds_sum") > 0.02, "lag")
    worker, = Admin(node).workers()
    assert worker["loop_lag_ms"] > 20


def test_bytes(start):
    node = start(APP)
    before = settled(node)
    with Client(node.address) as client:
        ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        client.send(ask)
        answer = client.read_response()
        assert answer.text == "hello"
    reaches(node, before["moonshine_received_bytes_total"] + len(ask),
            "received_bytes_total")
    sent = value(node, "sent_bytes_total") - before["moonshine_sent_bytes_total"]
    assert len("hello") + 50 < sent < 1000


def test_limits(start):
    node = start(APP)
    assert [node.get("/limited").status for _ in range(5)] == \
        [200, 200, 429, 429, 429]
    reaches(node, 3, "limit_refusals_total", limit="few")


def test_containment(start):
    node = start(APP, settings={"cpu_limit": "50ms", "timeout": "200ms"})
    assert node.get("/fail").status == 500
    assert node.get("/spin").status == 503
    assert node.get("/slow").status == 503
    reaches(node, 3, "lua_errors_total")  # stops are errors, too
    reaches(node, 1, "cpu_stops_total")
    reaches(node, 1, "timeouts_total")


def test_restarts_by_reason(start):
    node = start(APP, workers=2)
    admin = Admin(node)
    admin.wait_serving(2)
    for _ in range(7):
        node.get("/")
    reaches(node, 7, "route_requests_total", route="/", method="GET",
            status="200")
    before = scrape(node)
    for pid in node.children():
        os.kill(pid, signal.SIGKILL)
    reaches(node, 2, "worker_restarts_total", reason="signal")
    admin.wait_serving(2)
    for reason in ("exit", "hang", "startup"):
        assert value(node, "worker_restarts_total", reason=reason) == 0
    # What the dead have counted stays.
    after = scrape(node)
    for name, was in before.items():
        if re.match(r"\w+_(total|count|sum|bucket)\b", name):
            assert after[name] >= was, name
    assert requests(node, "/", "GET", "200") == 7


def test_across_reloads(start):
    node = start(APP)
    admin = Admin(node)
    node.get("/")
    node.get("/teapot")
    reaches(node, 1, "route_requests_total", route="/", method="GET",
            status="200")
    ok, text = admin.reload()
    assert ok, text
    promtool(node)
    node.get("/")
    reaches(node, 2, "route_requests_total", route="/", method="GET",
            status="200")
    assert requests(node, "/teapot", "GET", "418") == 1
    assert value(node, "reloads_total") == 1
    assert value(node, "generation") == 2


def test_more_routes_than_there_is_room(start):
    source = "".join(f'app:get("/r{i}", function() return "" end)\n'
                     for i in range(30))
    node = start(source, settings={"metrics.max_series": 10})
    for i in range(30):
        assert node.get(f"/r{i}").status == 200
    eventually(lambda: sum(v for k, v in scrape(node).items() if k.startswith(
        'moonshine_route_requests_total{route="')
        and 'route="health"' not in k) == 30, "all are counted")
    assert value(node, "route_requests_total", route="other", method="other",
                 status="other") >= 20
    assert value(node, "node_series") == 10
    node.wait_log("from now on new routes are counted")
    promtool(node)


def test_process_and_build(start):
    node = start(APP, workers=2)
    Admin(node).wait_serving(2)
    values = scrape(node)
    assert re.search(r'^moonshine_build_info\{version="[\d.]+",node="test"\} 1$',
                     Admin(node).ask("GET", "/-/metrics").text, re.MULTILINE)
    assert values["process_cpu_seconds_total"] > 0
    assert values["process_resident_memory_bytes"] > 3 * 1024 * 1024
    assert 3 < values["process_open_fds"] < values["process_max_fds"]
    assert values["process_start_time_seconds"] > 1.6e9
    assert values["moonshine_workers"] == 2
    assert values["moonshine_vm_memory_bytes"] > 100000


def test_the_log_that_nobody_reads(start, tmp_path):
    """Lines that cannot be written are dropped and counted; requests go on."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        node = start(APP, settings={"log.file": pipe})
        with node.connect() as client:
            def dropped():
                for _ in range(500):
                    assert client.get("/?" + "x" * 4000).status == 200
                return value(node, "log_lines_dropped_total") > 0
            eventually(dropped, "lines are dropped", 60)
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["moonshine_x", "process_x"])
def test_names_of_the_server_are_reserved(start, name):
    node = start(APP)
    (node.app / "app.lua").write_text(
        'local m = require "moonshine"\nlocal app = m.app()\n'
        f'm.metrics.counter("{name}", "mine")\nreturn app\n')
    ok, text = Admin(node).reload()
    assert not ok and "belong to the server" in text and "app.lua:3" in text


def test_status_tells_the_recent_past(start):
    node = start(APP)
    admin = Admin(node)

    def recent():
        for _ in range(20):
            node.get("/")
        node.get("/fail")
        seen = admin.status()["recent"]
        return seen if seen["seconds"] > 1 and \
            seen["errors_per_second"] > 0 else None
    seen = eventually(recent, "rates")
    assert seen["requests_per_second"] > seen["errors_per_second"]
    assert 0 < seen["p50_ms"] <= seen["p99_ms"] <= 10000
    assert seen["seconds"] < 13
    table = admin.ask("GET", "/-/status", {"Accept": "text/plain"}).text
    assert re.search(r"^recent +[\d.]+ requests/s, [\d.]+ errors/s, p50 [\d.]+ "
                     r"ms, p99 [\d.]+ ms", table, re.MULTILINE)
    assert admin.workers()[0]["resident_bytes"] > 1024 * 1024


def test_connections_and_what_is_in_flight(start):
    node = start(APP)
    before = settled(node)["moonshine_accepted_total"]
    eventually(lambda: value(node, "connections") == 0, "those of the start")
    clients = [node.connect() for _ in range(3)]
    for client in clients:
        assert client.get("/").status == 200
    reaches(node, before + 3, "accepted_total")
    eventually(lambda: value(node, "connections") == 3, "three")
    clients[0].send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: value(node, "requests_in_flight") == 1, "one runs")
    for client in clients:
        client.close()
    eventually(lambda: value(node, "connections") == 0, "they are gone")
    eventually(lambda: value(node, "requests_in_flight") == 0, "it is gone")


def test_requests_and_responses(start):
    node = start(APP)
    before = settled(node)
    for path in ("/", "/", "/teapot", "/fail"):
        node.get(path)
    node.raw(b"NONSENSE\r\n\r\n")
    reaches(node, before["moonshine_requests_total"] + 4, "requests_total")
    assert value(node, "bad_requests_total") == 1
    for name, more in (("2xx", 2), ("3xx", 0), ("4xx", 2), ("5xx", 1)):
        was = before[f'moonshine_responses_total{{class="{name}"}}']
        assert value(node, "responses_total", **{"class": name}) == was + more


def test_tasks_and_memory_stops(start):
    node = start(APP, settings={"request_memory": "4m"})
    assert node.get("/hog").status == 503
    reaches(node, 1, "memory_stops_total")
    assert node.get("/task").status == 200
    eventually(lambda: value(node, "tasks") == 1, "it runs")
    eventually(lambda: value(node, "tasks") == 0, "it is over")


def test_max_connections(start):
    node = start(APP, settings={"max_connections": 2})
    before = settled(node)["moonshine_connection_limits_total"]
    eventually(lambda: value(node, "connections") == 0, "those of the start")
    clients = [node.connect() for _ in range(2)]
    for client in clients:
        assert client.get("/").status == 200
    reaches(node, before + 1, "connection_limits_total")


def test_reloads_by_outcome(start):
    node = start(APP)
    admin = Admin(node)
    text = (node.app / "app.lua").read_text()
    (node.app / "app.lua").write_text("error 'broken'")
    assert not admin.reload()[0]
    (node.app / "app.lua").write_text(text + "-- changed")
    assert admin.reload()[0]
    assert admin.rollback()[0]
    assert value(node, "reloads_failed_total") == 1
    assert value(node, "reloads_total") == 1
    assert value(node, "rollbacks_total") == 1
    assert value(node, "fallback") == 0


def test_a_worker_that_hangs(start):
    node = start(APP, settings={"cpu_limit": "50ms"})
    with Client(node.address) as client:
        client.send(b"GET /c-call HTTP/1.1\r\nHost: a\r\n\r\n")
        reaches(node, 1, "worker_restarts_total", reason="hang")
    assert value(node, "worker_kills_total") == 1
    assert value(node, "worker_restarts_total", reason="signal") == 0


def test_what_the_documents_say(start):
    """Each metric is in apps/observe.md, and what is there is printed."""
    node = start(APP)
    node.get("/")
    assert node.get("/limited").status == 200
    eventually(lambda: value(node, "route_duration_seconds_count", route="/"),
               "it is counted")
    text = Admin(node).ask("GET", "/-/metrics").text
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    page = (ROOT / "apps/observe.md").read_text()
    table = page[page.index("| `moonshine_...` |"):page.index("\n\n`process_cpu")]
    told = set()
    for row in table.splitlines()[2:]:
        told |= {f"moonshine_{n}"
                 for n in re.findall(r"`(\w+)`", row.split("|")[1])}
    told |= set(re.findall(r"`(process_\w+)`", page)) - {"process_"}
    assert names == told, names ^ told


def test_the_format_holds_during_a_reload(start):
    node = start(APP, workers=2)
    promtool(node)  # without traffic
    with subprocess.Popen(
            ["/usr/bin/python3", "-c", RELOADER, node.run_dir / node.name /
             "admin.sock"], stdout=subprocess.PIPE) as reloading:
        times = 0
        while reloading.poll() is None:
            node.get("/")
            promtool(node)
            times += 1
        assert reloading.stdout.read() == b"200200200200200"
    assert times > 0
    assert requests(node, "/", "GET", "200") == times


RELOADER = r"""
import socket, sys
for _ in range(5):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[1])
        s.sendall(b"POST /-/reload HTTP/1.1\r\nHost: a\r\n"
                  b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        print(s.makefile("rb").readline().split()[1].decode(), end="")
"""


HOLDS = """
    app:get("/", function() return "ok" end)
    app:get("/fail", function() error("failed") end)
    app:get("/deep", function()
        local function deep(n) return 1 + deep(n + 1) end
        return deep(0)
    end)
    app:get("/spin", function() while true do end end, { cpu_limit = "20ms" })
    app:get("/wait", function() moonshine.sleep("300ms") return "waited" end)
"""


def test_what_would_grow_if_something_leaked(start):
    """Handlers that die give back what they held, however they die."""
    node = start(HOLDS)

    def held():
        worker, = Admin(node).workers()
        for name in ("coroutines", "lua_refs", "handles", "timers"):
            assert worker[name] == value(
                node, name if name in ("coroutines", "lua_refs")
                else f"loop_{name}"), name
        return [worker[name] for name in ("coroutines", "lua_refs", "timers")]

    with node.connect() as client:
        def fail_all(times):
            for _ in range(times):
                for target in ("/fail", "/deep", "/spin", "/"):
                    client.get(target)
        fail_all(1)
        eventually(lambda: held()[0] >= 1, "it is published")
        before = held()
        fail_all(20)
        eventually(lambda: value(node, "lua_errors_total") == 63, "published")
        # References are the most at once, and a timer may be under way; what
        # leaks does so each time.
        assert all(now - then < 5 for now, then in zip(held(), before))
    # What runs at once has a coroutine each, which is kept for the next.
    waiting = [node.connect() for _ in range(20)]
    for client in waiting:
        client.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    for client in waiting:
        assert client.read_response().text == "waited"
    eventually(lambda: 20 <= held()[0] < 20 + before[0] + 1, "they are kept")


def test_attempts_to_connect_to_redis_are_counted(start):
    with RedisServer() as redis:
        node = start('app:get("/", function(c) c:session():set("n", 1) '
                     'return "set" end)', settings={"session.url": redis.url})
        assert node.get("/").status == 200
        eventually(lambda: value(node, "redis_connects_total") == 1, "one")
        redis.kill()
        eventually(lambda: value(node, "redis_connects_total") >= 3, "more")
