"""The Redis client behind sentinels: it finds the master, follows it, and needs
no sentinel as long as the master serves."""

import pytest

from support.driver import Driver
from support.servers import Sentinels, poll


@pytest.fixture(scope="module")
def shared():
    with Sentinels() as sentinels:
        yield sentinels


@pytest.fixture
def sentinels(shared):
    """The shared ones, all running, with a master that can be replaced."""
    for member in shared.members:
        if not member.running():
            member.start()

    def is_whole():
        facts = [dict(zip(fields[::2], fields[1::2])) for fields in (
            shared.ask(port, "SENTINEL", "MASTER", "mymaster").split()
            for port in shared.sentinel_ports)]
        return all(f.get("flags") == "master" and
                   f.get("num-other-sentinels") == "2" for f in facts) and \
            shared.master().info("connected_slaves") != "0"

    poll(is_whole, "a master, and sentinels that agree")
    return shared


@pytest.fixture
def d():
    with Driver() as driver:
        yield driver


def check_load(counts, least=1000):
    assert counts["ok"] > least, counts
    for what in ("wrong", "twice", "never", "late", "other"):
        assert counts[what] == 0, counts


def test_finds_the_master(sentinels, d):
    d.open("c", sentinels.url(db="/2"))
    assert d.call("c", "SET", "k", "v") == "OK"
    assert sentinels.master().cli("-n", "2", "GET", "k") == "v"
    role = d.call("c", "ROLE", key=9)
    assert role[0] == "master"


def test_asks_those_that_answer(sentinels, d):
    """Of three hosts two are nobody; the third tells of the others."""
    port = sentinels.sentinel_ports[0]
    d.open("c", f"redis+sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:{port}"
           "/mymaster")
    assert d.call("c", "PING", timeout=5000) == "PONG"
    # The one that was named is gone: the others have been learnt of.
    sentinels.sentinels[0].kill()
    sentinels.master().cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    poll(lambda: d.status("c")["reconnects"] >= 1, "a new link")
    d.up("c")
    assert d.call("c", "PING") == "PONG"


def test_names_and_hosts_that_do_not_exist(sentinels, d):
    port = sentinels.sentinel_ports[0]
    d.open("c", f"redis+sentinel://127.0.0.1:{port}/other")
    assert d.down("c")["why"] == \
        "no sentinel knows where the master is; " \
        f"127.0.0.1:{port}: it does not know \"other\""
    d.open("e", "redis+sentinel://127.0.0.1:1/mymaster")
    assert d.down("e")["why"].endswith("127.0.0.1:1: connection refused")
    assert d.outcome("e", "PING")["why"].startswith(
        "redis is down: no sentinel knows")


def test_serves_without_sentinels(sentinels, d):
    d.open("c", sentinels.url())
    d.up("c")
    for sentinel in sentinels.sentinels:
        sentinel.kill()
    assert d.call("c", "PING") == "PONG"
    # A link that breaks cannot be made again, for nobody knows the master.
    sentinels.servers[0].cli("PING")
    for server in sentinels.servers:
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    down = d.down("c")
    assert down["why"]
    for sentinel in sentinels.sentinels:
        sentinel.start()
    d.up("c")
    assert d.call("c", "PING") == "PONG"


def test_follows_an_ordered_switch(sentinels, d):
    d.open("c", sentinels.url())
    d.up("c")
    load = d.load("c", users=32, lossy=True, gentle=True)
    before = sentinels.master_port()
    poll(lambda: "OK" in sentinels.ask(
        sentinels.sentinel_ports[1], "SENTINEL", "FAILOVER", "mymaster"),
        "a failover begins")
    poll(lambda: sentinels.master_port() not in (0, before), "another master")
    poll(lambda: d.outcome("c", "SET", "after", "switch")["reply"] == "OK",
         "it is followed")
    assert sentinels.master().cli("GET", "after") == "switch"
    counts = d.stop_load(load)
    check_load(counts)


def replace_master(sentinels, d, how):
    """Takes the master away; returns it once the client has another."""
    master = sentinels.master()
    before = d.status("c")["commands"]
    poll(lambda: d.status("c")["commands"] > before + 2000, "under load")
    if how == "kill":
        master.kill()
    else:
        master.pause()
    poll(lambda: sentinels.master_port() not in (0, master.port),
         "another master")
    d.up("c")
    poll(lambda: d.outcome("c", "SET", "after", how)["reply"] == "OK",
         "it is followed")
    new = sentinels.master()
    assert new.cli("GET", "after") == how
    d.wait("lost", "s")
    d.wait("subscribed", "s")
    new.cli("PUBLISH", "news", how)
    assert d.wait("message", "s")["payload"] == how
    return master


def test_failover_under_load():
    with Sentinels() as sentinels, Driver() as d:
        d.open("c", sentinels.url())
        d.up("c")
        d.send("sub", "s", "c", "news")
        d.wait("subscribed", "s")
        load = d.load("c", users=64, lossy=True)
        killed = replace_master(sentinels, d, "kill")
        paused = replace_master(sentinels, d, "pause")
        # They come back, each as a master for a while, and nobody goes there.
        killed.start().wait_ready()
        paused.resume()
        master = sentinels.master()
        assert master not in (killed, paused)
        for server in sentinels.servers:
            server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        d.up("c")
        poll(lambda: d.outcome("c", "CONFIG", "GET", "port", key=9)["reply"] ==
             ["port", str(master.port)], "it is still there")
        check_load(d.stop_load(load))


def test_passwords():
    """The servers want one; the sentinels have none, and answer all the same."""
    with Sentinels(password="pass") as sentinels, Driver() as d:
        d.open("c", sentinels.url(user=":pass@"))
        assert d.call("c", "SET", "k", "v") == "OK"
        d.open("wrong", sentinels.url(user=":wrong@"))
        assert "the password is refused" in d.down("wrong")["why"]
        assert "wrong" not in d.log()


def test_sentinels_with_the_same_password():
    with Sentinels(password="pass", sentinel_password="pass") as sentinels, \
            Driver() as d:
        d.open("c", sentinels.url(user=":pass@"))
        assert d.call("c", "SET", "k", "v") == "OK"
        d.open("none", sentinels.url())
        assert "NOAUTH" in d.down("none")["why"]
