"""One call fails in the middle of one request: it alone notices.

Some of all places, on warm and on fresh workers; `tests/faults/sweep` has all.
"""

import contextlib
import errno
import pathlib

import pytest

from support.admin import Admin
from support.client import Client, Closed
from support.injector import Faults
from support.kinds import BY_NAME, KINDS, SETTINGS, SITE
from support.node import eventually
from support.sweep import FAULTS, LUA, Sweep

SOME = (0, 1, 2, 3, 5, 8, 21)


@pytest.fixture(name="faults", scope="module")
def fixture_faults():
    with Faults() as faults:
        yield faults


@pytest.fixture(name="sweep", scope="module")
def fixture_sweep(start_shared, faults, tmp_path_factory):
    temp = tmp_path_factory.mktemp("spool")
    sweep = Sweep(start_shared(
        SITE, settings={**SETTINGS, "temp_dir": temp, "upload.dir": temp},
        env=faults.env), faults)
    yield sweep
    assert not list(temp.iterdir()), "temporary files are left"


def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("name", FAULTS)
def test_a_call_fails(sweep, name):
    for kind in KINDS:  # what is made once and kept is there
        assert kind.ask(sweep.node) == "right"
    before = descriptors(sweep.worker), sweep.worker
    sweep.outcomes.clear()
    sweep.requests(KINDS, FAULTS[name], SOME)
    assert sum(sweep.outcomes.values()) > 0
    if sweep.worker == before[1]:
        def closed():  # some are closed when their owner is collected
            BY_NAME["garbage"].ask(sweep.node)
            return descriptors(sweep.worker) <= before[0]
        eventually(closed, "no descriptor is left")
    eventually(lambda: sweep.admin.workers()[0]["in_flight"] == 0,
               "no request is left")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_first_request_of_a_worker(sweep, kind):
    sweep.requests([kind], FAULTS["memory"], (0, 2, 3, 4, 5, 7, 12, 30),
                   cold=True)


def test_an_error_page_that_failed_is_whole_the_next_time(sweep):
    """Its buffer is kept, and kept its failure, too."""
    kind = BY_NAME["not found"]
    sweep.renew()
    for k in range(12):
        if not sweep.once(kind, FAULTS["memory"], k):
            break


def test_a_body_that_is_read_in_pieces(sweep):
    """The kernel may give less than asked for."""
    fault = FAULTS["short"]
    for name in ("body", "upload"):
        with sweep.faults.during("pread", "read", action="short", count=0,
                                 who=sweep.worker, kinds=("file",)) as rule:
            assert BY_NAME[name].ask(sweep.node) == "right"
        assert rule.done > 0, fault


def test_threads_cannot_be_made(sweep):
    """Those that requests need are there before the first one."""
    sweep.renew()
    with sweep.faults.during("thread", who=sweep.worker, count=0,
                             error=errno.EAGAIN):
        for kind in KINDS:
            if kind.name != "session":  # its writer comes with the first
                assert kind.ask(sweep.node) == "right"
        assert BY_NAME["session"].ask(sweep.node) in ("refused", "right")
    eventually(lambda: BY_NAME["session"].ask(sweep.node) == "right",
               "sessions work again")
    assert sweep.admin.workers()[0]["pid"] == sweep.worker


def test_a_machine_that_was_refused_memory_is_replaced(sweep):
    """LuaJIT goes on, but not always as if nothing had happened."""
    sweep.renew()
    kind = BY_NAME["garbage"]
    for k in range(40):
        with sweep.faults.during("alloc", who=sweep.worker, skip=k) as rule:
            kind.ask(sweep.node)
        if LUA in rule.modules():
            break
    assert LUA in rule.modules()
    eventually(lambda: sweep.admin.workers()[0]["vm_rebuilds"] > 0 or
               sweep.find_worker() != sweep.worker, "it is replaced")
    assert kind.ask(sweep.node) == "right"
    sweep.worker = sweep.find_worker()


PARTS = '''
app:get("/", function()
    return (moonshine.all(function()
        local t = {}
        for i = 1, 100000 do t[i] = { i } end
        return tostring(#t)
    end))
end)
'''


def test_a_part_that_dies_without_memory_ends_its_request(start, faults):
    node = start(PARTS, env=faults.env)
    worker = Admin(node).workers()[0]["pid"]
    assert node.get("/").text == "100000"
    with faults.during("alloc", "map", who=worker, count=0, skip=2) as rule:
        with contextlib.suppress(Closed), Client(node.address) as client:
            assert client.get("/").status in (500, 503)
    assert rule.done > 0
    eventually(lambda: node.get("/").text == "100000", "it works again")
    node.stop()
