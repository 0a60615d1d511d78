"""The Redis client when the server, or the way to it, fails: what happens to
commands under way, that others fail at once, and that it comes back."""

import socketserver
import threading
import time

import pytest

from support.driver import Driver
from support.faults import Proxy
from support.servers import RedisServer, poll


@pytest.fixture(scope="module")
def shared():
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


@pytest.fixture
def proxy(shared):
    shared.cli("FLUSHALL")
    with Proxy(("127.0.0.1", shared.port)) as proxy:
        proxy.url = f"redis://127.0.0.1:{proxy.port}"
        yield proxy


@pytest.fixture
def d():
    with Driver() as driver:
        yield driver


def outcomes(d, tags):
    return [d.end(tag) for tag in tags]


# ---- the server ----

def test_killed_and_started_again(redis, d):
    d.open("c", redis.url)
    d.up("c")
    redis.pause()
    writes = [d.begin("c", "INCR", "n", timeout=20000) for _ in range(3)]
    reads = [d.begin("c", "GET", "n", timeout=20000, flags="r")
             for _ in range(3)]
    d.written("c")
    redis.kill()
    # They may have been executed, so nobody executes them again.
    for outcome in outcomes(d, writes):
        assert outcome["err"] == "CLOSED"
        assert outcome["why"].startswith("the link to redis broke: ")
    # These are sent again; there is nobody.
    for outcome in outcomes(d, reads):
        assert outcome["err"] == "CLOSED"
    down = d.down("c")
    assert down["why"]
    refused = [d.outcome("c", "PING") for _ in range(20)]
    assert {(o["event"], o["err"]) for o in refused} == {("refused", "CLOSED")}
    assert max(o["ms"] for o in refused) < 100
    redis.start().wait_ready()
    d.up("c")
    assert d.call("c", "INCR", "n") == 1
    assert d.status("c")["reconnects"] == 1
    poll(lambda: d.log().count("is up again") == 1, "it says so")


def test_stopped_and_continued(redis, d):
    """A server that is there, and says nothing, is the silent case."""
    d.open("c", redis.url)
    d.up("c")
    redis.pause()
    late = d.outcome("c", "SET", "k", "v")
    assert (late["event"], late["err"]) == ("done", "TIMEOUT")
    poll(lambda: d.outcome("c", "GET", "k")["event"] == "refused",
         "others fail at once")
    why = d.status("c")["why"]
    assert why in ("no answer", "timeout at PING")
    redis.resume()
    d.up("c")
    assert d.call("c", "GET", "k") == "v"
    assert d.log().count(" is down: no answer") == 1


def test_a_pause_is_no_outage(redis, d):
    d.open("c", redis.url, timeout_ms=1000)
    d.up("c")
    redis.cli("CLIENT", "PAUSE", "1300", "ALL")
    assert d.outcome("c", "SET", "k", "v")["err"] == "TIMEOUT"
    poll(lambda: d.outcome("c", "GET", "k")["reply"] == "v", "it goes on")
    assert d.status("c")["reconnects"] == 0
    assert d.log() == ""


def test_a_server_that_sleeps(redis, d):
    d.open("c", redis.url)
    d.up("c")
    sleeps = d.begin("c", "DEBUG", "SLEEP", "0.8", timeout=20000, key=9)
    late = d.begin("c", "ECHO", "late", key=9)
    waits = d.begin("c", "ECHO", "waits", timeout=20000, key=9)
    assert d.end(late)["err"] == "TIMEOUT"
    assert d.end(sleeps)["reply"] == "OK"
    assert d.end(waits)["reply"] == "waits"
    assert d.call("c", "ECHO", "next", key=9) == "next"


def test_killed_links_are_made_again_without_anybody_noticing(redis, d):
    d.open("c", redis.url)
    d.up("c")
    # A link that broke soon may break again; this one has served.
    since = d.status("c")["since"]
    poll(lambda: d.call("c", "PING") and time.monotonic() * 1000 > since + 1200,
         "it served for a while")
    for _ in range(2):
        redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        before = d.status("c")["reconnects"]
        poll(lambda n=before: d.status("c")["reconnects"] > n or
             d.outcome("c", "GET", "k")["err"] == "OK", "it goes on")
    d.up("c")
    assert d.call("c", "PING") == "PONG"


def test_reads_are_sent_again_and_what_was_not_written(redis, d):
    """While the server is stopped its kernel takes what is sent. Killing the
    link from outside shows who is sent again."""
    with Proxy(("127.0.0.1", redis.port)) as proxy:
        d.open("c", f"redis://127.0.0.1:{proxy.port}")
        d.up("c")
        since = time.monotonic()
        poll(lambda: d.call("c", "PING") and time.monotonic() > since + 1.2,
             "it served for a while")
        proxy.mode = "deaf"
        write = d.begin("c", "INCR", "n", timeout=20000)
        read = d.begin("c", "ECHO", "again", timeout=20000, flags="r", key=9)
        reads = d.begin("c", ["ECHO", "1"], ["ECHO", "2"], timeout=20000,
                        flags="r", key=9)
        d.written("c")
        proxy.cut(then="pass")
        assert d.end(write)["err"] == "CLOSED"
        assert d.end(read)["reply"] == "again"
        assert d.end(reads)["reply"] == ["1", "2"]
        assert d.call("c", "EXISTS", "n") == 0


