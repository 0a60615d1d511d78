"""What the Redis client promises: no reply to a wrong owner, no callback twice or
never, whatever is cancelled, late, cut or killed.

Short here; with MOONSHINE_LONG=1 a million operations."""

import os
import random
import threading
import time

import pytest

from support.driver import Driver
from support.faults import Proxy
from support.servers import RedisServer

LONG = bool(os.environ.get("MOONSHINE_LONG"))


class Trouble(threading.Thread):
    """Makes trouble at random, until it is told to stop."""

    def __init__(self, server, proxy, seed, kills):
        super().__init__(daemon=True)
        self.server, self.proxy = server, proxy
        self.random = random.Random(seed)
        self.ended = threading.Event()
        self.count = {}
        self.failure = None
        self.kinds = [self.cut, self.cut_answer, self.silence, self.silence,
                      self.trickle, self.garble, self.delay, self.refuse,
                      self.pause, self.kill_links, self.sleep, self.flush,
                      self.stop_server]
        if kills:
            self.kinds += [self.kill_server] * 2

    def rest(self, least, most):
        self.ended.wait(self.random.uniform(least, most))

    def during(self, mode, least, most):
        self.proxy.mode = mode
        self.rest(least, most)
        if mode in ("freeze", "mute", "deaf"):
            # What was lost stays lost: nobody goes on in the middle.
            self.proxy.cut(then="pass")
        else:
            self.proxy.mode = "pass"

    def cut(self):
        self.proxy.cut()

    def cut_answer(self):
        self.proxy.cut(after=self.random.randrange(200))

    def silence(self):
        self.during(self.random.choice(["freeze", "mute", "deaf"]), 0.05, 0.9)

    def trickle(self):
        self.during("trickle", 0.05, 0.2)

    def garble(self):
        self.proxy.mode = "garble"
        self.rest(0.05, 0.1)
        self.proxy.mode = "pass"

    def delay(self):
        self.proxy.seconds = self.random.uniform(0.01, 0.4)
        self.during("delay", 0.1, 0.5)

    def refuse(self):
        self.proxy.refuse()
        self.rest(0.05, 0.3)
        self.proxy.accept()

    def pause(self):
        self.server.cli("CLIENT", "PAUSE", self.random.randrange(50, 700),
                        "ALL", check=False)

    def kill_links(self):
        self.server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes",
                        check=False)

    def sleep(self):
        self.server.cli("DEBUG", "SLEEP", f"{self.random.uniform(0, 0.7):.3f}",
                        check=False)

    def flush(self):
        self.server.cli("SCRIPT", "FLUSH", check=False)

    def stop_server(self):
        self.server.pause()
        self.rest(0.05, 0.9)
        self.server.resume()

    def kill_server(self):
        self.server.restart()

    def run(self):
        try:
            while not self.ended.is_set():
                kind = self.random.choice(self.kinds)
                kind()
                self.count[kind.__name__] = self.count.get(kind.__name__, 0) + 1
                self.rest(0.1, 0.4)
            self.proxy.mode = "pass"
            self.proxy.accept()
        except BaseException as failure:  # for the test to raise
            self.failure = failure

    def stop(self):
        self.ended.set()
        self.join()
        if self.failure:
            raise self.failure


def check(counts):
    print(counts)
    for what in ("wrong", "twice", "never", "late"):
        assert counts[what] == 0, counts
    # Garbled answers end as "malformed"; nothing else is unexpected.
    assert counts["error_replies"] == 0, counts
    for what in ("ok", "cancelled", "timeouts", "closed", "refused"):
        assert counts[what] > 0, counts


@pytest.mark.seconds(1800 if LONG else 120)
@pytest.mark.parametrize("kills", [False, True], ids=["network", "server"])
def test_nobody_gets_the_answer_of_another(kills):
    operations = 1000000 if LONG else 0
    with RedisServer() as server, \
            Proxy(("127.0.0.1", server.port)) as proxy, Driver() as d:
        d.open("c", f"redis://127.0.0.1:{proxy.port}")
        d.up("c")
        trouble = Trouble(server, proxy, 7 + kills, kills)
        load = d.load("c", users=64, ops=operations,
                      max_ms=0 if LONG else 5000, seed=11, lossy=kills)
        began = time.monotonic()
        trouble.start()
        counts = d.loaded(load, seconds=1700 if LONG else 60)
        trouble.stop()
        print(f"{time.monotonic() - began:.0f} s", trouble.count)
        check(counts)
        if LONG:
            assert counts["ops"] >= operations
        assert d.up("c")
        assert d.call("c", "PING") == "PONG"
