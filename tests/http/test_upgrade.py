"""SIGUSR2: a new binary takes over, or the old one serves on."""

import collections
import os
import pathlib
import signal
import threading

import pytest

from support.admin import Admin
from support.client import Client, build, connect
from support.node import BINARY, eventually, free_port, write_app
from support.upgrade import (Adopted, Dialer, Poster, adopting, copy, failed,
                             follow, program, replace, settled, upgrade)

APP = """
    local dict = moonshine.shared("things")
    local hits = moonshine.metrics.counter("hits_total", "Requests")
    local tight = moonshine.limit.token_bucket {
        rate = 1, per = "1h", burst = 3, name = "tight", key = "all" }
    app:get("/", function() return "ok" end)
    app:get("/slow", function() moonshine.sleep("700ms") return "slow" end)
    app:get("/held", function()
        while not dict:get("open") do moonshine.sleep("10ms") end
        return "held"
    end)
    app:get("/open", function() dict:set("open", true) return "" end)
    app:post("/count", function(c)
        hits:inc()
        dict:incr("bodies", 1, 0)
        dict:incr("bytes", #c:body(), 0)
        return c:body()
    end)
    app:get("/counted", function()
        return { bodies = dict:get("bodies"), bytes = dict:get("bytes") }
    end)
    app:get("/tight", tight, function() return "passed" end)
"""
SETTINGS = {"shared": "things=1m"}
# The loads to come wait for as long as the file is there.
GATED = """
    local function is_shut()
        local gate = io.open(%r)
        local text = gate:read("*a")
        gate:close()
        return text == "shut"
    end
    app:on_start(function()
        while is_shut() do moonshine.sleep("20ms") end
    end)
    app:get("/", function() return "ok" end)
"""


@pytest.fixture(autouse=True)
def adopted():
    with adopting():
        yield


def boot(start, tmp_path, app=APP, **options):
    options.setdefault("workers", 2)
    options.setdefault("settings", SETTINGS)
    return start(app, binary=str(program(tmp_path)), **options)


# ---- what goes well ----


def test_a_new_binary_takes_over(start, tmp_path):
    node = boot(start, tmp_path)
    pid_file = node.run_dir / node.name / "pid"
    before = Admin(node).status()
    first = node.pid
    status = upgrade(node)
    assert node.pid != first and status["pid"] == node.pid
    assert pid_file.read_text() == f"{node.pid}\n"
    assert status["generation"] == before["generation"] + 1
    assert status["upgrades"] == 1 and status["upgrades_failed"] == 0
    assert status["last_upgrade"]["ok"]
    assert node.get("/").text == "ok"
    assert f"{before['version']} (pid {node.pid}) serves now" in node.log()
    # The old workers are gone, and what is there is ours.
    workers = Admin(node).wait_serving(2)
    assert sorted(w["pid"] for w in workers) == sorted(node.children())
    # And once more: the slots of the first ones are used again.
    for count in (2, 3):
        assert upgrade(node)["upgrades"] == count
        assert node.get("/").text == "ok"
    ok, text = Admin(node).reload()
    assert ok, text
    assert node.command("stop").returncode == 0
    node.ending = True
    assert node.process.wait(20) == 0
    assert not pid_file.exists()


def test_what_replaced_the_file_runs(start, tmp_path):
    """Not the file that was started, though it still exists for the kernel."""
    path = copy(tmp_path)
    node = start(APP, binary=str(path), settings=SETTINGS)
    replace(path, f'#!/bin/sh\necho "replaced $1" >&2\n'
            f'exec "{BINARY}" "$@"\n')
    upgrade(node)
    assert "replaced run" in node.log()
    assert node.get("/").text == "ok"


