"""moonshine.metrics on /-/metrics: summed over workers, across reloads and the
deaths of workers, within bounds. What a method takes is looked at by
tests/lua/specs/metrics.lua, what is printed by tests/unit/state_metrics.c."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from support.admin import Admin
from support.node import command, eventually, write_app

APP = r"""
local metrics = moonshine.metrics
local hits = metrics.counter("hits_total", "Requests")
local by = metrics.counter("by_total", "Requests by method and status", { "method", "status" })
local depth = metrics.gauge("depth", "How deep", { "worker" })
local took = metrics.histogram("took_seconds", "How long", { "route" }, { 0.5, 1 })
app:get("/", function(c)
    hits:inc()
    by:inc(c:method(), 200)
    took:observe(0.75, "/")
    return tostring(moonshine.worker().id)
end)
app:get("/deep", function()
    local id = moonshine.worker().id
    depth:set(5, id)
    return tostring(id)
end)
app:get("/label", function(c) by:inc(c:query("n", "1") + 0, "GET", c:query("of")) return "" end)
"""


def scrape(node):
    """The values by name and labels, as they are printed."""
    answer = Admin(node).ask("GET", "/-/metrics")
    assert answer.status == 200
    values = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in values, f"twice: {name}"
            values[name] = float(value)
    return values


def on_all_workers(node, target, count):
    """Asks until each of so many workers has answered; how often it took."""
    seen, asked = set(), 0
    clients = []
    try:
        while len(seen) < count:
            assert asked < 500
            client = node.connect()
            clients.append(client)
            seen.add(client.get(target).text)
            asked += 1
    finally:
        for client in clients:
            client.close()
    return asked


def test_summed_over_workers(start):
    node = start(APP, workers=3)
    assert scrape(node)["hits_total"] == 0
    asked = on_all_workers(node, "/", 3)
    values = scrape(node)
    assert values["hits_total"] == asked
    assert values['by_total{method="GET",status="200"}'] == asked
    assert values['took_seconds_count{route="/"}'] == asked
    assert values['took_seconds_sum{route="/"}'] == asked * 0.75
    assert values['took_seconds_bucket{route="/",le="0.5"}'] == 0
    assert values['took_seconds_bucket{route="/",le="1"}'] == asked
    assert values['took_seconds_bucket{route="/",le="+Inf"}'] == asked
    on_all_workers(node, "/deep", 3)
    values = scrape(node)
    for worker in (1, 2, 3):
        assert values[f'depth{{worker="{worker}"}}'] == 5


def test_a_reload_goes_on_counting(start):
    node = start(APP, workers=2)
    for _ in range(7):
        node.get("/")
    changed = APP.replace('return "" end)', 'return "new" end)')
    node.rewrite(changed + 'metrics.counter("extra_total", "More")')
    assert Admin(node).reload()[0]
    for _ in range(5):
        node.get("/")
    values = scrape(node)
    assert values["hits_total"] == 12
    assert values['by_total{method="GET",status="200"}'] == 12
    assert values["extra_total"] == 0
    node.rewrite(APP)
    assert Admin(node).reload()[0]
    node.get("/")
    assert scrape(node)["hits_total"] == 13
    assert Admin(node).rollback()[0]
    node.get("/")
    assert scrape(node)["hits_total"] == 14


def test_what_new_code_does_not_declare_goes(start):
    node = start(APP, workers=2)
    node.get("/")
    node.get("/label?of=gone")
    # The same name with other labels takes its place.
    node.rewrite('local hits = moonshine.metrics.gauge("hits_total", "Other", { "a" })\n'
                 'app:get("/", function() hits:set(3, "x") return "" end)')
    assert Admin(node).reload()[0]
    eventually(lambda: not any(name.startswith(("by_total", "took_seconds"))
                               for name in scrape(node)), "they are gone")
    node.get("/")
    values = scrape(node)
    assert "hits_total" not in values
    assert values['hits_total{a="x"}'] == 3
    # It begins anew when it comes back.
    node.rewrite(APP)
    assert Admin(node).reload()[0]
    eventually(lambda: scrape(node).get("hits_total") == 0, "it is back")


def test_old_code_counts_while_it_lasts(start):
    stream = r"""
