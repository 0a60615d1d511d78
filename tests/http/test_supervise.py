"""The master keeps workers alive, ends those that hang, and says what is."""

import os
import pathlib
import pwd
import re
import signal
import socket
import struct
import tempfile
import time

import pytest

from support.admin import Admin
from support.client import Client, Closed
from support.load import Load
from support.node import command, eventually, free_port, write_app

# A sanitizer would report the crash that is asked for.
CRASH = {"ASAN_OPTIONS": "detect_leaks=1:exitcode=99:handle_segv=0",
         "TSAN_OPTIONS": "handle_segv=0:report_thread_leaks=0"}
SAY = 'app:get("/", function() return "ok" end) '


def test_killed_worker_is_replaced(start):
    node = start(SAY, workers=2)
    admin = Admin(node)
    before = [w["pid"] for w in admin.workers()]
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: admin.status()["worker_restarts"] == 1, "replaced")
    after = [w["pid"] for w in admin.wait_serving(2)]
    assert after[0] != before[0] and after[1] == before[1]
    assert {node.get("/").status for _ in range(8)} == {200}
    node.wait_log(r"worker 1 \(pid \d+\) died: SIGKILL")


def test_crash_in_a_handler_takes_one_worker_only(start):
    node = start(SAY + """
        app:get("/crash", function()
            require("ffi").cast("int *", 8)[0] = 1
        end)""", workers=3, env=CRASH)
    admin = Admin(node)
    before = {w["pid"] for w in admin.workers()}
    with Client(node.address) as client:
        client.send(b"GET /crash HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_rest() == b""
    eventually(lambda: admin.status()["worker_restarts"] == 1, "replaced")
    after = {w["pid"] for w in admin.wait_serving(3)}
    assert len(before & after) == 2
    assert node.get("/").text == "ok"


NONSENSE = """
    local ffi = require "ffi"
    ffi.cdef "int getsockopt(int, int, int, void *, unsigned *);"
    ffi.cdef "long send(int, const void *, size_t, int);"
    app:get("/send", function(c)
        local kind, size, sent = ffi.new("int[1]"), ffi.new("unsigned[1]", 4), 0
        local text = moonshine.decode.hex(c:query("bytes"))
        for fd = 3, 200 do
            size[0] = 4
            -- SOL_SOCKET, SO_TYPE: SOCK_SEQPACKET
            if ffi.C.getsockopt(fd, 1, 3, kind, size) == 0 and kind[0] == 5 then
                ffi.C.send(fd, text, #text, 0)
                sent = sent + 1
            end
        end
        return tostring(sent)
    end) """


READY, PREPARED, FAILED, COMMITTED, TEXT = 9, 10, 11, 12, 14
KILLED = r"worker \d is killed: it sent what is no message"


def packet(kind, magic=0x6d6f6f63, text=b"", length=None, number=1 << 60):
    return struct.pack("=4I2Q", magic, kind, 0,
                       len(text) if length is None else length,
                       number, number) + text


@pytest.mark.parametrize("bytes_, said", [
    (packet(999), r"message 999 of worker \d makes no sense"),
    (packet(READY, magic=1), KILLED),
    (b"short", KILLED),
    (packet(READY, text=b"less", length=5000), KILLED),
    # Votes on what nobody asked.
    (packet(PREPARED), None),
    (packet(FAILED, text=b"no"), None),
    (packet(COMMITTED), None),
    (packet(TEXT, text=b"no\tnonsense\n"), None),
], ids=["kind", "magic", "short", "length", "prepared", "failed", "committed",
        "text"])
def test_what_a_worker_sends_is_not_believed(start, bytes_, said):
    """Foreign code runs in it, and may write on any descriptor."""
    node = start(SAY + NONSENSE, workers=2)
    try:
        assert node.get("/send?bytes=" + bytes_.hex()).text == "1"
    except Closed:
        assert said is not None  # it may cost the worker
    if said:
        node.wait_log(said)
    admin = Admin(node)
    if said == KILLED:
        eventually(lambda: admin.status()["worker_restarts"] == 1, "replaced")
    admin.wait_serving(2)
    assert node.get("/").text == "ok"
    node.rewrite('app:get("/", function() return "new" end)')
    assert admin.reload() == (True, "generation 2 live on 2 workers (1 route)")
    assert {node.get("/").text for _ in range(12)} == {"new"}
    assert {w["generation"] for w in admin.workers()} == {2}


def test_all_workers_killed_at_once(start):
    node = start(SAY, workers=3)
    admin = Admin(node)
    for worker in admin.workers():
        os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: admin.status()["worker_restarts"] == 3, "replaced")
    admin.wait_serving(3)
    assert node.get("/").text == "ok"