def test_a_server_that_loads_its_data(d, tmp_path):
    with RedisServer(save='"3600 1"', dir=tmp_path) as r:
        r.cli("DEBUG", "POPULATE", "300")
        r.cli("SAVE")
        r.kill()
        conf = next(r.home.glob("*.conf"))
        conf.write_text(conf.read_text() + "key-load-delay 4000\n"
                        "loading-process-events-interval-bytes 1024\n")
        d.open("c", r.url)
        r.start()
        poll(lambda: "LOADING" in d.status("c")["why"], "it says so")
        outcome = d.outcome("c", "GET", "k")
        assert outcome["event"] == "refused"
        assert outcome["why"].startswith("redis is down: LOADING ")
        d.up("c")
        assert d.call("c", "DBSIZE") == 300


def test_a_replica_and_its_promotion(redis, d):
    with RedisServer(config=[f"replicaof 127.0.0.1 {redis.port}"]) as replica:
        poll(lambda: replica.info("master_link_status") == "up", "it follows")
        d.open("c", replica.url)
        assert d.call("c", "GET", "k") is None
        # The reply says so; the link is made again in case the name now leads
        # elsewhere, but not for each of them.
        for _ in range(20):
            assert d.call("c", "SET", "k", "v")["error"].startswith("READONLY")
        poll(lambda: d.status("c")["reconnects"] == 1, "a new link")
        replica.cli("REPLICAOF", "NO", "ONE")
        poll(lambda: d.call("c", "SET", "k", "v") == "OK", "it is a master")
        assert d.status("c")["reconnects"] <= 2


def test_a_replica_without_its_master(redis, d):
    redis.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
    redis.cli("REPLICAOF", "127.0.0.1", "1")
    d.open("c", redis.url)
    assert d.down("c")["why"].startswith("MASTERDOWN")
    redis.cli("REPLICAOF", "NO", "ONE")
    d.up("c")


def test_a_master_without_enough_replicas(redis, d):
    redis.cli("CONFIG", "SET", "min-replicas-to-write", "1")
    d.open("c", redis.url)
    assert d.call("c", "SET", "k", "v")["error"].startswith("NOREPLICAS")
    assert d.call("c", "GET", "k") is None
    redis.cli("CONFIG", "SET", "min-replicas-to-write", "0")
    assert d.call("c", "SET", "k", "v") == "OK"


class Moody(socketserver.BaseRequestHandler):
    """Introduces itself as a Redis would, and hangs up at the first command."""

    def handle(self):
        self.server.accepted += 1
        while data := self.request.recv(4096):
            if b"GET" in data:
                return
            self.request.sendall(b"+PONG\r\n" * data.count(b"PING"))


def test_a_server_that_hangs_up_again_and_again(d):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Moody) as moody:
        moody.daemon_threads = True
        moody.accepted = 0
        thread = threading.Thread(target=moody.serve_forever, daemon=True)
        thread.start()
        began = time.monotonic()
        d.open("c", f"redis://127.0.0.1:{moody.server_address[1]}")
        poll(lambda: d.outcome("c", "GET", "k") and moody.accepted >= 10,
             "it comes back often")
        # Pauses of at most 50 ms each would make it 0.45 s at most; they grow.
        assert time.monotonic() - began > 0.5
        moody.shutdown()
        thread.join()


# ---- the way to it ----

def test_cut_in_the_middle_of_an_answer(proxy, shared, d):
    shared.cli("SET", "long", "x" * 5000)
    d.open("c", proxy.url)
    d.up("c")
    proxy.cut(after=2000)
    first = d.begin("c", "GET", "long", timeout=20000)
    second = d.begin("c", "ECHO", "second", timeout=20000, key=9)
    assert d.end(first)["err"] == "CLOSED"
    assert d.end(second)["err"] == "CLOSED"
    d.up("c")
    assert d.call("c", "GET", "long") == "x" * 5000


def test_cut_between_the_answers_of_a_pipeline(proxy, d):
    d.open("c", proxy.url)
    d.up("c")
    proxy.cut(after=len("+OK\r\n:2\r\n"))
    outcome = d.outcome("c", ["SET", "n", "1"], ["INCR", "n"], ["INCR", "n"],
                        timeout=20000)
    assert (outcome["err"], outcome["reply"]) == ("CLOSED", ["OK", 2])
    d.up("c")
    # Of a transaction there is all or nothing to tell.
    proxy.cut(after=len("+OK\r\n+QUEUED\r\n"))
    outcome = d.outcome("c", ["SET", "n", "1"], ["INCR", "n"], timeout=20000,
                        flags="a")
    assert outcome["err"] == "CLOSED"
    d.up("c")


