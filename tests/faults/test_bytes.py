"""Every call of every process, for all of a node's life: a byte at a time,
interrupted, refused now and then."""

import errno

import pytest

from support.admin import Admin
from support.client import Client
from support.injector import Faults
from support.kinds import APP, BY_NAME, KINDS, SETTINGS, SITE
from support.node import PRELUDE, eventually
from support.servers import RedisServer

# What a byte at a time would take too long for.
SMALL = [BY_NAME[n] for n in ("plain", "pipeline", "json", "range", "session",
                              "error page", "view", "tasks", "limited")]
INPUT = ("read", "pread")
OUTPUT = ("write", "pwrite", "copy")
CALLS = (*INPUT, *OUTPUT, "accept", "poll")


@pytest.fixture(name="faults")
def fixture_faults():
    with Faults() as faults:
        yield faults


def right(kind, node):
    """A session's quarter of a second may not be enough for so many bytes."""
    if kind.name == "session":
        eventually(lambda: kind.ask(node) == "right", "the store keeps up")
    else:
        assert kind.ask(node) == "right"


def live(start, faults, kinds, settings=None):
    """A start, requests, a reload, requests, a stop."""
    node = start(SITE, workers=2, env=faults.env,
                 settings={**SETTINGS, **(settings or {})})
    for kind in kinds:
        right(kind, node)
    node.rewrite({"app.lua": PRELUDE + APP +
                  'app:get("/new", function() return "new" end)\nreturn app'})
    assert Admin(node).reload()[0]
    assert node.get("/new").text == "new"
    for kind in kinds:
        right(kind, node)
    node.stop()


def test_a_byte_at_a_time_on_sockets(start, faults):
    rule = faults.arm(*INPUT, *OUTPUT, action="short", count=0,
                      kinds=("stream",), early=True)
    live(start, faults, [*SMALL, BY_NAME["upload"], BY_NAME["static file"]])
    assert rule.done > 10000


def test_a_byte_at_a_time_from_files(start, faults):
    rule = faults.arm("read", "pread", action="short", count=0,
                      kinds=("file",), early=True)
    live(start, faults, SMALL)
    assert rule.done > 1000


def test_a_byte_at_a_time_from_redis(start, faults):
    """Not to it as well: a session has a quarter of a second for its script."""
    with RedisServer() as redis:
        rule = faults.arm(*INPUT, action="short", count=0, kinds=("stream",),
                          early=True)
        live(start, faults, SMALL, {"session.url": redis.url})
        assert rule.done > 1000


@pytest.mark.parametrize("every", [3, 7])
def test_every_kth_call_is_interrupted(start, faults, every):
    """But for those of files on disks, which no signal interrupts; a request
    survives or refuses these (test_requests)."""
    rule = faults.arm(*CALLS, error=errno.EINTR, every=every, count=0,
                      kinds=("stream", "packet", "other"), early=True)
    live(start, faults, KINDS)
    assert rule.done > 50


def test_the_socket_is_never_ready(start, faults):
    """Every other read or write would block after all."""
    faults.arm(*INPUT, "write", "copy", error=errno.EAGAIN, every=2, count=0,
               kinds=("stream",), early=True)
    live(start, faults, KINDS)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE,
                                   errno.ECONNABORTED, errno.ENOBUFS,
                                   errno.EPERM, errno.EPROTO])
def test_accept_fails(start, faults, error):
    """Those who wait are served as soon as it works again, and those who are
    there all the time."""
    node = start(SITE, workers=2, env=faults.env, settings=SETTINGS)
    with Client(node.address) as before:
        assert before.get("/plain").status == 200
        with faults.during("accept", error=error, count=0) as rule:
            waiting = [Client(node.address) for _ in range(20)]
            for client in waiting:
                client.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda: rule.done >= 3, "it was tried")
            # An idle connection may be given up for those who wait.
            rule.disarm()
        for client in waiting:
            with client:
                assert client.read_response().text == "plain text"
    assert BY_NAME["plain"].ask(node) == "right"