def test_worker_that_dies_before_ready_is_tried_again_later(start, tmp_path):
    """At once for a death after ready, with a pause for one before."""
    trap = tmp_path / "trap"
    node = start(SAY + """
        app:on_start(function()
            if moonshine.worker().id > 0 and io.open("%s") then
                error("trapped")
            end
        end)""" % trap)
    admin = Admin(node)
    trap.touch()
    os.kill(admin.workers()[0]["pid"], signal.SIGKILL)
    node.wait_log(r"(?s)next try in 100 ms.*next try in 200 ms.*"
                  r"next try in 400 ms")
    assert "trapped" in node.log()
    assert admin.ask("GET", "/-/ready").status == 503
    assert admin.ask("GET", "/-/live").status == 200
    assert admin.workers()[0]["state"] != "serving"
    trap.unlink()
    admin.wait_serving(1)
    assert node.get("/").text == "ok"


def test_reload_mends_what_keeps_workers_from_starting(start, tmp_path):
    trap = tmp_path / "trap"
    node = start(SAY + """
        app:on_start(function()
            if moonshine.worker().id > 0 and io.open("%s") then
                error("trapped")
            end
        end)""" % trap)
    admin = Admin(node)
    trap.touch()
    os.kill(admin.workers()[0]["pid"], signal.SIGKILL)
    node.wait_log("next try in 200 ms")
    node.rewrite('app:get("/", function() return "mended" end)')
    ok, text = admin.reload()
    assert ok, text
    admin.wait_serving(1)
    assert node.get("/").text == "mended"


def test_one_long_c_call_is_killed(start):
    """No hook and no safepoint ends string.find; the master does."""
    node = start(SAY + """
        app:get("/find", function()
            return tostring(("a"):rep(3000):find(".-.-.-.-b"))
        end)""", workers=2, settings={"cpu_limit": "100ms"})
    admin = Admin(node)
    with Client(node.address) as client:
        client.send(b"GET /find HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_rest() == b""
    eventually(lambda: admin.status()["worker_kills"] == 1, "killed")
    node.wait_log(r"killed: the handler was in one C call for \d+ ms: "
                  r"route /find, at app\.lua:\d+, path /find, request \w+")
    admin.wait_serving(2)
    assert node.get("/").text == "ok"


BLOCK = SAY + """
    local ffi = require "ffi"
    ffi.cdef "int usleep(unsigned)"
    app:get("/block", function(c)
        ffi.C.usleep(c:query_int("ms", {}) * 1000)
        return "slept"
    end)"""


def test_blocked_worker_is_killed_at_hang_timeout(start):
    node = start(BLOCK, workers=2, settings={"hang_timeout": "1s"})
    admin = Admin(node)
    with Client(node.address) as client:
        client.send(b"GET /block?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: any(w["state"] == "busy" for w in admin.workers()),
                   "the master sees it")
        # New connections go to the other one meanwhile.
        for _ in range(20):
            assert node.get("/").text == "ok"
        assert client.read_rest() == b""
    node.wait_log(r"killed: the handler was blocked \(hang_timeout\)")
    admin.wait_serving(2)


def test_short_block_kills_nobody(start):
    node = start(BLOCK, settings={"cpu_limit": "50ms", "hang_timeout": "10s"})
    assert node.get("/block?ms=1500").text == "slept"
    assert Admin(node).status()["worker_kills"] == 0


def test_stopped_worker_is_left_alone(start):
    node = start(SAY, workers=2, settings={"hang_timeout": "500ms"})
    admin = Admin(node)
    pid = admin.workers()[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: admin.workers()[0]["state"] == "busy", "it is seen")
        for _ in range(10):
            assert node.get("/").text == "ok"
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: admin.workers()[0]["state"] == "serving", "it is back")
    assert admin.status()["worker_kills"] == 0