@pytest.mark.parametrize("mode", ["freeze", "mute", "deaf"])
def test_silence_on_the_way(proxy, d, mode):
    """Half-open: nothing passes, and nobody closes anything."""
    d.open("c", proxy.url)
    d.up("c")
    proxy.mode = mode
    assert d.outcome("c", "PING")["err"] == "TIMEOUT"
    poll(lambda: d.outcome("c", "PING")["event"] == "refused",
         "others fail at once")
    proxy.mode = "pass"
    d.up("c")
    assert d.call("c", "PING") == "PONG"


def test_silence_on_an_idle_link_of_a_subscription(proxy, shared):
    # The ping of a silent link comes after ten seconds; here its answer to
    # SUBSCRIBE is what does not come.
    with Driver() as d:
        d.open("c", proxy.url)
        d.up("c")
        proxy.mode = "mute"
        d.send("sub", "s", "c", "ch")
        poll(lambda: not d.status("c")["up"] or proxy.accepted > 2,
             "it tries again")
        proxy.cut(then="pass")
        d.wait("subscribed", "s")
        shared.cli("PUBLISH", "ch", "x")
        assert d.wait("message", "s")["payload"] == "x"


def test_garbled_answers(proxy, d):
    d.open("c", proxy.url)
    d.up("c")
    proxy.mode = "garble"
    first = d.begin("c", "ECHO", "first", timeout=20000, key=9)
    second = d.begin("c", "ECHO", "second", timeout=20000, key=9)
    first, second = d.end(first), d.end(second)
    assert first["err"] == "PROTO"
    assert "Protocol error" in first["why"]
    assert second["err"] == "CLOSED"
    d.up("c")
    assert d.call("c", "PING") == "PONG"


def test_answers_a_byte_at_a_time(proxy, d):
    proxy.mode = "trickle"
    d.open("c", proxy.url)
    tags = [d.begin("c", "ECHO", f"number {i}", timeout=20000, key=9)
            for i in range(20)]
    assert [d.end(tag)["reply"] for tag in tags] == \
        [f"number {i}" for i in range(20)]


def test_refused_and_accepted_again(proxy, d):
    d.open("c", proxy.url)
    d.up("c")
    proxy.refuse()
    d.down("c")
    poll(lambda: d.status("c")["why"] == "connection refused", "refused")
    proxy.accept()
    d.up("c")


def test_a_unix_socket_that_goes_and_comes_back(tmp_path, d):
    with RedisServer(unix=str(tmp_path / "redis")) as r, \
            Proxy(r.unix, unix=True) as proxy:
        d.open("c", f"redis+unix://{proxy.path}")
        assert d.call("c", "PING") == "PONG"
        proxy.refuse()
        poll(lambda: d.status("c")["why"] in ("connection refused",
                                              "no such file or directory"),
             "it is missed")
        proxy.accept()
        d.up("c")
        assert d.call("c", "PING") == "PONG"


def test_probes_come_one_at_a_time_and_slow_down(proxy, d):
    proxy.mode = "freeze"
    d.open("c", proxy.url, connect_ms=100)
    d.down("c")
    began, before = time.monotonic(), proxy.accepted
    poll(lambda: proxy.accepted >= before + 5, "some probes")
    seconds = time.monotonic() - began
    # Each waits for 100 ms itself; without pauses and one at a time there are
    # at most ten a second.
    assert (proxy.accepted - before) / seconds <= 10
    proxy.mode = "pass"
    d.up("c")


def test_a_reply_that_is_too_large(proxy, shared, d):
    shared.cli("SETRANGE", "large", "200000", "x")
    d.open("c", proxy.url, max_reply=100000)
    d.up("c")
    large = d.begin("c", "GET", "large", timeout=20000, flags="r")
    other = d.begin("c", "ECHO", "other", timeout=20000, flags="r", key=9)
    outcome = d.end(large)
    assert outcome["err"] == "TOO_BIG"
    assert "a reply of more than 100000 bytes" in outcome["why"]
    # Not sent again, or it would end the next link too.
    assert d.end(other)["err"] in ("OK", "CLOSED")
    d.up("c")
    assert d.call("c", "PING") == "PONG"


def test_descriptors_do_not_pile_up(proxy, d):
    d.open("c", proxy.url)
    for _ in range(12):
        d.up("c")
        tag = d.begin("c", "PING", timeout=20000)
        proxy.cut()
        d.end(tag)
    assert proxy.accepted >= 12
    # The driver counts its own when it ends.
