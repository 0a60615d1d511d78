"""Reload is a transaction over all workers: all get the new code or none."""

import os
import re
import shutil
import signal
import threading

import pytest

from support.admin import Admin
from support.client import Client
from support.load import Load
from support.node import eventually, write_app

# A sanitizer would report the crash that is asked for.
CRASH = {"ASAN_OPTIONS": "detect_leaks=1:exitcode=99:handle_segv=0",
         "TSAN_OPTIONS": "handle_segv=0:report_thread_leaks=0"}
SAY = 'app:get("/", function() return "%s" end)'


def answers(node, count=12):
    """What different connections (so: different workers) get."""
    return {node.get("/").text for _ in range(count)}


def test_reload_reaches_all_workers(start):
    node = start(SAY % "one", workers=3)
    admin = Admin(node)
    node.rewrite(SAY % "two")
    ok, text = admin.reload()
    assert (ok, text) == (True, "generation 2 live on 3 workers (1 route)")
    assert answers(node) == {"two"}
    assert {w["generation"] for w in admin.workers()} == {2}
    eventually(lambda: {w["generations_live"] for w in admin.workers()} == {1},
               "the old generation is gone")


def test_sigusr1_reloads(start):
    node = start(SAY % "one", workers=2)
    node.rewrite(SAY % "two")
    node.signal(signal.SIGUSR1)
    node.wait_log("SIGUSR1: reload scripts")
    node.wait_log("generation 2 live on 2 workers")
    assert answers(node) == {"two"}


def test_keep_alive_connection_gets_the_new_code(start):
    node = start(SAY % "one")
    client = node.connect()
    assert client.get("/").text == "one"
    node.rewrite(SAY % "two")
    assert Admin(node).reload()[0]
    assert client.get("/").text == "two"