def test_signals_to_a_worker_do_no_harm(start):
    node = start(SAY)
    pid = Admin(node).workers()[0]["pid"]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        os.kill(pid, number)
    node.wait_log("SIGTERM ignored: send it to the master")
    assert node.get("/").text == "ok"
    node.rewrite('app:get("/", function() return "new" end)')
    os.kill(pid, signal.SIGUSR1)
    node.wait_log("passed on to the master")
    node.wait_log("generation 2 live")
    assert node.get("/").text == "new"
    assert Admin(node).workers()[0]["pid"] == pid


def test_hup_opens_the_log_again(start, tmp_path):
    log = tmp_path / "app.log"
    node = start(SAY, settings={"log.file": log})
    log.rename(tmp_path / "old.log")
    node.signal(signal.SIGHUP)
    eventually(lambda: log.exists() and "SIGHUP" in
               (tmp_path / "old.log").read_text(), "a new log file")
    assert node.get("/").text == "ok"
    eventually(lambda: "target=/ " in log.read_text(),
               "the worker writes to the new file")


def test_workers_end_when_the_master_is_killed(start, tmp_path):
    port = free_port()
    app = write_app(tmp_path / "app", SAY)
    node = start(app, workers=2, listen=f"127.0.0.1:{port}",
                 run_dir=tmp_path / "run", state_dir=tmp_path / "state",
                 settings={"drain_idle": "300ms"})
    workers = node.children()
    assert len(workers) == 2
    node.signal(signal.SIGKILL)
    node.process.wait(10)
    node.expect_exit = -signal.SIGKILL
    eventually(lambda: not node.session(), "no worker is left")
    # The socket and the pid file that it left behind are in nobody's way.
    again = start(app, listen=f"127.0.0.1:{port}", run_dir=tmp_path / "run",
                  state_dir=tmp_path / "state")
    assert again.get("/").text == "ok"


def test_same_name_twice_is_refused(start, tmp_path):
    node = start(SAY, run_dir=tmp_path / "run")
    other = start(SAY, run_dir=tmp_path / "run", wait=False)
    assert other.process.wait(20) == 1
    other.expect_exit = 1
    assert "is running already" in other.log()
    assert str(node.pid) in other.log()
    assert node.get("/").text == "ok"


def test_port_in_use_is_said(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = start(SAY, listen=f"127.0.0.1:{port}", wait=False)
        assert node.process.wait(20) == 1
        node.expect_exit = 1
        assert f"cannot listen on 127.0.0.1:{port}" in node.log()


def test_dev_listens_on_loopback_only(start):
    port = free_port()
    node = start(SAY, "--dev", listen=f"0.0.0.0:{port}", wait=False)
    assert node.process.wait(20) == 1
    node.expect_exit = 1
    assert "--dev-public" in node.log()
    node = start(SAY, "--dev", "--dev-public", listen=f"0.0.0.0:{port}")
    assert node.get("/").text == "ok"


def test_second_term_exits_at_once(start):
    node = start('app:get("/slow", function() moonshine.sleep(20) end)')
    with Client(node.address) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: Admin(node).requests(), "it runs")
        node.signal(signal.SIGTERM)
        node.wait_log("SIGTERM: finishing")
        assert signal_until_exit(node, signal.SIGTERM) == 1
        node.expect_exit = 1
    node.wait_log("SIGTERM again: exiting at once")


def signal_until_exit(node, number):
    """One that comes within 100 ms of the first counts as the first."""
    def ended():
        if node.process.poll() is None:
            node.signal(number)
        return node.process.poll() is not None
    eventually(ended, "the node exits")
    return node.process.returncode


