"""The wall clock is set, an hour forward and an hour back: only what is about
times of day notices."""

import email.utils
import itertools
import time

import pytest

from support.admin import Admin
from support.client import Client
from support.injector import Faults
from support.kinds import KINDS, SETTINGS, SITE
from support.node import PRELUDE, eventually
from support.servers import RedisServer

HOUR = 3600
APP = SITE["app.lua"] + """
local runs = moonshine.shared("d")
local began = moonshine.clock()
moonshine.every("20ms", function() runs:incr("node", 1, 0) end)
moonshine.every("20ms", function() runs:incr("worker", 1, 0) end,
    { scope = "worker", name = "w" })
app:get("/runs", function()
    return { node = runs:get("node") or 0, worker = runs:get("worker") or 0 }
end)
app:get("/clocks", function() return { wall = moonshine.now(), mono = moonshine.clock() } end)
app:get("/sleep", function()
    local a = moonshine.clock()
    moonshine.sleep("30ms")
    return { slept = moonshine.clock() - a }
end)
app:get("/late", function() moonshine.sleep("60s") end, { timeout = "100ms" })
app:post("/keep", function() runs:set("short", "x", 30) runs:set("long", "y") return "kept" end)
app:get("/kept", function() return { short = runs:get("short"), long = runs:get("long") } end)
app:post("/lock", function()
    return (moonshine.lock("a", "5s", function() return "held" end) and "held")
end)
app:get("/few", moonshine.limit.token_bucket { rate = 1, per = 1800, burst = 3,
    key = "all", name = "few" }, function() return "passed" end)
app:get("/window", moonshine.limit.sliding_window { rate = 3, per = 1800,
    key = "all", name = "window" }, function() return "passed" end)
local fetched = 0
local cache = moonshine.cache("d", { ttl = "30s" })
app:get("/cached", function()
    return tostring(cache:fetch("c", function() fetched = fetched + 1 return "f" .. fetched end))
end)
app:get("/version", function() return "VERSION" end)
"""


def source(version):
    return {**SITE, "app.lua": PRELUDE + APP.replace("VERSION", version) +
            "\nreturn app\n"}


@pytest.fixture(name="faults")
def fixture_faults():
    with Faults() as faults:
        yield faults


@pytest.fixture(name="store", params=["disk", "redis"])
def fixture_store(request):
    if request.param == "disk":
        yield {}
        return
    with RedisServer() as redis:
        yield {"session.url": redis.url}


class Visitor:
    """A session, which goes on counting."""

    def __init__(self, node):
        self.node, self.n = node, 0
        self.cookie = None

    def counts(self):
        headers = {"Cookie": self.cookie} if self.cookie else {}
        answer = self.node.request("POST", "/count", headers)
        self.n += 1
        assert answer.status == 200 and answer.json() == {"n": self.n}, answer
        if self.cookie is None:
            self.cookie = answer.header("Set-Cookie").split(";")[0]


def check(node, faults, hours, visitors, client, version):
    """What holds whatever the clock says."""
    for kind in KINDS:
        assert kind.ask(node) == "right", kind
    for visitor in visitors:
        visitor.counts()
    date = client.get("/plain").header("Date")  # of a connection from before
    said = email.utils.parsedate_to_datetime(date).timestamp()
    assert abs(said - time.time() - hours * HOUR) < 60
    clocks = node.get("/clocks").json()
    assert abs(clocks["wall"] - time.time() - hours * HOUR) < 60
    assert 0.02 < node.get("/sleep").json()["slept"] < 10
    assert node.get("/late").status == 503
    assert node.get("/kept").json() == {"short": "x", "long": "y"}
    assert node.request("POST", "/lock").text == "held"
    before = node.get("/runs").json()

    def ran():
        now = node.get("/runs").json()
        return all(now[k] >= before[k] + 3 for k in now)
    eventually(ran, "timers run", 10)
    # The hour must neither fill buckets nor empty them.
    assert [node.get("/few").status, node.get("/window").status] == [429, 429]
    assert node.get("/version").text == version
    mark = f"/nothing-{hours}-{version}"
    node.get(mark)
    stamp = time.strftime("%Y-%m-%dT%H:",
                          time.gmtime(time.time() + hours * HOUR))
    eventually(lambda: any(mark in line and line.startswith(stamp[:10])
                           for line in node.log().split("\n")),
               "the access log has it", 10)
    return clocks["mono"]


def test_the_wall_clock_is_set(start, faults, store):
    """Back and forth, with requests, sessions, timers and a reload at each."""
    node = start(source("0"), workers=2, env=faults.env, settings={
        **SETTINGS, **store, "session.idle": "5h", "session.absolute": "9h"})
    admin = Admin(node)
    visitors = [Visitor(node)]
    visitors[0].counts()
    assert node.request("POST", "/keep").text == "kept"
    for target in ("/few", "/window"):
        assert [node.get(target).status for _ in range(4)] == [200] * 3 + [429]
    cached = node.get("/cached").text
    mono = 0
    versions = itertools.count(1)
    with Client(node.address) as client:
        assert client.get("/plain").status == 200
        for hours in (1, 0, -1, 0, -1, 1, 0):
            faults.step(hours * HOUR)
            version = str(next(versions))
            node.rewrite(source(version))
            assert admin.reload()[0]
            now = check(node, faults, hours, visitors, client, version)
            assert now > mono
            mono = now
            if len(visitors) < 5:  # who came while it was wrong stays, too
                visitors.append(Visitor(node))
                visitors[-1].counts()
            status = admin.status()
            assert status["worker_kills"] == status["worker_restarts"] == 0
    assert cached.startswith("f")


def test_it_is_set_while_things_wait(start, faults):
    """Sleeping handlers, lines for the log, connections without a request."""
    node = start(source("0"), env=faults.env,
                 settings={**SETTINGS, "keepalive_timeout": "500ms"})
    for step in (HOUR, -HOUR, 0):
        with Client(node.address) as idle, Client(node.address) as client:
            assert idle.get("/plain").status == 200
            client.send(b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n")
            mark = f"/mark{step}"
            node.get(mark)
            faults.step(step)
            assert client.read_response().status == 200
            assert idle.closed()  # after its half second
        eventually(lambda mark=mark: mark in node.log(),
                   "the line is written", 10)


def test_a_line_is_not_held_back_for_an_hour(start, faults):
    """The log's writer gathers lines for a moment: not until the old time."""
    node = start(source("0"), env=faults.env, settings=SETTINGS)
    for i in range(40):
        faults.step(HOUR)
        node.get(f"/line{i}-")
        node.get("/clocks")  # by now the writer gathers
        faults.step(0)
        if i % 10 == 9:
            eventually(lambda i=i: f"/line{i}-" in node.log(),
                       "the line is written", 10)