BAD = {
    "syntax": ("app:get(", r"app\.lua:\d+"),
    "error": ('error("boom at load")', "boom at load"),
    "duplicate": ('app:get("/a", function() end) '
                  'app:get("/a", function() end)', "/a"),
    "missing module": ('require "not.there"', "not.there"),
    "not an app": ({"app.lua": 'local m = require "moonshine"\nreturn 7'},
                   "app"),
    "on_start": ('app:on_start(function() error("no start") end)',
                 "no start"),
    "segfault": ('require("ffi").cast("int *", 8)[0] = 1', "SIG"),
    "exit in C": ('local ffi = require "ffi" '
                  'ffi.cdef "void _exit(int)" ffi.C._exit(3)',
                  "exit code 3"),
    "os.exit": ("os.exit(0)", "exit"),
    "endless loop": ("while true do end", "load_timeout"),
    "endless on_start": ("app:on_start(function() while true do end end)",
                         "cpu limit|load_timeout"),
    "sleeping on_start": ('app:on_start(function() moonshine.sleep(100) end)',
                          "load_timeout"),
    "blocked in C": ('local ffi = require "ffi" '
                     'ffi.cdef "unsigned sleep(unsigned)" ffi.C.sleep(100)',
                     "load_timeout"),
    "all memory": ('local t = {} for i = 1, 1e9 do '
                   't[i] = ("x"):rep(100000) .. i end', "memory|load_timeout"),
    "config": ({"app.lua": SAY % "two", "config.lua": "no_such_key = 1"},
               "no_such_key"),
    "config syntax": ({"app.lua": SAY % "two", "config.lua": "cpu_limit ="},
                      "config.lua"),
    "template": ({"app.lua": "return 1 +", "views/a.html": "<%= x %>"},
                 r"app\.lua"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_script_never_replaces_a_good_one(start, kind):
    source, expected = BAD[kind]
    node = start(SAY % "good", workers=2, settings={"load_timeout": "1500ms"},
                 env=CRASH)
    admin = Admin(node)
    pids = {w["pid"] for w in admin.workers()}
    node.rewrite(source)
    ok, text = admin.reload()
    assert not ok
    assert re.search(expected, text), text
    assert answers(node, 6) == {"good"}
    status = admin.status()
    assert status["generation"] == 1
    assert status["last_reload"]["ok"] is False
    assert status["last_reload"]["text"] == text
    assert {w["pid"] for w in status["workers"]} == pids
    assert status["disk_differs"] is True
    node.wait_log("reload failed, generation 1 stays")
    # And the next good one does.
    node.rewrite({"app.lua": SAY % "better", "config.lua": ""})
    assert admin.reload()[0], node.log()
    assert answers(node, 6) == {"better"}


def test_nothing_of_a_probe_is_left(start, tmp_path):
    """What loading code starts ends with the probe."""
    pids = tmp_path / "pids"
    node = start(SAY % "good", settings={"load_timeout": "500ms"})
    node.rewrite("os.execute('echo $$ >> %s; exec sleep 1000')" % pids)
    ok, text = Admin(node).reload()
    assert not ok and "load_timeout" in text
    pid = int(pids.read_text())
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "sleep is gone")


def test_one_worker_that_refuses_keeps_all_on_the_old_code(start):
    node = start(SAY % "old", workers=3)
    admin = Admin(node)
    node.rewrite((SAY % "new") + """
        app:on_start(function()
            if moonshine.worker().id == 2 then error("worker two says no") end
        end)""")
    ok, text = admin.reload()
    assert not ok and "worker two says no" in text and "worker 2" in text
    assert answers(node) == {"old"}
    eventually(lambda: {w["generations_live"] for w in admin.workers()} == {1},
               "the refused generation is gone")


def test_worker_that_crashes_while_loading_votes_no(start):
    node = start(SAY % "old", workers=2, env=CRASH)
    admin = Admin(node)
    node.rewrite((SAY % "new") + """
        app:on_start(function()
            if moonshine.worker().id == 2 then
                require("ffi").cast("int *", 8)[0] = 1
            end
        end)""")
    ok, text = admin.reload()
    assert not ok and "worker 2 crashed while loading" in text, text
    admin.wait_serving(2)
    assert answers(node) == {"old"}


SLOW_VOTE = SAY + """
    app:on_start(function()
        if moonshine.worker().id == 2 then moonshine.sleep("1s") end
    end)"""


def test_worker_killed_before_it_voted_abstains(start):
    """Its replacement comes up on the old code and catches up."""
    node = start(SAY % "old", workers=3)
    admin = Admin(node)
    victim = admin.workers()[1]["pid"]
    node.rewrite(SLOW_VOTE % "new")
    result = []
    thread = threading.Thread(target=lambda: result.append(admin.reload()))
    thread.start()
    eventually(lambda: admin.workers()[1]["generations_live"] == 2,
               "worker 2 builds")
    os.kill(victim, signal.SIGKILL)
    thread.join(60)
    ok, text = result[0]
    assert ok, text
    eventually(lambda: {w["generation"] for w in admin.wait_serving(3)} == {2},
               "all serve the new code")
    assert answers(node) == {"new"}


def test_worker_that_does_not_answer_keeps_all_on_the_old_code(start):
    node = start(SAY % "one", workers=2, settings={"load_timeout": "3s"})
    admin = Admin(node)
    stopped = admin.workers()[1]["pid"]
    node.rewrite(SAY % "two")
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert admin.reload() == (False, "not loaded in time by worker 2")
        assert answers(node) == {"one"}
    finally:
        os.kill(stopped, signal.SIGCONT)
    # What it was asked for then it drops now; the next one is a new matter.
    ok, text = admin.reload()
    assert ok and text.endswith("live on 2 workers (1 route)"), text
    assert answers(node) == {"two"}
    assert stopped in [w["pid"] for w in admin.workers()]


def test_whoever_asked_may_leave(start):
    node = start(SAY % "one")
    admin = Admin(node)
    node.rewrite("app:on_start(function() moonshine.sleep('500ms') end) " +
                 SAY % "two")
    with Client(admin.address) as client:
        client.send(b"POST /-/reload HTTP/1.1\r\nHost: a\r\n\r\n")
        node.wait_log("reload asked for on the admin endpoint")
    node.wait_log("generation 2 live on 1 worker")
    assert answers(node) == {"two"}
    assert admin.reload()[0]


def test_worker_that_cannot_catch_up_is_replaced_alone(start, tmp_path):
    """Its drain must not stop the others from accepting."""
    mark = tmp_path / "mark"
    node = start(SAY % "old", workers=2)
    admin = Admin(node)
    node.rewrite(SAY % "new" + """
        app:on_start(function()
            local function marked()
                local file = io.open("%s")
                if file then file:close() end
                return file
            end
            local id = moonshine.worker().id
            while id == 1 and not marked() do moonshine.sleep("10ms") end
            if id == 2 and marked() then error("not here") end
        end)""" % mark)
    result = []
    thread = threading.Thread(target=lambda: result.append(admin.reload()))
    thread.start()
    eventually(lambda: admin.workers()[1]["generations_live"] == 2,
               "worker 2 builds")
    os.kill(admin.workers()[1]["pid"], signal.SIGKILL)
    eventually(lambda: admin.status()["worker_restarts"] == 1 and
               admin.workers()[1]["state"] == "serving", "it is back")
    mark.touch()
    node.wait_log("replacing it")
    for _ in range(50):
        assert node.get("/").text in ("old", "new")
    mark.unlink()
    thread.join(60)
    assert result[0][0], result
    admin.wait_serving(2)
    assert answers(node) == {"new"}


def test_dead_worker_returns_on_committed_code_not_on_disk(start):
    node = start({"app.lua": 'local word = require "lib.word" '
                             'app:get("/", function() return word end)',
                  "lib/word.lua": 'return "committed"'}, workers=1)
    admin = Admin(node)
    node.rewrite({"lib/word.lua": 'return "on disk"'})
    os.kill(admin.workers()[0]["pid"], signal.SIGKILL)
    eventually(lambda: admin.status()["worker_restarts"] == 1, "replaced")
    admin.wait_serving(1)
    assert answers(node) == {"committed"}
    assert admin.reload()[0]
    assert answers(node) == {"on disk"}


def test_outside_module_is_part_of_the_snapshot(start, tmp_path):
    (tmp_path / "outside.lua").write_text('return "outside"')
    node = start('package.path = "%s/?.lua;" .. package.path '
                 'local m = require "outside" '
                 'app:get("/", function() return m end)' % tmp_path)
    admin = Admin(node)
    assert answers(node, 1) == {"outside"}
    (tmp_path / "outside.lua").unlink()
    os.kill(admin.workers()[0]["pid"], signal.SIGKILL)
    eventually(lambda: admin.status()["worker_restarts"] == 1, "replaced")
    admin.wait_serving(1)
    assert answers(node, 1) == {"outside"}
    assert admin.status()["disk_differs"] is True


def test_release_link_is_followed_anew(start, tmp_path):
    write_app(tmp_path / "releases/1", SAY % "release 1")
    write_app(tmp_path / "releases/2", SAY % "release 2")
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    node = start(current)
    assert answers(node, 1) == {"release 1"}
    aside = tmp_path / "next"
    aside.symlink_to("releases/2")
    aside.replace(current)
    admin = Admin(node)
    assert admin.status()["disk_differs"] is True
    assert admin.reload()[0]
    assert answers(node, 1) == {"release 2"}
    assert admin.status()["app"].endswith("releases/2")


def test_second_signal_queues_one_more(start):
    slow = SAY + ' app:on_start(function() moonshine.sleep("300ms") end)'
    node = start(SAY % "one")
    node.rewrite(slow % "two")
    node.signal(signal.SIGUSR1)
    eventually(lambda: Admin(node).status()["reloading"], "it reloads")
    node.rewrite(slow % "three")
    node.signal(signal.SIGUSR1)
    node.wait_log("one more follows")
    for _ in range(5):
        node.signal(signal.SIGUSR1)
    node.wait_log("generation 3 live")
    assert answers(node, 1) == {"three"}
    eventually(lambda: not Admin(node).status()["reloading"], "it rests")
    # One more on a slow machine, where the first was over before the last.
    assert Admin(node).status()["reloads"] in (2, 3)


def test_request_in_flight_finishes_on_its_code(start):
    gate = """
        local gate = moonshine.shared("gate")
        app:get("/open", function() gate:set("open", true) return "" end) """
    node = start(gate + """
        app:get("/slow", function()
            while not gate:get("open") do moonshine.sleep("10ms") end
            return "old"
        end) """ + SAY % "old", settings={"shared": "gate=1m"})
    client = node.connect()
    client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    admin = Admin(node)
    eventually(lambda: any(r["path"] == "/slow" for r in admin.requests()),
               "it runs")
    node.rewrite(gate + 'app:get("/slow", function() return "new" end) '
                 + SAY % "new")
    assert admin.reload()[0]
    assert node.get("/").text == "new"
    assert admin.workers()[0]["generations_live"] == 2
    assert node.get("/open").status == 200
    assert client.read_response().text == "old"
    assert client.get("/slow").text == "new"
    eventually(lambda: admin.workers()[0]["generations_live"] == 1,
               "the old generation is gone")


TIMERS = SAY + """
    local function say(what)
        moonshine.log.info(what .. " " .. moonshine.generation())
    end
    moonshine.every("20ms", function() say("tick") end, { scope = "worker" })
    moonshine.every("20ms", function()
        say("begin")
        moonshine.sleep("300ms")
        say("end")
    end, { scope = "worker" })
    moonshine.spawn(function()
        say("spawned")
        moonshine.sleep("400ms")
        say("done")
    end)"""


def test_a_body_that_arrives_over_a_reload(start):
    """Its request is not on the old VM yet, which must not close meanwhile:
    the handler waits, and leaves nothing open behind."""
    app = ('app:post("/slow", function(c) moonshine.sleep("50ms") '
           'return "%s" end)')
    node = start(app % "old", settings={"log.level": "debug"})
    with Client(node.address) as client:
        client.send(b"POST /slow HTTP/1.1\r\nHost: a\r\n"
                    b"Content-Length: 4\r\n\r\nbo")
        eventually(lambda: any(r["path"] == "/slow" for r in
                               Admin(node).requests()), "it has begun")
        node.rewrite(app % "new")
        assert node.command("reload").returncode == 0
        # on_stop is over, and with it the last task of the old VM
        with Client(node.address) as other:
            assert other.request("POST", "/slow", None, b"").text == "new"
        client.send(b"dy")
        assert client.read_response().text == "old"
    node.wait_log("generation 1 is unused")
    node.signal(signal.SIGTERM)
    assert node.process.wait(30) == 0
    assert "handles were left open" not in node.log()


def test_timers_belong_to_their_generation(start):
    """The old ones stop, but what they are at goes on to its end."""
    node = start(TIMERS % "one")
    node.wait_log("begin 1")
    node.rewrite(TIMERS % "two")
    admin = Admin(node)
    assert admin.reload()[0]
    node.wait_log("end 2")
    eventually(lambda: admin.workers()[0]["generations_live"] == 1,
               "the old generation is gone")
    node.wait_log("done 1")  # lines are written behind the news of status
    log = node.log()
    for old, new in (("tick 1", "tick 2"), ("begin 1", "begin 2"),
                     ("spawned 1", "spawned 2")):
        assert log.rindex(old) < log.index(new)
    assert log.count("begin 1") == log.count("end 1")
    assert log.count("done 1") == 1


def test_timer_in_the_middle_is_cancelled_in_the_end(start):
    node = start("""moonshine.every("10ms", function()
        moonshine.log.info("begin")
        moonshine.sleep(60)
    end, { scope = "worker" }) """ + SAY % "one",
                 settings={"drain_timeout": "200ms"})
    node.wait_log("begin")
    node.rewrite(SAY % "two")
    admin = Admin(node)
    assert admin.reload()[0]
    eventually(lambda: admin.workers()[0]["generations_live"] == 1,
               "the old generation is gone")


STREAM = """
    app:get("/stream", function(c)
        c:stream(function(write)
            while true do
                local ok = write("%s\\n")
                if not ok then return end
                moonshine.sleep("50ms")
            end
        end)
    end) """


def begin_stream(node):
    client = node.connect()
    client.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_head().status == 200
    pieces = client.read_chunks()
    return client, pieces, next(pieces)


def test_stream_lingers_then_is_ended(start):
    node = start(STREAM % "one" + SAY % "one",
                 settings={"linger": "1s", "drain_timeout": "300ms"})
    _, pieces, first = begin_stream(node)
    assert first == b"one\n"
    node.rewrite(SAY % "two")
    admin = Admin(node)
    assert admin.reload()[0]
    assert node.get("/").text == "two"
    assert next(pieces) == b"one\n"
    with pytest.raises(Exception):
        for _ in range(1000):
            next(pieces)
    node.wait_log("linger is over")
    eventually(lambda: admin.workers()[0]["generations_live"] == 1,
               "the old generation is gone")


def test_oldest_generation_ends_at_max_generations(start):
    node = start(STREAM % "1" + SAY % "1", settings={"max_generations": 2})
    admin = Admin(node)
    _, pieces, _ = begin_stream(node)
    node.rewrite(STREAM % "2" + SAY % "2")
    assert admin.reload()[0]
    assert next(pieces) == b"1\n"
    node.rewrite(STREAM % "3" + SAY % "3")
    assert admin.reload()[0]
    node.wait_log("max_generations are alive")
    with pytest.raises(Exception):
        for _ in range(1000):
            next(pieces)
    assert answers(node, 1) == {"3"}


def test_rollback_walks_back(start):
    node = start(SAY % "one", workers=2)
    admin = Admin(node)
    ok, text = admin.rollback()
    assert not ok and "no older version" in text
    for word in ("two", "three"):
        node.rewrite(SAY % word)
        assert admin.reload()[0]
    assert admin.status()["kept"] == 3
    assert admin.reload()[0], "the same again"
    assert admin.status()["kept"] == 3
    for word in ("two", "one"):
        ok, text = admin.rollback()
        assert ok, text
        assert answers(node) == {word}
    assert not admin.rollback()[0]
    assert answers(node) == {"one"}
    status = admin.status()
    assert status["rollbacks"] == 2 and status["disk_differs"] is True
    # The code on disk is still the newest; a reload takes it again.
    assert admin.reload()[0]
    assert answers(node) == {"three"}


def test_start_falls_back_on_the_last_committed_code(start, tmp_path):
    state = tmp_path / "state"
    app = write_app(tmp_path / "app", SAY % "good")
    first = start(app, state_dir=state)
    assert answers(first, 1) == {"good"}
    first.stop()
    write_app(app, "app:get(")
    node = start(app, state_dir=state)
    assert answers(node, 1) == {"good"}
    admin = Admin(node)
    status = admin.status()
    assert "app.lua" in status["fallback"]
    assert status["disk_differs"] is True
    node.wait_log("fallback")
    write_app(app, SAY % "mended")
    assert admin.reload()[0]
    assert answers(node, 1) == {"mended"}
    assert admin.status()["fallback"] is None


def test_start_falls_back_when_config_is_broken(start, tmp_path):
    state = tmp_path / "state"
    app = write_app(tmp_path / "app", SAY % "good")
    start(app, state_dir=state).stop()
    write_app(app, {"config.lua": "linger = 'forever'"})
    node = start(app, state_dir=state)
    assert answers(node, 1) == {"good"}
    assert "linger" in Admin(node).status()["fallback"]


WORKERS_FAIL = SAY + """
    app:on_start(function()
        if moonshine.worker().id > 0 then error("not in a worker") end
    end)"""


def test_workers_that_never_come_up_end_the_start(start, tmp_path):
    node = start(WORKERS_FAIL % "bad", workers=2, wait=False)
    assert node.process.wait(30) == 1
    node.expect_exit = 1
    assert "cannot start: worker" in node.log()
    assert "not in a worker" in node.log()
    # With a version that has served, that one serves again.
    state = tmp_path / "state"
    app = write_app(tmp_path / "app", SAY % "good")
    start(app, state_dir=state).stop()
    write_app(app, WORKERS_FAIL % "bad")
    node = start(app, state_dir=state, workers=2)
    assert answers(node) == {"good"}
    assert "not in a worker" in Admin(node).status()["fallback"]


def test_no_fallback_on_another_application(start, tmp_path):
    """One that had this name before: its code is not what was asked for."""
    state = tmp_path / "state"
    start(SAY % "first", state_dir=state).stop()
    other = write_app(tmp_path / "other", "app:get(")
    for args in ([], ["--config", tmp_path / "none.lua"]):
        node = start(other, *args, state_dir=state, wait=False)
        assert node.process.wait(20) == 1
        assert "cannot start" in node.log()
        node.expect_exit = 1
    write_app(other, SAY % "other")
    node = start(other, state_dir=state)
    assert Admin(node).status()["kept"] == 1
    ok, text = Admin(node).rollback()
    assert not ok, text
    assert answers(node, 1) == {"other"}


def test_fallback_knows_its_application_by_other_spellings(start, tmp_path):
    state = tmp_path / "state"
    app = write_app(tmp_path / "app", SAY % "good")
    start(app, state_dir=state).stop()
    write_app(app, "app:get(")
    node = start(app / "app.lua", state_dir=state)
    assert answers(node, 1) == {"good"}


def test_no_fallback_exits(start, tmp_path):
    state = tmp_path / "state"
    app = write_app(tmp_path / "app", SAY % "good")
    start(app, state_dir=state).stop()
    write_app(app, "app:get(")
    node = start(app, "--no-fallback", state_dir=state, wait=False)
    assert node.process.wait(20) == 1
    assert "cannot start" in node.log()
    node.expect_exit = 1


def test_broken_app_without_history_exits(start):
    node = start("app:get(", wait=False)
    assert node.process.wait(20) == 1
    assert "app.lua" in node.log()
    node.expect_exit = 1


def test_restart_only_key_is_reported(start):
    node = start({"app.lua": SAY % "one", "config.lua": ""})
    node.rewrite({"config.lua": 'admin = "unix:/elsewhere"\nlinger = "5s"'})
    assert Admin(node).reload()[0]
    node.wait_log("a restart is needed for it: admin")


def test_dev_reloads_on_save(start):
    node = start(SAY % "one", "--dev")
    assert answers(node, 1) == {"one"}
    node.rewrite(SAY % "two")
    eventually(lambda: answers(node, 1) == {"two"}, "reloaded")
    node.rewrite({"lib/new.lua": 'return "three"'})
    node.rewrite('local w = require "lib.new" '
                 'app:get("/", function() return w end)')
    eventually(lambda: answers(node, 1) == {"three"}, "reloaded")
    node.rewrite({"lib/new.lua": 'return "four"'})
    eventually(lambda: answers(node, 1) == {"four"}, "reloaded")


def test_dev_shows_the_error_instead_of_the_old_answer(start):
    node = start(SAY % "one", "--dev", workers=2)
    node.rewrite('app:get("/", function() return "<two" end')
    eventually(lambda: node.get("/").status == 500, "the error is shown")
    for _ in range(6):
        page = node.get("/", {"Accept": "text/html"})
        assert page.status == 500 and "app.lua:" in page.text
        assert "does not load" in page.text and "<two" not in page.text
        assert "app.lua:" in node.get("/any").json()["detail"]
    assert node.get("/-/ready").status == 200
    node.rewrite(SAY % "two")
    eventually(lambda: answers(node, 4) == {"two"}, "it loads again")


def test_reloads_under_load_lose_nothing(start):
    node = start('app:get("/load", function() return "ok" end)', workers=2)
    admin = Admin(node)
    with Load(node, "/load", clients=8, body=b"ok") as load:
        load.progress(200)
        for i in range(6):
            bad = i % 3 == 2
            node.rewrite("app:get(" if bad else
                         f'app:get("/load", function() return "ok" end) -- {i}')
            assert admin.reload()[0] is not bad
            load.progress(100)
    assert load.failures == []
    assert admin.status()["generation"] == 5


def test_app_directory_may_vanish(start, tmp_path):
    app = write_app(tmp_path / "app", SAY % "one")
    node = start(app)
    shutil.rmtree(app)
    ok, text = Admin(node).reload()
    assert not ok and "no application there" in text or "cannot read" in text
    assert answers(node, 1) == {"one"}