def test_a_signal_sent_twice_at_once_is_one(start):
    """As timeout(1) does: to the process and to its group."""
    node = start('app:get("/", function() moonshine.sleep(0.5) return "x" end)')
    with Client(node.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: Admin(node).requests(), "it runs")
        node.signal(signal.SIGINT)
        node.signal(signal.SIGTERM)
        assert client.read_response().text == "x"
    assert node.process.wait(20) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_must_name_a_user(start):
    node = start(SAY, env={"MOONSHINE_USER": ""}, wait=False)
    assert node.process.wait(20) == 1
    node.expect_exit = 1
    assert "running as root" in node.log()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_workers_run_as_the_user(start):
    nobody = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        app = write_app(pathlib.Path(home) / "app", SAY)
        node = start(app, env={"MOONSHINE_USER": "nobody"})
        admin = Admin(node)
        assert node.get("/").text == "ok"
        with open(f"/proc/{admin.workers()[0]['pid']}/status",
                  encoding="ascii") as status:
            uids = re.search(r"Uid:\s+(\d+)\s+(\d+)\s+(\d+)", status.read())
        assert {int(uid) for uid in uids.groups()} == {nobody}
        write_app(app, 'app:get("/", function() return "two" end)')
        assert admin.reload()[0]
        assert node.get("/").text == "two"
        assert admin.status()["kept"] == 2
        node.stop()


def eventually_steady(read):
    """A value once it has not changed for as long as counters may lag."""
    last = [read(), time.monotonic()]

    def steady():
        value = read()
        if value != last[0]:
            last[:] = [value, time.monotonic()]
        return time.monotonic() - last[1] > 0.5

    eventually(steady, "the counters rest")
    return last[0]


def test_status_requests_and_metrics(start):
    node = start(SAY + """
        app:get("/slow/:id", function() moonshine.sleep("800ms") return "x" end)
        app:get("/bad", function() error("bad") end)""", workers=2)
    admin = Admin(node)

    def failed():
        return sum(w["status_5xx"] for w in admin.workers())

    # Answers to /-/ready at start are among them.
    before = eventually_steady(failed)
    assert node.get("/bad").status == 500
    with Client(node.address) as client:
        client.send(b"GET /slow/7?q=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        found = eventually(
            lambda: [r for r in admin.requests() if r["age_ms"] > 50],
            "it is listed")
        assert found[0]["path"] == "/slow/7"
        assert found[0]["route"] == "/slow/:id"
        assert found[0]["method"] == "GET"
        assert found[0]["waits_on"] == "sleep", found
        assert 0 <= found[0]["age_ms"] < 5000
        table = admin.ask("GET", "/-/requests", {"Accept": "text/plain"}).text
        assert "/slow/:id" in table and "WAITS ON" in table
        def count(name):
            return sum(w[name] for w in admin.workers())

        eventually(lambda: count("in_flight") == 1 and
                   count("lua_errors") == 1 and failed() == before + 1,
                   "it is counted")
        assert client.read_response().text == "x"
    table = admin.ask("GET", "/-/status", {"Accept": "text/plain"}).text
    assert "WORKER" in table and node.name in table
    metrics = admin.ask("GET", "/-/metrics").text
    assert f'_responses_total{{class="5xx"}} {before + 1}\n' in metrics
    assert "moonshine_workers 2" in metrics


def test_counters_survive_a_worker(start):
    node = start(SAY)
    admin = Admin(node)
    for _ in range(5):
        node.get("/")
    eventually(lambda: admin.workers()[0]["requests"] >= 5, "counted")
    before = admin.workers()[0]["requests"]
    os.kill(admin.workers()[0]["pid"], signal.SIGKILL)
    eventually(lambda: admin.status()["worker_restarts"] == 1, "replaced")
    assert admin.wait_serving(1)[0]["requests"] >= before


def test_admin_over_tcp_needs_the_token(start):
    port = free_port()
    node = start(SAY, "--admin", f"127.0.0.1:{port}", wait=False)
    assert node.process.wait(20) == 1
    node.expect_exit = 1
    assert "admin_token" in node.log()
    node = start(SAY, "--admin", f"127.0.0.1:{port}",
                 env={"MOONSHINE_ADMIN_TOKEN": "s3cret"})
    admin = Admin(node, ("127.0.0.1", port))
    assert admin.ask("GET", "/-/live").status == 200
    assert admin.ask("GET", "/-/status").status == 401
    for wrong in ("Bearer s3cre", "Bearer s3crett", "Basic s3cret", "Bearer "):
        assert admin.ask("POST", "/-/reload",
                         {"Authorization": wrong}).status == 401
    good = {"Authorization": "Bearer s3cret"}
    assert admin.ask("GET", "/-/status", good).status == 200
    assert admin.ask("POST", "/-/reload", good).status == 200


