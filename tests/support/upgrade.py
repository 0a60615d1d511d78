"""Upgrades of a node to another binary, and sorts of binaries to upgrade to.

    node = start(APP, binary=program(tmp_path))
    replace(node, wrapper(...))       # the file, as an installer does
    upgrade(node)                     # SIGUSR2; `node` is then the new one
"""

import collections
import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

from support.admin import Admin
from support.client import Client, Closed, build
from support.node import BINARY, eventually

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


@contextlib.contextmanager
def adopting():
    """A new master becomes our child when the old one ends meanwhile, so that
    we see its exit code. Not for longer: orphans of other tests would wait for
    us to reap them."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int()
    assert libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before)) == 0
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


class Adopted:
    """What Node uses of a Popen, for a process that somebody else started."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return None  # the old master still lives
            if pid != 0:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, seconds=20.0):
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), seconds)
            time.sleep(0.01)
        return self.returncode


def program(directory):
    """A link to the binary, at a path that can be replaced."""
    path = pathlib.Path(directory) / "moonshine"
    path.symlink_to(BINARY)
    return path


def copy(directory):
    """A file with the binary, at a path that can be replaced."""
    path = pathlib.Path(directory) / "moonshine"
    shutil.copy(BINARY, path)
    return path


def replace(path, text, mode=0o755):
    """Puts a script in the place of the program, as an installer does."""
    aside = path.with_name("moonshine.new")
    aside.write_text(text)
    aside.chmod(mode)
    aside.replace(path)


def settled(node, admin=None):
    """No upgrade is under way; the status of the node that serves."""
    def look():
        try:
            status = (admin or Admin(node)).status()
        except (OSError, AssertionError):
            return None
        return status if status["upgrade"] is None else None
    return eventually(look, "the upgrade is over", 60)


def follow(node, seconds=60.0):
    """Waits until the old master has ended; `node` is the new one from now.
    For `adopting`, since before the upgrade began."""
    old = node.process
    assert old.wait(seconds) == 0, node.log()
    pid = int((node.run_dir / node.name / "pid").read_text())
    assert pid != old.pid, node.log()
    node.process = Adopted(pid)
    node.pid = pid


def upgrade(node, admin=None):
    """SIGUSR2, and all that follows from it; the status after that."""
    with adopting():
        node.signal(signal.SIGUSR2)
        follow(node)
    return settled(node, admin)


def failed(node):
    """SIGUSR2 that comes to nothing: why, as the status says."""
    before = Admin(node).status()
    node.signal(signal.SIGUSR2)

    def look():
        status = Admin(node).status()
        return status if status["upgrade"] is None and \
            status["upgrades_failed"] > before["upgrades_failed"] else None
    after = eventually(look, "the upgrade has failed", 60)
    assert after["pid"] == before["pid"] == node.pid
    assert not after["last_upgrade"]["ok"]
    return after["last_upgrade"]["text"]


# ---- clients that go on meanwhile ----


class Poster:
    """Posts without a pause on connections that it keeps, and keeps account.

    `lost` has whatever was no whole answer, also on a connection that had
    served before."""

    def __init__(self, node, clients=6):
        self.node = node
        self.stop = threading.Event()
        self.counts = collections.Counter()
        self.lost = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True)
                        for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def run(self):
        body = "x" * 100
        data = build("POST", "/count", body=body)
        client = None
        while not self.stop.is_set():
            try:
                client = client or Client(self.node.address)
                client.send(data)
                answer = client.read_response()
            except (OSError, Closed) as error:
                with self.lock:
                    self.lost.append(repr(error))
                client = None
                continue
            with self.lock:
                self.counts[answer.status] += 1
                if answer.text != body:
                    self.lost.append(repr(answer))
            if answer.header("Connection", "").lower() == "close":
                client.close()
                client = None
        if client:
            client.close()

    def progress(self, more):
        goal = self.counts[200] + more
        eventually(lambda: self.counts[200] >= goal or self.lost,
                   f"{more} more answers", 60)


class Dialer:
    """Connects without a pause, one request each; counts what goes wrong."""

    def __init__(self, node, target="/"):
        self.node = node
        self.data = build("GET", target, {"Connection": "close"})
        self.stop = threading.Event()
        self.done = 0
        self.lost = []
        self.threads = [threading.Thread(target=self.run, daemon=True)
                        for _ in range(4)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def run(self):
        while not self.stop.is_set():
            try:
                with Client(self.node.address) as client:
                    client.send(self.data)
                    assert client.read_response().status == 200
                self.done += 1
            except (OSError, Closed, AssertionError) as error:
                self.lost.append(repr(error))
