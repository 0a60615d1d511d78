"""moonshine.every over the workers of a node: one has each turn."""

import os
import signal

from support.node import command, eventually, write_app

APP = r'''
local dict = moonshine.shared("runs")
moonshine.every("%(every)s", function()
    dict:incr("all", 1, 0)
    dict:incr("worker " .. moonshine.worker().id, 1, 0)
    if dict:incr("inside", 1, 0) > 1 then dict:set("overlap", true) end
    moonshine.sleep("%(takes)s")
    dict:incr("inside", -1)
    if dict:get("break") then error("it broke") end
end, { name = "counted", now = true })
app:get("/get", function(c) return tostring(dict:get(c:query("k"))) end)
app:get("/set", function(c) dict:set(c:query("k"), true) end)
app:get("/id", function() return tostring(moonshine.worker().id) end)
'''
SETTINGS = {"shared": "runs=64k"}


def runs(node):
    text = node.get("/get?k=all").text
    return 0 if text == "nil" else int(text)


def test_one_worker_has_each_turn(start):
    node = start(APP % {"every": "50ms", "takes": "10ms"}, workers=3,
                 settings=SETTINGS)
    eventually(lambda: runs(node) >= 20, "twenty runs")
    assert node.get("/get?k=overlap").text == "nil"


def test_it_goes_on_when_its_worker_dies(start):
    node = start(APP % {"every": "50ms", "takes": "1ms"}, workers=3,
                 settings=SETTINGS)
    for _ in range(3):
        before = runs(node)
        for pid in node.children()[:2]:
            os.kill(pid, signal.SIGKILL)
        node.wait_ready()
        eventually(lambda: runs(node) >= before + 3, "it goes on", 60)


def test_a_run_longer_than_its_interval(start):
    node = start(APP % {"every": "10ms", "takes": "100ms"}, workers=3,
                 settings=SETTINGS)
    eventually(lambda: runs(node) >= 5, "five runs")
    assert node.get("/get?k=overlap").text == "nil"


def test_an_error_does_not_end_it(start):
    node = start(APP % {"every": "20ms", "takes": "1ms"}, workers=2,
                 settings=SETTINGS)
    node.get("/set?k=break")
    node.wait_log("timer counted failed: .*it broke")
    before = runs(node)
    eventually(lambda: runs(node) >= before + 3, "it goes on")


def test_turns_go_on_over_a_reload(start):
    """An hourly timer that ran does not run again because of new code."""
    app = APP % {"every": "1h", "takes": "1ms"}
    node = start(app, workers=2, settings=SETTINGS)
    eventually(lambda: runs(node) == 1, "the first run")
    for number in range(3):
        node.rewrite(app + f"-- {number}")
        assert node.command("reload").returncode == 0
    # Whatever a timer does at once it has done by the time this one has run.
    node.rewrite(app + """
local late = moonshine.shared("runs")
moonshine.every("20ms", function() late:incr("late", 1, 0) end, { scope = "worker" })
""")
    assert node.command("reload").returncode == 0
    eventually(lambda: int(node.get("/get?k=late").text.replace("nil", "0"))
               >= 10, "the new code's timer ran")
    assert runs(node) == 1


def test_names_are_taken_once(tmp_path):
    done = command("check", write_app(tmp_path, """
moonshine.every(1, function() end, { name = "a" })
for i = 1, 3 do moonshine.every(1, function() end) end
moonshine.every(1, function() end, { name = "a" })"""))
    assert done.returncode == 1
    assert "app.lua:4: moonshine.every: the name 'a' is taken by the timer " \
        "at app.lua:2" in done.stderr