def test_admin_refuses_what_it_does_not_know(start):
    admin = Admin(start(SAY))
    assert admin.ask("GET", "/-/nothing").status == 404
    assert admin.ask("GET", "/-/reload").status == 405
    assert admin.ask("DELETE", "/-/status").status == 405
    assert admin.ask("POST", "/").status == 404


def test_health_on_the_app_listener(start):
    node = start(SAY)
    assert node.get("/-/live").status == 200
    assert node.get("/-/ready").status == 200
    assert node.get("/-/status").status == 404
    assert node.request("POST", "/-/reload").status in (404, 405)


def test_killing_workers_under_load(start):
    """Only what was on the worker that died is lost."""
    node = start(SAY, workers=3)
    admin = Admin(node)
    with Load(node, "/", clients=6, body=b"ok", expect_closed=True) as load:
        for turn in range(4):
            load.progress(50)
            os.kill(admin.wait_serving(3)[turn % 3]["pid"], signal.SIGKILL)
            eventually(lambda: admin.status()["worker_restarts"] == turn + 1,
                       "replaced")
    assert all("status" not in str(f) for f in load.failures), load.failures
    assert admin.wait_serving(3)


def test_stop_by_the_command(start):
    node = start(SAY)
    result = node.command("stop")
    assert result.returncode == 0, result
    assert node.process.wait(20) == 0


def test_commands_reload_rollback_status(start):
    node = start(SAY)
    node.rewrite('app:get("/", function() return "two" end)')
    result = node.command("reload")
    assert result.returncode == 0
    assert "generation 2 live on 1 worker (1 route)" in result.stdout
    node.rewrite("app:get(")
    result = node.command("reload")
    assert result.returncode == 1
    assert "app.lua" in result.stderr + result.stdout
    result = node.command("rollback")
    assert result.returncode == 0 and node.get("/").text == "ok"
    result = node.command("status")
    assert result.returncode == 0 and "generation" in result.stdout
    assert node.command("status", "--requests").returncode == 0


def test_check_in_a_child(tmp_path):
    app = write_app(tmp_path / "good", SAY)
    result = command("check", app)
    assert result.returncode == 0 and result.stdout == "ok: 1 route\n"
    app = write_app(tmp_path / "crash",
                    'require("ffi").cast("int *", 8)[0] = 1')
    result = command("check", app, env=CRASH)
    assert result.returncode == 1
    assert "crashed while loading (SIGSEGV)" in result.stderr


def test_master_uses_little_while_idle(start):
    """It wakes ten times a second, not more."""
    node = start(SAY, workers=2)
    def switches():
        with open(f"/proc/{node.pid}/status", encoding="ascii") as status:
            return int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)",
                                 status.read())[1])
    before, began = switches(), time.monotonic()
    eventually(lambda: switches() - before >= 10, "it ticks")
    assert (switches() - before) / (time.monotonic() - began) < 40


def test_kill_before_ready_costs_no_pause_the_first_time(start, tmp_path):
    """Somebody ended it from outside: that says nothing about the code. Twice
    in a row may be for want of memory."""
    gate = tmp_path / "gate"
    node = start(SAY + """
        app:on_start(function()
            while moonshine.worker().id > 0 and io.open("%s") do
                moonshine.sleep("10ms")
            end
        end)""" % gate)
    admin = Admin(node)
    gate.touch()
    victim = admin.workers()[0]["pid"]
    for _ in range(2):  # the first serves, the second starts
        os.kill(victim, signal.SIGKILL)
        before, victim = victim, eventually(
            lambda: next((w["pid"] for w in admin.workers()
                          if w["state"] == "starting" and
                          w["pid"] not in (0, victim)), None),
            "the next one starts")
        assert victim != before
    assert "next try in" not in node.log()
    os.kill(victim, signal.SIGKILL)
    node.wait_log("next try in 200 ms")
    gate.unlink()
    admin.wait_serving(1)
    node.wait_log(r"worker 1 \(pid \d+\) serves, [\d.]+ ms after the last one "
                  r"died; loading the application took [\d.]+")
    assert node.get("/").text == "ok"
