"""Load with faults: what goes wrong must touch nobody else.

Short by default; MOONSHINE_LONG=1 (tests/run --long) runs them at full length.
"""

import os
import random
import signal
import time

import pytest

from support.load import Load
from support.node import eventually

LONG = bool(os.environ.get("MOONSHINE_LONG"))

APP = r'''
local generation = "%s"
app:get("/ok", function() return "ok" end)
app:get("/which", function() return generation end)
app:get("/wait", function() moonshine.sleep(0.01) return "waited" end)
app:get("/panic", function() error("panic") end)
app:get("/spin", function() while true do end end, { cpu_limit = "50ms" })
app:get("/hog", function()
    local t = {}
    while true do t[#t + 1] = ("x"):rep(1000) .. #t end
end)
'''
SETTINGS = {"memory_limit": "128m", "request_memory": "32m",
            "log.access": "off"}


@pytest.mark.seconds(180)
def test_hostile_routes_under_load(start):
    """Mixed load with errors, endless loops and memory hogs."""
    seconds = 60 if LONG else 5
    node = start(APP % "one", workers=2, settings=SETTINGS)
    workers = set(node.children())
    end = time.monotonic() + seconds
    with Load(node, "/ok", 4, body=b"ok") as ok, \
            Load(node, "/wait", 4, body=b"waited") as wait, \
            Load(node, "/panic", 1, status=500) as panic, \
            Load(node, "/spin", 1, status=503) as spin, \
            Load(node, "/hog", 1, status=503) as hog:
        eventually(lambda: time.monotonic() > end, "the end", seconds + 5)
    for load in (ok, wait, panic, spin, hog):
        assert load.failures == []
        assert load.answers > 0
    assert set(node.children()) == workers


@pytest.mark.seconds(300)
def test_reload_under_load(start):
    """Good and bad reloads; no request fails, none sees bad code."""
    good, bad = (20, 5) if LONG else (4, 2)
    node = start(APP % "0", workers=2, settings=SETTINGS)
    steps = ["good"] * good + ["bad"] * bad
    random.Random(7).shuffle(steps)
    with Load(node, "/ok", 4, body=b"ok") as ok, \
            Load(node, "/wait", 4, body=b"waited") as wait, \
            Load(node, "/which", 2) as which:
        for number, step in enumerate(steps, 1):
            ok.progress(20)
            if step == "good":
                node.rewrite(APP % number)
                done = node.command("reload")
                assert done.returncode == 0, done
                assert node.get("/which").text == str(number)
            else:
                node.rewrite("app:get('/ok', function() return 'bad' end) "
                             "error('bad')")
                done = node.command("reload")
                assert done.returncode == 1, done
                assert node.get("/ok").text == "ok"
        ok.progress(20)
    for load in (ok, wait, which):
        assert load.failures == []
    assert len(which.bodies) == good + 1


@pytest.mark.seconds(180)
def test_workers_killed_under_load(start):
    """kill -9 of a random worker, again and again: each kill fails at most
    what was in flight on that worker, and it is back at once."""
    kills = 40 if LONG else 6
    clients = 8
    node = start(APP % "0", workers=3, settings=SETTINGS)
    choice = random.Random(11)
    with Load(node, "/ok", clients, body=b"ok") as load:
        for _ in range(kills):
            victim = choice.choice(node.children())
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: len(node.children()) == 3 and
                       victim not in node.children(), "a new worker")
            load.progress(200)
    assert len(load.failures) <= kills * clients
    assert load.answers > 100 * kills
    assert node.get("/ok").text == "ok"
