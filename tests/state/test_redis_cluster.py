"""The Redis client in a cluster: each key goes to the master that has its slot,
also while slots and masters move."""

import contextlib

import pytest

from support.driver import Driver, Failed
from support.servers import Cluster, RedisServer, poll


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def d():
    with Driver() as driver:
        yield driver


def check_load(counts, least=1000):
    assert counts["ok"] > least, counts
    for what in ("wrong", "twice", "never", "late", "other"):
        assert counts[what] == 0, counts


def owner(cluster, slot):
    """The port of the master that has the slot."""
    for port, (_, flags, ranges) in cluster.nodes().items():
        for part in ranges if "master" in flags else ():
            first, _, last = part.partition("-")
            if first.isdigit() and int(first) <= slot <= int(last or first):
                return port
    raise AssertionError(f"nobody has slot {slot}")


def by_port(cluster, port):
    return next(s for s in cluster.servers if s.port == port)


def test_keys_go_where_they_belong(cluster, d):
    d.open("c", cluster.url())
    for i in range(200):
        assert d.call("c", "SET", f"key:{i}", f"value {i}") == "OK"
    for i in range(200):
        assert d.call("c", "GET", f"key:{i}") == f"value {i}"
    sizes = [int(s.cli("DBSIZE")) for s in cluster.masters()]
    assert len(sizes) == 3 and min(sizes) > 30
    assert d.status("c")["errors"] == 0


def test_commands_without_a_key_go_to_any_master(cluster, d):
    d.open("c", cluster.url())
    d.up("c")
    ports = {d.call("c", "CONFIG", "GET", "port", key=9)[1] for _ in range(60)}
    assert ports == {str(s.port) for s in cluster.masters()}


def test_several_keys_must_be_in_one_slot(cluster, d):
    d.open("c", cluster.url())
    assert d.call("c", ["SET", "{a}1", "x"], ["GET", "{a}1"], ["PING"]) == \
        ["OK", "x", "PONG"]
    assert d.call("c", ["SET", "{a}1", "x"], ["INCR", "{a}2"], flags="a") == \
        ["OK", 1]
    outcome = d.outcome("c", ["SET", "a", "x"], ["GET", "b"])
    assert (outcome["event"], outcome["err"]) == ("refused", "INVAL")
    assert 'must be in one slot; "a" and "b" are not: give them a common ' \
        "{tag}" in outcome["why"]
    assert d.call("c", "MGET", "a", "b")["error"].startswith("CROSSSLOT")


def test_scripts_and_own_links(cluster, d):
    d.open("c", cluster.url())
    script = d.script("c", "redis.call('SET', KEYS[1], ARGV[1]); "
                           "return redis.call('GET', KEYS[1])")
    for i in range(20):
        assert d.eval(script, [f"script:{i}"], [f"v{i}"]) == f"v{i}"
    for key in ("list:a", "list:b", "list:c"):
        own = d.own("c", key=key)
        blocked = d.begin("c", "BLPOP", key, "0", own=own, timeout=20000)
        assert d.call("c", "RPUSH", key, "x") == 1
        assert d.end(blocked)["reply"] == [key, "x"]
        d.send("give", own)


def test_subscriptions(cluster, d):
    d.open("c", cluster.url())
    d.send("sub", "s", "c", "news")
    d.wait("subscribed", "s")
    for server in cluster.masters():
        server.cli("PUBLISH", "news", server.port)
        assert d.wait("message", "s")["payload"] == str(server.port)


def test_hosts_that_are_nobody(cluster, d):
    port = cluster.servers[2].port
    d.open("c", f"redis+cluster://127.0.0.1:1,127.0.0.1:2,127.0.0.1:{port}")
    assert d.call("c", "SET", "k", "v", timeout=5000) == "OK"
    d.open("none", "redis+cluster://127.0.0.1:1")
    assert d.down("none")["why"] == "127.0.0.1: connection refused"
    assert d.outcome("none", "GET", "k")["why"] == \
        "redis is down: 127.0.0.1: connection refused"


def test_a_server_that_is_no_cluster(d):
    with RedisServer() as r:
        d.open("c", f"redis+cluster://127.0.0.1:{r.port}")
        assert "cluster support disabled" in d.down("c")["why"]