def test_a_program_found_in_path(start, tmp_path, monkeypatch):
    program(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    node = start(APP, binary="moonshine", settings=SETTINGS)
    upgrade(node)
    assert f"executing {tmp_path}/moonshine" in node.log()


def test_a_script_that_forks(start, tmp_path):
    """A wrapper that does not exec: the master is not the child we forked."""
    path = program(tmp_path)
    node = start(APP, binary=str(path), settings=SETTINGS)
    replace(path, f'#!/bin/sh\n"{BINARY}" "$@"\nexit $?\n')
    upgrade(node)
    assert node.get("/").text == "ok"
    node.signal(signal.SIGTERM)
    eventually(lambda: not node.session(), "both have ended")
    node.process.poll = lambda: 0
    node.process.wait = lambda *_: 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nothing_is_lost_under_load(start, tmp_path, kind):
    listen = None if kind == "tcp" else f"unix:{tmp_path}/app.sock"
    node = boot(start, tmp_path, listen=listen)
    asked = []

    def ask_admin(stop):
        while not stop.is_set():
            asked.append(Admin(node).ask("GET", "/-/status").status)

    with Poster(node) as posts, Dialer(node) as dials:
        thread = threading.Thread(target=ask_admin, args=(dials.stop,))
        thread.start()
        for _ in range(3):
            posts.progress(300)
            upgrade(node)
        posts.progress(300)
        dials.stop.set()
        thread.join(30)
    assert posts.lost == [] and dials.lost == []
    assert set(posts.counts) == {200} and dials.done > 50
    assert set(asked) == {200}, "the admin socket answers all the time"
    # Each ran once: neither lost nor repeated, and its body was whole.
    counted = node.get("/counted").json()
    assert counted["bodies"] == posts.counts[200]
    assert counted["bytes"] == 100 * posts.counts[200]
    metrics = Admin(node).ask("GET", "/-/metrics").text
    assert f"\nhits_total {posts.counts[200]}\n" in metrics
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    if kind == "unix":
        assert not (tmp_path / "app.sock").exists(), "the last one removes it"


def test_requests_in_flight_finish_and_idle_ones_move(start, tmp_path):
    node = boot(start, tmp_path)
    idle, busy = node.connect(), node.connect()
    assert idle.get("/").status == 200
    busy.send(build("GET", "/held"))
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(signal.SIGUSR2)
    node.wait_log("serves now")
    eventually(lambda: Admin(node).status()["upgrade"], "the old one drains")
    assert node.get("/open").status == 200
    answer = busy.read_response()
    assert answer.status == 200 and answer.text == "held"
    assert answer.header("Connection") == "close" and busy.closed()
    answer = idle.get("/")
    assert answer.status == 200 and answer.header("Connection") == "close"
    follow(node)
    settled(node)


def test_status_shows_both_while_the_old_one_drains(start, tmp_path):
    node = boot(start, tmp_path, settings={**SETTINGS, "drain_idle": "60s"})
    old = node.pid
    idle = node.connect()
    assert idle.get("/").status == 200
    node.signal(signal.SIGUSR2)
    node.wait_log("serves now")
    view = eventually(lambda: Admin(node).status()["upgrade"], "it shows")
    version = Admin(node).status()["version"]
    assert view["from"] == {"pid": old, "version": version}
    assert view["to"]["version"] == version and view["to"]["pid"] != old
    assert view["state"] == "draining" and view["connections"] == 1
    text = node.command("status").stdout
    assert f"from {version} (pid {old}) to {version}" in text
    # The next upgrade waits its turn.
    os.kill(view["to"]["pid"], signal.SIGUSR2)
    node.wait_log("no upgrade: the version before still finishes")
    assert idle.get("/").header("Connection") == "close"
    follow(node)
    settled(node)
    assert "last upgrade succeeded" in node.command("status").stdout


def test_limits_metrics_and_shared_values_survive(start, tmp_path):
    node = boot(start, tmp_path)
    assert [node.get("/tight").status for _ in range(2)] == [200, 200]
    node.request("POST", "/count", body="abc")
    total = node_requests(node)
    upgrade(node)
    assert node.get("/counted").json() == {"bodies": 1, "bytes": 3}
    assert [node.get("/tight").status for _ in range(2)] == [200, 429]
    assert "\nhits_total 1\n" in Admin(node).ask("GET", "/-/metrics").text
    assert node_requests(node) >= total + 3


def test_sessions_in_memory_survive(start, tmp_path):
    node = boot(start, tmp_path, """
        app:get("/", function(c)
            local session = c:session()
            session:set("n", (session:get("n") or 0) + 1)
            return tostring(session:get("n"))
        end)""", settings={"session.url": "memory:"})
    first = node.get("/")
    cookie = first.header("Set-Cookie").partition(";")[0]
    for count in "23":
        upgrade(node)
        answer = node.get("/", {"Cookie": cookie})
        assert answer.text == count
    replace(tmp_path / "moonshine", "#!/bin/sh\nexit 1\n")
    failed(node)
    assert node.get("/", {"Cookie": cookie}).text == "4"


FOREIGN = """#!/usr/bin/python3
import os, sys
fd = int(os.environ["MOONSHINE_UPGRADE"])
entries = os.pread(fd, 1 << 16, 0).split(b"\\0")
for name in %r:
    memory = next(int(e.split()[1]) for e in entries
                  if e.startswith(name + b" "))
    version = int.from_bytes(os.pread(memory, 4, 8), "little")
    os.pwrite(memory, (version + 1).to_bytes(4, "little"), 8)
os.execv(%r, sys.argv)
"""


@pytest.mark.parametrize("names", [[b"shm"], [b"region"], [b"shm", b"region"]])
def test_memory_of_another_layout(start, tmp_path, names):
    """As if the new binary knew another version: it makes its own."""
    node = boot(start, tmp_path)
    node.request("POST", "/count", body="abc")
    replace(tmp_path / "moonshine", FOREIGN % (names, BINARY))
    with Poster(node, 2) as posts:
        posts.progress(100)
        upgrade(node)
        posts.progress(100)
    assert posts.lost == [] and set(posts.counts) == {200}
    if b"shm" in names:
        assert "laid out in another way: counters begin anew" in node.log()
    kept = node.get("/counted").json()["bodies"] == posts.counts[200] + 1
    assert kept == (b"region" not in names)
    if not kept:
        assert "laid out in another way: limits, metrics" in node.log()
    (tmp_path / "moonshine").unlink()
    program(tmp_path)
    upgrade(node)
    assert node.get("/").text == "ok"


def node_requests(node):
    text = Admin(node).ask("GET", "/-/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines()
               if line.startswith("moonshine_requests_total"))


def test_more_workers_and_another_address(start, tmp_path):
    """What needs a restart may be changed by an upgrade instead."""
    first, second, third = free_port(), free_port(), free_port()
    app = tmp_path / "app"

    def configure(ports, workers):
        addresses = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        write_app(app, {
            "app.lua": 'app:get("/", function() return "ok" end)',
            "config.lua": f"return {{ listen = {{ {addresses} }}, "
                          f"workers = {workers} }}"})
    configure([first, second], 1)
    node = boot(start, tmp_path, app, listen=f"127.0.0.1:{first}",
                settings={}, configured=True)
    configure([second, third], 40)
    node.address = ("127.0.0.1", second)
    upgrade(node)
    Admin(node).wait_serving(40, 60)
    for port in (second, third):
        with Client(("127.0.0.1", port)) as client:
            assert client.get("/").text == "ok"
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", first), 5)
    assert "counters and metrics begin anew" in node.log()


# ---- what goes wrong ----

SCRIPTS = {
    "exits": ("#!/bin/sh\nexit 1\n", 0o755, "exit code 1"),
    "crashes": ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "SIGSEGV"),
    "is not executable": ("#!/bin/sh\n", 0o644, "Permission denied"),
    "is no program": ("\0\0\0\0", 0o755, "Exec format error"),
    "is something else": ("#!/bin/sh\necho hello\n", 0o755, "exit code 0"),
    "has no interpreter": ("#!/no/such/shell\n", 0o755, "No such file"),
    "hangs": ("#!/bin/sh\nsleep 1000 & sleep 1000\n", 0o755,
              "said nothing for 10 s"),
    "refuses its options": (f'#!/bin/sh\nexec "{BINARY}" "$@" --no-such\n',
                            0o755, "exit code 2"),
    "refuses its configuration": (
        f'#!/bin/sh\nMOONSHINE_BODY_LIMIT=much exec "{BINARY}" "$@"\n', 0o755,
        "BODY_LIMIT"),
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_bad_binary_changes_nothing(start, tmp_path, kind):
    text, mode, why = SCRIPTS[kind]
    node = boot(start, tmp_path)
    workers = sorted(node.children())
    with Poster(node, 2) as posts:
        posts.progress(50)
        replace(tmp_path / "moonshine", text, mode)
        assert why in failed(node)
        posts.progress(50)
    assert posts.lost == [] and set(posts.counts) == {200}
    assert "upgrade failed, version " in node.log()
    assert sorted(node.children()) == workers, "nothing is left of it"
    assert sorted(node.session()) == workers
    assert (node.run_dir / node.name / "pid").read_text() == f"{node.pid}\n"
    # Nor is anything spoilt: reload, and upgrade to a good one.
    assert Admin(node).reload()[0]
    (tmp_path / "moonshine").unlink()
    program(tmp_path)
    assert upgrade(node)["upgrades"] == 1
    assert node.get("/counted").json()["bodies"] == posts.counts[200]


def test_a_binary_that_is_gone(start, tmp_path):
    node = boot(start, tmp_path)
    (tmp_path / "moonshine").unlink()
    assert "No such file" in failed(node)
    assert node.get("/").text == "ok"


@pytest.mark.parametrize("listen", ["tcp", "unix"])
def test_a_new_binary_that_dies_while_it_starts(start, tmp_path, listen):
    """After it has mapped everything, with workers of its own."""
    gate = tmp_path / "gate"
    gate.write_text("open")
    node = boot(start, tmp_path, GATED % str(gate),
                listen=None if listen == "tcp" else f"unix:{tmp_path}/s")
    workers = sorted(node.children())
    gate.write_text("shut")
    node.signal(signal.SIGUSR2)
    view = eventually(lambda: (Admin(node).status()["upgrade"] or {}).get(
        "state") == "loading" and Admin(node).status()["upgrade"], "it loads")
    os.kill(view["to"]["pid"], signal.SIGKILL)
    eventually(lambda: Admin(node).status()["upgrade"] is None, "it is over")
    gate.write_text("open")
    status = Admin(node).status()
    assert status["pid"] == node.pid and "SIGKILL" in \
        status["last_upgrade"]["text"]
    eventually(lambda: sorted(node.session()) == workers, "all is gone")
    with Dialer(node) as dials:
        eventually(lambda: dials.done > 50 or dials.lost, "it serves")
    assert dials.lost == []
    upgrade(node)
    assert node.get("/").text == "ok"


def test_code_that_does_not_load_and_no_fallback(start, tmp_path):
    node = boot(start, tmp_path)
    node.rewrite("error('broken')")
    status = upgrade(node)  # serves the newest committed version
    assert "broken" in status["fallback"] and node.get("/").text == "ok"
    strict = start(APP, "--no-fallback", binary=str(tmp_path / "moonshine"),
                   settings=SETTINGS, name="strict")
    strict.rewrite("error('broken')")
    assert "broken" in failed(strict)
    assert strict.get("/").text == "ok"


def test_code_that_hangs_in_the_new_binary(start, tmp_path):
    gate = tmp_path / "gate"
    gate.write_text("open")
    node = boot(start, tmp_path, GATED % str(gate), settings={
        "load_timeout": "1s"})
    gate.write_text("shut")
    # The probe of the new one gives up, then that of the kept version.
    assert "load_timeout" in failed(node)
    gate.write_text("open")
    assert node.get("/").text == "ok"


# ---- what comes in between ----


def gated(start, tmp_path, **options):
    """A node whose new binary waits in its load, until the gate opens."""
    gate = tmp_path / "gate"
    gate.write_text("open")
    node = boot(start, tmp_path, GATED % str(gate), settings={
        "load_timeout": "60s"}, **options)
    gate.write_text("shut")
    node.signal(signal.SIGUSR2)
    eventually(lambda: (Admin(node).status()["upgrade"] or {}).get("state") ==
               "loading", "the new binary loads")
    return node, gate


def test_a_second_signal_is_refused(start, tmp_path):
    node, gate = gated(start, tmp_path)
    node.signal(signal.SIGUSR2)
    node.wait_log("SIGUSR2: no upgrade: one is under way")
    gate.write_text("open")
    follow(node)
    settled(node)
    assert node.log().count("executing") == 1


def test_a_reload_meanwhile(start, tmp_path):
    """One that is asked for is refused, one by a signal follows."""
    node, gate = gated(start, tmp_path)
    ok, text = Admin(node).reload()
    assert not ok and "an upgrade is under way" in text
    assert not Admin(node).rollback()[0]
    node.signal(signal.SIGUSR1)
    node.wait_log("an upgrade is under way: the reload follows")
    generation = Admin(node).status()["generation"]
    gate.write_text("open")
    follow(node)
    eventually(lambda: settled(node)["generation"] == generation + 2,
               "it was reloaded after the upgrade")


def test_a_reload_by_signal_follows_a_failure_too(start, tmp_path):
    node, gate = gated(start, tmp_path)
    node.signal(signal.SIGUSR1)
    node.wait_log("the reload follows")
    status = Admin(node).status()
    os.kill(status["upgrade"]["to"]["pid"], signal.SIGKILL)
    gate.write_text("open")
    eventually(lambda: Admin(node).status()["generation"] ==
               status["generation"] + 1, "it was reloaded")


def test_an_upgrade_during_a_reload_follows(start, tmp_path):
    gate = tmp_path / "gate"
    gate.write_text("open")
    node = boot(start, tmp_path, GATED % str(gate), settings={
        "load_timeout": "60s"})
    gate.write_text("shut")
    node.signal(signal.SIGUSR1)
    eventually(lambda: len(node.children()) > 2, "a probe runs")
    node.signal(signal.SIGUSR2)
    node.wait_log("a reload is running: the upgrade follows")
    gate.write_text("open")
    follow(node)
    assert settled(node)["generation"] == 3


def test_term_during_an_upgrade_ends_both(start, tmp_path):
    node, gate = gated(start, tmp_path)
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert "the node is told to stop" in node.log()
    eventually(lambda: not node.session(), "both are gone")


def test_term_to_the_old_one_while_it_drains(start, tmp_path):
    """It is late for the signal: who took over serves on."""
    node = boot(start, tmp_path)
    busy = node.connect()
    busy.send(build("GET", "/slow"))
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(signal.SIGUSR2)
    node.wait_log("serves now")
    os.kill(node.pid, signal.SIGTERM)
    assert busy.read_response().status == 200
    follow(node)
    assert settled(node)["pid"] == node.pid
    assert node.get("/").text == "ok"


def test_the_old_master_is_killed_meanwhile(start, tmp_path):
    node, gate = gated(start, tmp_path)
    to = Admin(node).status()["upgrade"]["to"]["pid"]
    old = node.process
    with Dialer(node) as dials:
        os.kill(old.pid, signal.SIGKILL)
        old.wait(20)
        gate.write_text("open")
        node.process, node.pid = Adopted(to), to
        node.wait_log("is gone: taking over without it")
        eventually(lambda: node.is_ready(), "it serves")
        eventually(lambda: dials.done > 100 or dials.lost, "it goes on")
    status = settled(node)
    assert status["pid"] == to
    assert len([w for w in status["workers"]
                if w["state"] == "serving"]) == 2
    assert (node.run_dir / node.name / "pid").read_text() == f"{to}\n"
    assert dials.lost == []


# ---- what is passed on ----


def descriptors(pid):
    found = collections.Counter()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        kind = target.partition("[")[0] if ":" in target else target
        found[kind] += 1
    return found


def test_no_descriptor_is_left_over(start, tmp_path):
    """Neither in the new processes, nor do those of an application get any."""
    out = tmp_path / "out"
    node = boot(start, tmp_path, """
        app:get("/", function() return "ok" end)
        app:get("/ls", function()
            os.execute("ls /proc/self/fd > %s")
            return "done"
        end)""" % out, workers=1, settings={})
    node.get("/ls")
    seen = set(out.read_text().split())

    def look():
        worker = Admin(node).wait_serving(1)[0]["pid"]
        return descriptors(node.pid), descriptors(worker)
    master, worker = look()
    for _ in range(3):
        upgrade(node)
        node.get("/ls")
        assert set(out.read_text().split()) <= seen | {"3"}
        eventually(lambda: look()[1] == worker,
                   f"workers have the same: {look()[1]}, {worker}", 5)
        # The link to the old master is closed with that.
        eventually(lambda: look()[0] == master,
                   f"masters have the same: {look()[0]}, {master}", 5)
