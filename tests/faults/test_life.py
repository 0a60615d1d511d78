"""One call fails while a node starts, reloads or stops.

Some of all places; `tests/faults/sweep --start` and `--reload` have all.
"""

import errno
import os
import signal
import threading

import pytest

from support import sweep as sweeps
from support.admin import Admin
from support.client import Client, Closed
from support.injector import Faults, child
from support.kinds import BY_NAME, SETTINGS, SITE
from support.node import eventually
from support.sweep import FAULTS

MASTER, PROBE, WORKER = range(3)
# Where masters, probes and workers of this site still ask for memory.
ALL = {MASTER: 300, PROBE: 1200, WORKER: 900}


@pytest.fixture(name="faults")
def fixture_faults():
    with Faults() as faults:
        yield faults


def some(who, count):
    return [i * ALL[who] // count + who for i in range(count)]


@pytest.mark.parametrize("who", ALL)
def test_memory_at_the_start(who):
    """It says why it does not start, or starts after all."""
    assert sum(sweeps.starts(FAULTS["memory"], who, some(who, 8)).values())


@pytest.mark.parametrize("who, name", [
    (MASTER, "descriptors"), (MASTER, "disk broken"), (MASTER, "interrupted"),
    (PROBE, "descriptors"), (PROBE, "disk broken"), (PROBE, "interrupted"),
    (WORKER, "descriptors"), (WORKER, "interrupted")])
def test_calls_at_the_start(who, name):
    assert sum(sweeps.starts(FAULTS[name], who, (0, 2, 5, 14)).values())


@pytest.mark.parametrize("name", ["memory", "descriptors", "disk broken",
                                  "disk full", "interrupted"])
@pytest.mark.parametrize("who", ALL)
def test_calls_of_a_reload(who, name):
    """The new code on all workers, or the old code and a reason."""
    ks = some(who, 12) if name == "memory" else (0, 1, 2, 3, 5, 8, 13)
    assert sum(sweeps.reloads(FAULTS[name], who, [0, *ks[1:]]).values()) or \
        name in ("disk full", "descriptors", "disk broken")


@pytest.mark.parametrize("name", ["memory", "interrupted", "short",
                                  "disk broken"])
def test_calls_of_a_drain(start, faults, name):
    """Workers end when the master asks, and the master when they have."""
    fault = FAULTS[name]
    for who, k in ((MASTER, 0), (MASTER, 4), (WORKER, 0), (WORKER, 3)):
        node = start(SITE, settings=SETTINGS, env=faults.env)
        worker = Admin(node).workers()[0]["pid"]
        with Client(node.address) as client:
            assert client.get("/plain").text == "plain text"
            client.send(b"GET /tasks HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().status == 200
            faults.arm(*fault.calls, who=worker if who else node.pid, skip=k,
                       **fault.options())
        node.stop()  # TERM, and exit code 0
        faults.reset()


# ---- processes that end or stop at each step of a reload ----

VERSION = """
app:get("/version", function() return "%d" end)
app:get("/", function() return "ok" end)
"""
MOST_STEPS = 30


def begin_reload(node, result):
    def run():
        try:
            result.append(Admin(node).reload())
        except (OSError, Closed):
            result.append((None, "no answer"))
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def all_serve(node, admin, versions):
    """Whatever came of it: all workers serve, and the same."""
    admin.wait_serving(2)
    answers = {node.get("/version").text for _ in range(12)}
    assert len(answers) == 1 and answers <= versions, answers
    return answers.pop()


@pytest.mark.parametrize("action", ["kill", "kill_after", "stop"])
@pytest.mark.parametrize("who", ["probe", "worker"])
def test_a_process_dies_at_a_step_of_a_reload(start, faults, who, action):
    """Its k-th message to the master is its last, or is late."""
    node = start(VERSION % 0, workers=2, env=faults.env,
                 settings={"load_timeout": "3s"})
    admin = Admin(node)
    version, hits = 0, 0
    for k in range(MOST_STEPS):
        workers = admin.wait_serving(2)
        before = all_serve(node, admin, {str(v) for v in range(version + 1)})
        version += 1
        node.rewrite(VERSION % version)
        pid = child(faults.forks + 1) if who == "probe" else workers[0]["pid"]
        result = []
        with faults.during("write", who=pid, kinds=("packet",), skip=k,
                           action=action) as rule:
            thread = begin_reload(node, result)
            eventually(lambda: rule.done or result, "the step, or the end")
            if action == "stop" and rule.done and who == "worker":
                os.kill(rule.pid, signal.SIGCONT)
            thread.join(60)
        if not rule.done:  # there are no more
            assert result[0][0], result
            break
        hits += 1
        assert result and result[0][1], "it says what came of it"
        served = all_serve(node, admin, {before, str(version)})
        assert result[0][0] == (served == str(version)), (result, served)
        if not result[0][0]:
            assert admin.reload()[0]
            assert all_serve(node, admin, {str(version)})
        assert {node.get("/").text for _ in range(8)} == {"ok"}
    assert hits > 0


def test_the_master_dies_at_each_step_of_a_reload(start, faults, tmp_path):
    """Workers finish what they have and end; the next node starts."""
    state = tmp_path / "state"
    hits = 0
    for k in range(MOST_STEPS):
        faults.reset()
        node = start(VERSION % k, workers=2, env=faults.env, state_dir=state,
                     settings={"drain_idle": "200ms"})
        assert node.get("/version").text == str(k)
        node.rewrite(VERSION % (k + 100))
        result = []
        with Client(node.address) as client, \
                faults.during("write", "name", "sync", who=node.pid, skip=k,
                              action="kill_after") as rule:
            assert client.get("/").text == "ok"
            begin_reload(node, result).join(60)
            if rule.done:
                node.process.wait(20)
                node.expect_exit = -signal.SIGKILL
                eventually(lambda: not node.session(), "no worker is left")
        node.stop()
        if not rule.done:
            assert result[0][0], result
            break
        hits += 1
    assert hits > 3
    assert start(VERSION % 7, state_dir=state).get("/version").text == "7"


def test_a_builder_that_is_slow(start, faults):
    """Requests go on while each allocation of the new VM takes its time."""
    node = start(VERSION % 0, env=faults.env)
    admin = Admin(node)
    node.rewrite(VERSION % 1)
    result = []
    worker = admin.workers()[0]["pid"]
    with faults.during("map", "alloc", who=worker, action="delay", error=3,
                       count=0) as rule:
        thread = begin_reload(node, result)
        asked = 0
        while not result:
            assert node.get("/").text == "ok"
            asked += 1
        thread.join(60)
    assert rule.done > 100 and asked > 3
    assert result[0][0], result
    assert node.get("/version").text == "1"


@pytest.mark.parametrize("call", ["fork", "thread", "socket"])
def test_no_more_processes(start, faults, call):
    """A worker that cannot be replaced now is replaced later; reloads that
    cannot be tried are refused."""
    node = start(VERSION % 0, workers=2, env=faults.env)
    admin = Admin(node)
    node.rewrite(VERSION % 1)
    with faults.during(call, error=errno.EAGAIN, count=0) as rule:
        ok, text = admin.reload()
        assert ok or text
        os.kill(admin.wait_serving(2)[0]["pid"], signal.SIGKILL)
        eventually(lambda: rule.done > 1, "it was tried")
        assert {node.get("/").text for _ in range(8)} == {"ok"}
    admin.wait_serving(2)
    assert admin.reload()[0]
    assert all_serve(node, admin, {"1"})