local old = metrics.counter("old_total", "Of this code alone")
app:get("/stream", function(c)
    c:stream(function(write)
        write("begin")
        while c:query("until") ~= nil and not moonshine.stopping() do moonshine.sleep("5ms") end
        hits:inc(10)
        old:inc()
        write("end")
        moonshine.sleep("1h")
    end)
end)
"""
    node = start(APP + stream)
    client = node.connect()
    client.send(b"GET /stream?until=reload HTTP/1.1\r\nHost: x\r\n\r\n")
    chunks = client.read_chunks()
    client.read_head()
    assert next(chunks) == b"begin"
    node.rewrite(APP)
    assert Admin(node).reload()[0]
    node.get("/")
    assert next(chunks) == b"end"
    values = scrape(node)
    assert values["hits_total"] == 11 and values["old_total"] == 1
    client.close()
    eventually(lambda: "old_total" not in scrape(node), "its code is gone")
    assert scrape(node)["hits_total"] == 11


def test_code_that_is_refused_leaves_nothing(start):
    node = start(APP, workers=2)
    node.get("/")
    node.rewrite(APP + 'metrics.counter("never_total", "Never")\n'
                 'app:on_start(function() assert(moonshine.worker().id == 0) end)')
    # Good in the probe, where the worker is 0; refused by the workers.
    ok, message = Admin(node).reload()
    assert not ok, message
    eventually(lambda: "never_total" not in scrape(node), "it is gone")
    assert scrape(node)["hits_total"] == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker(start, workers):
    """Counters and histograms stay, its gauges go."""
    node = start(APP, workers=workers)
    admin = Admin(node)
    asked = on_all_workers(node, "/", workers)
    on_all_workers(node, "/deep", workers)
    assert scrape(node)['depth{worker="1"}'] == 5
    pid = admin.workers()[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: admin.workers()[0]["pid"] not in (0, pid), "replaced")
    admin.wait_serving(workers)
    values = scrape(node)
    assert values["hits_total"] == asked
    assert values['took_seconds_count{route="/"}'] == asked
    assert values['depth{worker="1"}'] == 0
    if workers == 2:
        assert values['depth{worker="2"}'] == 5
    more = on_all_workers(node, "/", workers)
    assert scrape(node)["hits_total"] == asked + more
    assert admin.reload()[0]
    assert scrape(node)["hits_total"] == asked + more


def test_too_many_series(start):
    node = start(APP, workers=2, settings={"metrics.max_series": 10})
    for i in range(30):
        assert node.get(f"/label?of={i}").status == 200
    values = scrape(node)
    of = [v for name, v in values.items() if name.startswith("by_total{")]
    assert len(of) == 11 and sum(of) == 30
    assert values['by_total{method="other",status="other"}'] == 20
    assert values["moonshine_app_series"] == 10
    node.get("/")  # neither does another metric get one, nor is one needed
    values = scrape(node)
    assert values["hits_total"] == 1
    assert values['took_seconds_count{route="other"}'] == 1
    log = node.log()
    assert log.count("metrics: there are metrics.max_series (10) series") == 1
    assert Admin(node).reload()[0]
    node.get("/label?of=new")
    assert scrape(node)['by_total{method="other",status="other"}'] == 22


def test_it_cannot_be_changed_by_a_reload(start):
    node = start(APP)
    node.rewrite({"config.lua": "metrics = { max_series = 500 }"})
    assert Admin(node).reload()[0]
    assert node.wait_log("a restart is needed for it: metrics.max_series")


def test_conflicts_are_load_errors(start, tmp_path):
    bad = {"app.lua": '\nrequire "other"\nmoonshine.metrics.gauge("x", "help")',
           "other.lua": '\n\nrequire("moonshine").metrics.counter("x", "help")'}
    done = command("check", write_app(tmp_path, bad))
    assert done.returncode == 1
    assert ("app.lua:3: metrics: x is declared here as a gauge without labels, "
            "and at other.lua:3 as a counter without labels") in done.stderr
    node = start(APP)
    node.rewrite(bad)
    ok, message = Admin(node).reload()
    assert not ok and "at other.lua:3" in message
    assert node.get("/").status == 200


def test_a_check_counts_for_itself(start):
    node = start(APP + 'app:check(function() hits:inc(100) end)\n'
                 'app:on_start(function() hits:inc(1) end)', workers=2)
    assert scrape(node)["hits_total"] == 2


def test_promtool(start):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    node = start(APP, workers=2, settings={"metrics.max_series": 10})
    on_all_workers(node, "/", 2)
    on_all_workers(node, "/deep", 2)
    for i in range(20):
        node.get(f"/label?of=%22%5C%0A%FF{i}")
    text = Admin(node).ask("GET", "/-/metrics").body
    assert b'status="other"' in text and b'\\"\\\\\\n\xef\xbf\xbd0"' in text
    done = subprocess.run(["promtool", "check", "metrics"], input=text,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == b""


def test_the_type_of_the_answer(start):
    answer = Admin(start(APP)).ask("GET", "/-/metrics")
    assert answer.header("Content-Type").startswith("text/plain; version=0.0.4")
    assert re.search(r"^# HELP hits_total Requests\n# TYPE hits_total counter$",
                     answer.text, re.M)
