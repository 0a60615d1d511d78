"""Sessions on disk and in memory: damage, no room, no rights, kill -9."""

import contextlib
import glob
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from support.crowd import APP, UNAVAILABLE, Crowd
from support.node import Node, eventually, write_app

SETTINGS = {"session.url": "lmdb:", "log.access": "off"}
ROOT = os.getuid() == 0


def start_node(state_dir=None, settings=None, **options):
    return Node(APP, state_dir=state_dir,
                settings={**SETTINGS, **(settings or {})}, **options)


@pytest.fixture(name="state")
def fixture_state():
    # Not below pytest's directory, which no other user may enter.
    path = pathlib.Path(tempfile.mkdtemp(prefix="moonshine-state-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def begin(node, owner="a"):
    answer = node.request("POST", f"/begin?owner={owner}")
    assert answer.status == 200, answer.text
    return {"Cookie": answer.all("Set-Cookie")[0].split(";")[0]}


def owner(node, cookie):
    answer = node.get("/who", cookie)
    assert answer.status == 200, answer.text
    return answer.json().get("owner")


def serves_sessions(node):
    return node.request("POST", "/begin?owner=x").status == 200


def kill_all(node):
    """kill -9 of the master and its workers at once."""
    pids = [node.pid, *node.session()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    node.process.wait()
    eventually(lambda: not node.session(), "all are gone")


# ---- damage ----

def test_a_damaged_file_at_start(state):
    with start_node(state) as node:
        cookie = begin(node)
    path = state / "sessions/sessions.mdb"
    path.write_bytes(os.urandom(path.stat().st_size))
    with start_node(state, workers=2) as node:
        eventually(lambda: serves_sessions(node), "it begins anew")
        assert owner(node, cookie) is None
        assert owner(node, begin(node, "b")) == "b"
        assert glob.glob(f"{path}.corrupt-*")
        assert "corrupt" in node.log()


def test_a_file_damaged_while_it_runs(state):
    with start_node(state, workers=2) as node:
        with Crowd([node.address], lossy=True, may_cut=True) as crowd:
            crowd.wait_for(200, 200)
            path = state / "sessions/sessions.mdb"
            with open(path, "r+b") as file:
                for at in range(0, path.stat().st_size, 4096):
                    file.seek(at + 16)
                    file.write(os.urandom(4000))
            crowd.wait_for(200, 500)
        crowd.final()
        assert node.get("/plain").status == 200


# ---- no room, no rights ----

def test_a_store_that_is_full_forgets_some(state):
    """Which, is up to a minute of use; nobody is refused."""
    with start_node(state, {"session.lmdb_size": "1m"}) as node:
        cookies = []
        with node.connect() as client:
            for number in range(6000):
                answer = client.request("POST", f"/begin?owner=v{number}")
                assert answer.status == 200, answer.text
                cookie = answer.all("Set-Cookie")[0].split(";")[0]
                cookies.append({"Cookie": cookie})
            kept = 0
            for number, cookie in enumerate(cookies):
                held = client.request("GET", "/who", cookie).json()
                assert held.get("owner") in (None, f"v{number}")
                kept += "owner" in held
        assert 0 < kept < 6000
        node.wait_log("full")


@contextlib.contextmanager
def tmpfs(path, size):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path],
        capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path):
    """Takes all the room that is left."""
    with open(path, "wb", buffering=0) as file, \
            contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk(state):
    (state / "sessions").mkdir()
    with tmpfs(state / "sessions", "2m"), start_node(state) as node:
        cookie = begin(node)
        fill(state / "sessions/filler")
        with node.connect() as client:
            statuses = [client.request("POST", f"/begin?owner=v{n}").status
                        for n in range(200)]
        assert set(statuses) <= {200, 503} and statuses[-1] == 503
        assert owner(node, cookie) == "a"  # reading needs no room
        assert node.get("/plain").status == 200
        (state / "sessions/filler").unlink()
        eventually(lambda: serves_sessions(node), "there is room again")


def test_a_disk_that_is_read_only(state):
    (state / "sessions").mkdir()
    with tmpfs(state / "sessions", "8m") as path:
        with start_node(state) as node:
            cookie = begin(node)
        mount = lambda how: subprocess.run(
            ["mount", "-o", f"remount,{how}", path], check=True)
        mount("ro")
        with start_node(state) as node:
            answer = node.get("/who", cookie)
            assert (answer.status, answer.json()["detail"]) == \
                (503, UNAVAILABLE)
            assert node.get("/maybe", cookie).json() == {}
            assert node.get("/plain").status == 200
            node.wait_log("the file system is read-only")
            mount("rw")
            eventually(lambda: node.get("/who", cookie).status == 200)
            assert owner(node, cookie) == "a"


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_folder_of_somebody_else(state):
    (state / "sessions").mkdir(mode=0o700)
    state.chmod(0o755)
    run_dir = state / "run"
    run_dir.mkdir()
    os.chown(run_dir, pwd.getpwnam("nobody").pw_uid, -1)
    app = write_app(state / "app", APP)
    with Node(app, state_dir=state, run_dir=run_dir, settings=SETTINGS,
              user="nobody", env={"MOONSHINE_USER": ""}) as node:
        answer = node.request("POST", "/begin?owner=a")
        assert (answer.status, answer.json()["detail"]) == (503, UNAVAILABLE)
        assert node.get("/plain").status == 200
        node.wait_log("(?i)permission denied")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_workers_of_another_user(state):
    """The state directory is root's, the sessions are theirs."""
    with start_node(state, {"user": "nobody"}, workers=2) as node:
        cookie = begin(node)
        for _ in range(10):
            assert owner(node, cookie) == "a"
        folder = (state / "sessions").stat()
        assert folder.st_uid == pwd.getpwnam("nobody").pw_uid
        assert folder.st_mode & 0o077 == 0
    with start_node(state, {"user": "nobody"}) as node:
        assert owner(node, cookie) == "a"


# ---- kill -9 ----

def test_workers_are_killed_while_they_save(state):
    with start_node(state, workers=2) as node:
        with Crowd([node.address], may_cut=True, aborts=0.02) as crowd:
            for _ in range(6):
                crowd.wait_for(200, 200)
                os.kill(node.children()[0], signal.SIGKILL)
                eventually(lambda: len(node.children()) == 2)
            crowd.wait_for(200, 200)
        known, tried = crowd.final()
        assert 0 < known <= tried
        assert not glob.glob(f"{state}/sessions/*.corrupt-*")


def test_the_node_is_killed_while_it_saves(state):
    with contextlib.ExitStack() as stack:
        node = start_node(state, workers=2)
        stack.callback(node.kill)
        cookie = begin(node)
        with Crowd([node.address], may_cut=True) as crowd:
            crowd.wait_for(200, 500)
            kill_all(node)
            crowd.ending = True
        again = stack.enter_context(start_node(state, workers=2))
        assert owner(again, cookie) == "a"
        crowd.addresses = [again.address]
        known, tried = crowd.final()
        assert 0 < known <= tried


def test_two_nodes_share_them(state):
    with start_node(state, name="a") as a, start_node(state, name="b") as b:
        with Crowd([a.address, b.address]) as crowd:
            crowd.wait_for(200, 500)
            for visitor in crowd.visitors[:4]:
                # A new connection goes to either of them.
                visitor.crowd.may_cut = True
                if visitor.writer:
                    visitor.writer.transport.abort()
            crowd.wait_for(200, 200)
        cookie = begin(a)
        assert owner(b, cookie) == "a"
        known, tried = crowd.final()
        assert 0 < known <= tried


# ---- in memory ----

def in_memory(node):
    """The folders in memory that its workers have files of open."""
    found = set()
    for pid in node.children():
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        found.update(re.findall(r"/dev/shm/moonshine-sessions-\w+", maps))
    return found


@pytest.mark.parametrize("how", ["stop", "kill a worker", "reload"])
def test_what_was_in_memory_goes_with_the_node(how):
    with start_node(settings={"session.url": "memory:"}, workers=2) as node:
        cookie = begin(node)
        made, = in_memory(node)
        assert os.stat(made).st_mode & 0o077 == 0
        if how == "kill a worker":
            victim = node.children()[0]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: len(node.children()) == 2 and
                       victim not in node.children())
        elif how == "reload":
            assert node.command("reload").returncode == 0
        eventually(lambda: node.get("/who", cookie).status == 200)
        assert owner(node, cookie) == "a"
    assert not os.path.exists(made)