def test_a_slot_that_moves(cluster, d):
    """By hand, step by step: ASK, TRYAGAIN, MOVED."""
    d.open("c", cluster.url())
    d.open("quiet", cluster.url(), name="quiet")
    slot = int(cluster.manage("CLUSTER", "KEYSLOT", "{moving}"))
    assert d.call("c", ["SET", "{moving}old", "1"], ["SET", "{moving}both", "1"]
                  ) == ["OK", "OK"]
    source = by_port(cluster, owner(cluster, slot))
    target = next(s for s in cluster.masters() if s is not source)
    nodes = cluster.nodes()
    target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", nodes[source.port][0])
    source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", nodes[target.port][0])
    own = d.own("quiet", key="{moving}")
    # What is new goes to the target, what is there stays.
    assert d.call("c", "SET", "{moving}new", "2") == "OK"
    assert target.cli("CLUSTER", "COUNTKEYSINSLOT", slot) == "1"
    assert d.call("c", "GET", "{moving}old") == "1"
    assert d.call("c", ["GET", "{moving}old"], ["GET", "{moving}new"],
                  ["PING"], ["INCR", "{moving}new"]) == ["1", "2", "PONG", 3]
    assert d.call("c", ["INCR", "{moving}new"], ["INCR", "{moving}new"],
                  flags="a") == [4, 5]
    script = d.script("c", "return redis.call('GET', KEYS[1])")
    assert d.eval(script, ["{moving}new"]) == "5"
    # Keys on both sides: not now, so it is asked again, until it is over.
    # A pipeline keeps its order, so part of it is not asked again.
    assert d.call("c", ["MGET", "{moving}old", "{moving}new"],
                  ["INCR", "{moving}old"])[1] == 2
    assert d.call("c", "SET", "{moving}old", "1") == "OK"
    both = d.begin("c", "MGET", "{moving}old", "{moving}new", timeout=20000)
    patient = d.outcome("c", "MGET", "{moving}old", "{moving}new", timeout=100)
    assert patient["reply"]["error"].startswith("TRYAGAIN")
    source.cli("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS",
               "{moving}old", "{moving}both")
    assert d.end(both)["reply"] == ["1", "5"]
    for server in (target, source):
        server.cli("CLUSTER", "SETSLOT", slot, "NODE", nodes[target.port][0])
    assert d.call("c", "GET", "{moving}both") == "1"
    assert d.call("c", "SET", "{moving}last", "1") == "OK"
    # On a link of one's own that is delivered; the client learns from it.
    assert d.call("quiet", "GET", "{moving}old", own=own)["error"].startswith(
        f"MOVED {slot}")
    d.send("drop", own)

    def leads_to_the_target():
        own = d.own("quiet", key="{moving}")
        port = d.call("quiet", "CONFIG", "GET", "port", own=own, key=9)[1]
        d.send("give", own)
        return port == str(target.port)

    poll(leads_to_the_target, "the next link leads elsewhere")
    status = d.status("c")
    assert status["errors"] == 2  # TRYAGAIN, which was delivered
    poll(lambda: owner(cluster, slot) == target.port, "the others know")


def test_slots_move_under_load(cluster, d):
    d.open("c", cluster.url())
    d.up("c")
    load = d.load("c", users=64)
    poll(lambda: d.status("c")["commands"] > 2000, "it is under load")
    nodes = cluster.nodes()
    source, target = cluster.masters()[:2]
    # Whoever moves keys is not to be interrupted by those who wait for them.
    cluster.manage("--cluster", "reshard", f"127.0.0.1:{source.port}",
                   "--cluster-from", nodes[source.port][0],
                   "--cluster-to", nodes[target.port][0],
                   "--cluster-slots", "400", "--cluster-yes", seconds=90)
    counts = d.stop_load(load)
    check_load(counts)
    # Nothing of it is seen: not a lost write, nor one done twice, nor an error.
    assert counts["error_replies"] == 0, counts
    assert counts["refused"] == 0, counts
    assert counts["closed"] == 0, counts


def test_a_replica_takes_over_by_order(cluster, d):
    d.open("c", cluster.url())
    d.up("c")
    load = d.load("c", users=32, gentle=True)
    replica = next(s for s in cluster.servers
                   if s.info("role") == "slave")
    for _ in range(4):  # Redis gives up when its nodes lose a message
        replica.cli("CLUSTER", "FAILOVER")
        with contextlib.suppress(AssertionError):
            poll(lambda: replica.info("role") == "master", "a master", 6)
            break
    poll(lambda: str(replica.port) in {
        d.call("c", "CONFIG", "GET", "port", key=9)[1] for _ in range(20)},
        "it is found")
    counts = d.stop_load(load)
    check_load(counts)
    assert counts["error_replies"] == 0, counts
    poll(cluster.is_settled, "the cluster is whole")


def test_a_master_dies_under_load(cluster, d):
    d.open("c", cluster.url())
    d.up("c")
    load = d.load("c", users=64, lossy=True)
    poll(lambda: d.status("c")["commands"] > 2000, "it is under load")
    killed = cluster.masters()[0]
    slot = int(next(part for part in cluster.nodes()[killed.port][2]
                    if part[0].isdigit()).partition("-")[0])
    killed.kill()
    poll(lambda: owner(cluster, slot) != killed.port, "another has its slots")
    d.up("c")
    killed.start().wait_ready()
    poll(cluster.is_settled, "the cluster is whole")
    counts = d.stop_load(load)
    check_load(counts)
    assert "is down" in d.log()
    # One that is stopped, and comes back, no master any more.
    load = d.load("c", users=64, lossy=True, seed=2)
    paused = cluster.masters()[0]
    slot = int(next(part for part in cluster.nodes()[paused.port][2]
                    if part[0].isdigit()).partition("-")[0])
    paused.pause()
    other = next(s for s in cluster.servers if s is not paused)
    poll(lambda: f"127.0.0.1:{paused.port}@" not in "".join(
        line for line in other.cli("CLUSTER", "NODES").splitlines()
        if "master" in line and "fail" not in line), "it is missed")
    d.up("c")
    paused.resume()
    poll(cluster.is_settled, "the cluster is whole")
    check_load(d.stop_load(load))
    assert d.call("c", "SET", "k", "v") == "OK"


def test_password():
    with Cluster(password="pass") as cluster, Driver() as d:
        d.open("c", cluster.url(user=":pass@"))
        for i in range(20):
            assert d.call("c", "SET", f"k{i}", "v") == "OK"
        d.open("none", cluster.url())
        with pytest.raises(Failed, match="NOAUTH"):
            d.call("none", "GET", "k")
