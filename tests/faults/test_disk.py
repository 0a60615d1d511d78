"""Disks that are full, broken or slow: what needs none goes on."""

import errno
import os
import signal

import pytest

from support.admin import Admin
from support.injector import Faults
from support.kinds import BY_NAME, KINDS, SETTINGS, SITE
from support.node import eventually, write_app

WRITES = ("write", "pwrite", "size", "sync")
NO_DISK = [kind for kind in KINDS
           if kind.name not in ("session", "body", "upload")]
SAY = 'app:get("/", function() return "%s" end)'


@pytest.fixture(name="faults")
def fixture_faults():
    with Faults() as faults:
        yield faults


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_uploads(start, faults, tmp_path, error):
    temp = tmp_path / "spool"
    temp.mkdir()
    node = start(SITE, env=faults.env, settings={
        **SETTINGS, "temp_dir": temp, "upload.dir": temp})
    with faults.during(*WRITES, error=error, count=0, path=str(temp)) as rule:
        for _ in range(3):
            assert BY_NAME["body"].ask(node) == "refused"
            assert BY_NAME["upload"].ask(node) == "refused"
            for kind in NO_DISK:
                assert kind.ask(node) == "right"
        assert rule.done >= 6
    node.wait_log("cannot (spool|make a temporary)")
    assert BY_NAME["body"].ask(node) == "right"
    assert BY_NAME["upload"].ask(node) == "right"
    assert not list(temp.iterdir())


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EAGAIN])
def test_the_log(start, faults, tmp_path, error):
    """Lines are lost, and that is said; requests are not."""
    log = tmp_path / "app.log"
    node = start(SITE, env=faults.env,
                 settings={**SETTINGS, "log.file": log})
    for kind in NO_DISK:
        assert kind.ask(node) == "right"
    with faults.during("write", error=error, count=0,
                       path="app.log") as rule:
        for kind in KINDS:
            assert kind.ask(node) == "right"
        eventually(lambda: rule.done > 0, "it was tried")
        node.signal(signal.SIGHUP)
        assert BY_NAME["plain"].ask(node) == "right"
    mark = "/after-the-fault"

    def written():
        node.get(mark)
        return mark in log.read_text()
    eventually(written, "lines are written again")


def test_a_log_that_cannot_be_opened(start, faults, tmp_path):
    """Rotated away, and no new file: it goes on with the old one."""
    log = tmp_path / "app.log"
    node = start(SITE, env=faults.env,
                 settings={**SETTINGS, "log.file": log})
    log.rename(tmp_path / "old.log")
    with faults.during("open", error=errno.ENOSPC, count=0,
                       path="app.log") as rule:
        node.signal(signal.SIGHUP)
        eventually(lambda: rule.done >= 2, "master and worker tried")
        assert node.get("/plain").status == 200
    mark = "/in-the-old-one"

    def written():
        node.get(mark)
        return mark in (tmp_path / "old.log").read_text()
    eventually(written, "lines are in the old file")
    node.signal(signal.SIGHUP)
    eventually(log.exists, "a new file")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_sessions(start, faults, tmp_path, error):
    state = tmp_path / "state"
    node = start(SITE, env=faults.env, settings=SETTINGS, state_dir=state)
    assert BY_NAME["session"].ask(node) == "right"
    with faults.during(*WRITES, error=error, count=0,
                       path="session") as rule:
        eventually(lambda: BY_NAME["session"].ask(node) == "refused",
                   "it is noticed")
        for kind in KINDS:
            if kind.name != "session":
                assert kind.ask(node) == "right"
        assert rule.done > 0
    eventually(lambda: BY_NAME["session"].ask(node) == "right",
               "sessions are back")


@pytest.mark.parametrize("calls, error", [
    (WRITES, errno.ENOSPC), (WRITES, errno.EIO), (("open",), errno.EACCES),
    (("name",), errno.EROFS), (("sync",), errno.EIO)])
def test_keeping_a_version(start, faults, tmp_path, calls, error):
    """A reload goes on without keeping it, or is refused; what is kept stays
    whole."""
    state = tmp_path / "state"
    app = write_app(tmp_path / "app", SAY % "one")
    node = start(app, workers=2, env=faults.env, state_dir=state)
    admin = Admin(node)
    node.rewrite(SAY % "two")
    with faults.during(*calls, error=error, count=0, path="next-") as rule:
        ok, text = admin.reload()
        assert rule.done > 0
    served = {node.get("/").text for _ in range(8)}
    assert served == {"two" if ok else "one"}, (served, text)
    left = [f for _, _, files in os.walk(state) for f in files
            if f.endswith(".tmp")]
    assert not left or "name" in calls  # then it could not be removed, either
    node.rewrite(SAY % "three")
    assert admin.reload()[0]
    assert {node.get("/").text for _ in range(8)} == {"three"}
    node.stop()
    # What was kept last serves when the code on disk is broken.
    write_app(app, "app:get(")
    node = start(app, state_dir=state, env=faults.env)
    assert node.get("/").text == "three"
