"""The Redis client against a real server, alone: what it does when all is well,
and what it says when something is not."""

import re

import pytest

from support.driver import Driver, Failed
from support.faults import Proxy
from support.servers import RedisServer, poll


@pytest.fixture(scope="module")
def shared():
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(shared):
    shared.resume()  # a test that failed may have left it stopped
    shared.cli("FLUSHALL")
    return shared


@pytest.fixture
def d():
    with Driver() as driver:
        yield driver


def clients(server, name):
    return [line for line in server.cli("CLIENT", "LIST").splitlines()
            if f"name={name} " in line]


# ---- commands ----

def test_replies_of_every_type(redis, d):
    d.open("c", redis.url)
    assert d.call("c", "SET", "k", "a b%\r\n\x7f") == "OK"
    assert d.call("c", "GET", "k") == "a b%\r\n\x7f"
    assert d.call("c", "GET", "missing") is None
    assert d.call("c", "INCR", "n") == 1
    assert d.call("c", "RPUSH", "l", "a", "b") == 2
    assert d.call("c", "LRANGE", "l", "0", "-1") == ["a", "b"]
    assert d.call("c", "LRANGE", "none", "0", "-1") == []
    assert d.call("c", "EVAL", "return {1, {'x', {}}, false}", "0", key=0) == \
        [1, ["x", []], None]
    assert d.call("c", "INCR", "k")["error"].startswith("ERR value is not")
    assert d.call("c", "SET", "empty", "") == "OK"
    assert d.status("c")["errors"] == 1


def test_a_thousand_under_way_each_get_their_own(redis, d):
    d.open("c", redis.url)
    tags = {d.begin("c", "ECHO", f"token {i}", timeout=20000, key=9): i
            for i in range(1000)}
    for tag, i in tags.items():
        assert d.end(tag)["reply"] == f"token {i}"
    assert len(clients(redis, "")) == 2  # ours and that of redis-cli


def test_a_pipeline_is_one_answer_in_order(redis, d):
    d.open("c", redis.url)
    assert d.call("c", ["SET", "a", "1"], ["INCR", "a"], ["NOPE"],
                  ["GET", "a"]) == \
        ["OK", 2, {"error": "ERR unknown command 'NOPE', with args beginning "
                            "with: "}, "2"]


def test_atomic_commands(redis, d):
    d.open("c", redis.url)
    assert d.call("c", ["SET", "a", "1"], ["INCR", "a"], flags="a") == ["OK", 2]
    # Alone too, and an error at EXEC stands in its place.
    assert d.call("c", ["LPUSH", "a", "x"], flags="a")[0]["error"].startswith(
        "WRONGTYPE")
    # Refused while it is queued: that error, and nothing is executed.
    assert d.call("c", ["INCR", "a"], ["NOPE"], flags="a")["error"].startswith(
        "ERR unknown command")
    assert d.call("c", "GET", "a") == "2"


def test_misuse_is_refused_at_once(redis, d):
    d.open("c", redis.url, max_bytes=10000, max_pending=10)
    big = d.outcome("c", "SET", "k", "x" * 20000)
    assert (big["event"], big["err"]) == ("refused", "TOO_BIG")
    assert "more than 10000 bytes" in big["why"]
    redis.pause()
    tags = [d.begin("c", "PING", timeout=20000) for _ in range(10)]
    full = d.outcome("c", "PING")
    assert (full["event"], full["err"]) == ("refused", "FULL")
    assert "too many commands" in full["why"]
    redis.resume()
    assert [d.end(tag)["reply"] for tag in tags] == ["PONG"] * 10
    assert d.call("c", "PING") == "PONG"
    redis.pause()
    tags = [d.begin("c", "SET", "k", "x" * 3000, timeout=20000)
            for _ in range(3)]
    assert d.outcome("c", "SET", "k", "x" * 3000)["err"] == "FULL"
    redis.resume()
    assert [d.end(tag)["reply"] for tag in tags] == ["OK"] * 3


def test_unix_socket_and_database(tmp_path, d):
    with RedisServer(unix=str(tmp_path / "redis.sock")) as r:
        d.open("c", r.url + "?db=3")
        assert d.call("c", "SET", "k", "v") == "OK"
        assert r.cli("-n", "3", "GET", "k") == "v"
        assert r.cli("GET", "k") == ""


def test_bad_urls_are_told(d):
    for url, why in (("redis://h:x", "a port must be"),
                     ("rediss://h", "TLS to Redis is not built in"),
                     ("http://h", "a Redis URL is one of")):
        with pytest.raises(Failed, match=why):
            d.open("c", url)


# ---- clients ----

def test_one_url_is_one_client(redis, d):
    first = d.open("a", redis.url, name="node 1")
    assert d.open("b", redis.url, name="node 1") == first
    assert d.open("other", redis.url, name="node 2") != first
    assert d.call("a", "CLIENT", "GETNAME", key=9) == "node-1"
    assert len(clients(redis, "node-1")) == 1
    # A new generation asks before the old one lets go, or a moment after.
    d.close("a")
    assert d.open("a", redis.url, name="node 1") == first
    d.close("a")
    d.close("b")
    assert d.open("b", redis.url, name="node 1") == first
    assert d.call("b", "CLIENT", "GETNAME", key=9) == "node-1"
    assert d.status("b")["reconnects"] == 0


def test_clients_are_bounded(d):
    # None of them finds anybody; that is not what they are for.
    for i in range(256):
        d.open(f"c{i}", "redis://127.0.0.1:1", name=f"n{i}")
    with pytest.raises(Failed, match="there are 256 clients"):
        d.open("more", "redis://127.0.0.1:1", name="more")
    assert d.open("same", "redis://127.0.0.1:1", name="n7")


def test_a_client_without_references_is_closed(redis, d):
    d.open("c", redis.url, name="lingers", linger_ms=500)
    d.up("c")
    d.close("c")
    assert len(clients(redis, "lingers")) == 1
    poll(lambda: not clients(redis, "lingers"), "it is closed")


def test_commands_under_way_when_all_is_closed(redis, d):
    d.open("c", redis.url)
    d.up("c")
    redis.pause()
    tags = [d.begin("c", "GET", "k", timeout=20000, flags="r")
            for _ in range(3)]
    d.send("closeall")
    for tag in tags:
        outcome = d.end(tag)
        assert (outcome["event"], outcome["err"]) == ("done", "CLOSED")
    assert d.outcome("c", "PING")["event"] == "refused"
    assert d.status("c")["why"] == "closed"


# ---- passwords and databases ----

def test_password_and_acl_user(d):
    with RedisServer(password="s:e/c") as r:
        r.cli("ACL", "SETUSER", "ann", "on", ">p@ss", "~*", "+get", "+set")
        d.open("default", f"redis://:s%3Ae%2Fc@127.0.0.1:{r.port}")
        d.open("ann", f"redis://ann:p%40ss@127.0.0.1:{r.port}", name="ann")
        assert d.call("default", "SET", "k", "v") == "OK"
        # Neither PING nor CLIENT SETNAME are allowed: that does not matter.
        assert d.call("ann", "GET", "k") == "v"
        assert d.call("ann", "DEL", "k")["error"].startswith("NOPERM")
        script = d.script("ann", "return 1")
        with pytest.raises(KeyError):
            d.eval(script)["x"]["error"]  # noqa: B018


def test_a_wrong_password_is_said_once(d):
    with RedisServer(password="right") as r:
        d.open("c", f"redis://:wrong@127.0.0.1:{r.port}")
        status = d.down("c")
        assert "the password is refused: WRONGPASS" in status["why"]
        for _ in range(50):
            outcome = d.outcome("c", "GET", "k")
            assert (outcome["event"], outcome["err"]) == ("refused", "CLOSED")
            assert outcome["why"].startswith("redis is down: the password is")
        # Until it is right, which needs no restart of ours.
        poll(lambda: r.info("rejected_connections") is not None and
             int(r.info("total_connections_received")) > 6, "it tries again")
        log = d.log()
        assert log.count("is down") == 1
        assert "***@127.0.0.1" in log and "wrong" not in log
        r.cli("CONFIG", "SET", "requirepass", "wrong")
        r.password = "wrong"
        d.up("c")
        assert d.call("c", "PING") == "PONG"
        poll(lambda: d.log().count("is up again") == 1, "it says so")


def test_no_password_but_one_is_needed(d):
    with RedisServer(password="right") as r:
        d.open("c", f"redis://127.0.0.1:{r.port}")
        assert d.down("c")["why"] == \
            "a password is needed: NOAUTH Authentication required."


def test_a_database_that_does_not_exist(redis, d):
    d.open("c", redis.url + "/99")
    assert d.down("c")["why"] == \
        "cannot use database 99: ERR DB index is out of range"


def test_the_server_has_no_place_for_us(d):
    with RedisServer(maxclients=1) as r, Driver() as other:
        other.open("c", r.url)
        other.up("c")
        d.open("c", r.url)
        assert d.down("c")["why"] == "ERR max number of clients reached"
        other.send("closeall")
        d.up("c")


# ---- scripts ----

def test_scripts_run_by_hash_and_come_back_after_a_flush(redis, d):
    d.open("c", redis.url)
    d.up("c")
    redis.cli("CONFIG", "RESETSTAT")
    script = d.script("c", "redis.call('INCR', KEYS[1]); return ARGV[1]")
    for i in range(5):
        assert d.eval(script, ["n"], [f"a{i}"]) == f"a{i}"
    redis.cli("SCRIPT", "FLUSH")
    for i in range(5):
        assert d.eval(script, ["n"], [f"b{i}"]) == f"b{i}"
    assert d.call("c", "GET", "n") == "10"  # none ran twice, none not at all
    calls = {name: int(re.search(r"calls=(\d+)", line).group(1))
             for line in redis.cli("INFO", "commandstats").splitlines()
             if (name := line.partition(":")[0][8:]) and "calls=" in line}
    # By its source: perhaps before the hash was known, and after the flush.
    assert calls["evalsha"] >= 9 and 1 <= calls["eval"] <= 2
    redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    poll(lambda: d.status("c")["reconnects"] == 1, "a new link")
    redis.cli("SCRIPT", "FLUSH")
    assert d.eval(script, ["n"], ["c"]) == "c"


def test_scripts_are_loaded_into_a_new_server(redis, d):
    with RedisServer() as r:
        d.open("c", r.url)
        script = d.script("c", "return ARGV[1]")
        assert d.eval(script, [], ["a"]) == "a"
        r.restart()
        d.up("c")
        assert d.eval(script, [], ["b"]) == "b"
        assert "cmdstat_eval:" not in r.cli("INFO", "commandstats")


def test_a_script_that_fails(redis, d):
    d.open("c", redis.url)
    script = d.script("c", "return nonsense + 1")
    assert "nonsense" in d.eval(script)["error"]
    broken = d.script("c", "this is not Lua")
    assert "Error compiling script" in d.eval(broken)["error"]
    d.send("unscript", script)
    assert d.call("c", "PING") == "PONG"


# ---- deadlines and cancelling ----

def test_a_late_reply_goes_to_nobody(redis, d):
    d.open("c", redis.url, timeout_ms=5000)
    d.up("c")
    redis.pause()
    late = d.begin("c", "ECHO", "late", timeout=100, key=9)
    patient = d.begin("c", "ECHO", "patient", timeout=20000, key=9)
    outcome = d.end(late)
    assert (outcome["event"], outcome["err"], outcome["why"]) == \
        ("done", "TIMEOUT", "timeout")
    redis.resume()
    assert d.end(patient)["reply"] == "patient"
    assert d.call("c", "ECHO", "next", key=9) == "next"
    status = d.status("c")
    assert (status["timeouts"], status["reconnects"]) == (1, 0)


def test_one_impatient_command_does_not_end_the_link(redis, d):
    d.open("c", redis.url, timeout_ms=5000)
    d.up("c")
    redis.pause()
    assert d.outcome("c", "PING", timeout=1)["err"] == "TIMEOUT"
    assert d.outcome("c", "PING", timeout=100)["err"] == "TIMEOUT"
    redis.resume()
    assert d.call("c", "PING") == "PONG"
    assert d.status("c")["reconnects"] == 0


def test_a_loop_that_was_late_blames_nobody(redis, d):
    d.open("c", redis.url)
    d.up("c")
    tags = [d.begin("c", "ECHO", str(i), key=9) for i in range(20)]
    d.send("stall", "600")
    assert [d.end(tag)["reply"] for tag in tags] == [str(i) for i in range(20)]


def test_cancelled_commands_say_nothing(redis, d):
    d.open("c", redis.url)
    d.up("c")
    redis.pause()
    tags = [d.begin("c", "ECHO", str(i), timeout=20000, key=9)
            for i in range(10)]
    for tag in tags[::2]:
        d.cancel(tag)
    d.written("c")
    redis.resume()
    assert [d.end(tag)["reply"] for tag in tags[1::2]] == list("13579")
    assert d.call("c", "PING") == "PONG"
    assert not d.kept


def test_what_waits_for_a_link_is_not_sent_once_it_is_over(redis, d):
    with Proxy(("127.0.0.1", redis.port)) as proxy:
        proxy.mode = "mute"
        d.open("c", f"redis://127.0.0.1:{proxy.port}", connect_ms=5000)
        cancelled = d.begin("c", "SET", "cancelled", "1", timeout=20000)
        late = d.begin("c", "SET", "late", "1", timeout=50)
        waits = d.begin("c", "SET", "waits", "1", timeout=20000)
        outcome = d.end(late)
        assert (outcome["err"], outcome["why"]) == \
            ("TIMEOUT", "timeout (not sent)")
        d.cancel(cancelled)
        proxy.cut(then="pass")
        poll(lambda: d.status("c")["up"] or not d.status("c")["pending"],
             "it gave up, or connected")
        # The first attempt failed, and with it what waited.
        assert d.end(waits)["why"] == "redis is down: closed (not sent)"
        d.up("c")
        assert d.call("c", "EXISTS", "cancelled", "late", "waits") == 0


def test_commands_wait_for_the_first_link(redis, d):
    with Proxy(("127.0.0.1", redis.port)) as proxy:
        proxy.mode, proxy.seconds = "delay", 0.1
        d.open("c", f"redis://127.0.0.1:{proxy.port}")
        tags = [d.begin("c", "ECHO", str(i), timeout=20000, key=9)
                for i in range(5)]
        assert d.status("c")["why"] == "connecting"
        assert [d.end(tag)["reply"] for tag in tags] == list("01234")


# ---- links of one's own ----

def test_own_links_block_nobody(redis, d):
    d.open("c", redis.url)
    own = d.own("c")
    blocked = d.begin("c", "BLPOP", "list", "0", own=own, timeout=20000)
    assert d.call("c", "PING") == "PONG"
    assert d.call("c", "RPUSH", "list", "x") == 1
    assert d.end(blocked)["reply"] == ["list", "x"]
    d.send("give", own)


def test_own_links_come_back_clean(redis, d):
    d.open("c", redis.url)

    def number(own):
        return d.call("c", "CLIENT", "ID", own=own, key=9)

    own = d.own("c")
    first = number(own)
    assert d.call("c", "WATCH", "k", own=own) == "OK"
    assert d.call("c", "SELECT", "5", own=own, key=9) == "OK"
    d.send("give", own)
    poll(lambda: "db=0" in redis.cli("CLIENT", "LIST", "ID", first), "its proof")
    own = d.own("c")
    assert number(own) == first  # the same, and out of WATCH and database 5
    d.call("c", "SET", "k", "changed")
    assert d.call("c", ["SET", "a", "1"], flags="a", own=own) == ["OK"]
    assert redis.cli("GET", "a") == "1"
    # In MULTI it is of no use to the next one.
    assert d.call("c", "MULTI", own=own, key=9) == "OK"
    d.send("give", own)
    poll(lambda: redis.cli("CLIENT", "LIST", "ID", first) == "", "it is closed")
    own = d.own("c")
    assert number(own) != first
    d.send("drop", own)


def test_an_own_link_given_back_with_a_command_under_way(redis, d):
    d.open("c", redis.url)
    own = d.own("c")
    tag = d.begin("c", "BLPOP", "list", "0", own=own, timeout=20000)
    d.send("give", own)
    assert d.end(tag)["err"] == "CLOSED"
    own = d.own("c")
    tag = d.begin("c", "BLPOP", "list", "0", own=own, timeout=20000)
    d.cancel(tag)
    d.send("drop", own)
    assert d.call("c", "PING") == "PONG"


def test_own_links_are_bounded_and_die_with_the_server(d):
    with RedisServer() as r:
        d.open("c", r.url, max_own=2)
        owns = [d.own("c"), d.own("c")]
        with pytest.raises(Failed, match="all 2 links of one's own"):
            d.own("c")
        blocked = d.begin("c", "BLPOP", "list", "0", own=owns[0],
                          timeout=20000)
        r.kill()
        assert d.end(blocked)["err"] == "CLOSED"
        d.down("c")
        outcome = d.outcome("c", "PING", own=owns[0])
        assert (outcome["event"], outcome["why"]) == \
            ("refused", "the link is closed")
        d.send("give", owns[0])
        with pytest.raises(Failed, match="redis is down: c"):
            d.own("c")
        r.start().wait_ready()
        d.up("c")
        d.send("drop", d.own("c"))


# ---- subscriptions ----

def test_channels_and_patterns(redis, d):
    d.open("c", redis.url)
    d.send("sub", "one", "c", "news")
    d.send("sub", "two", "c", "news")
    d.send("psub", "all", "c", "n*")
    for name in ("one", "two", "all"):
        d.wait("subscribed", name)
    redis.cli("PUBLISH", "news", "a b")
    for name in ("one", "two", "all"):
        message = d.wait("message", name)
        assert (message["channel"], message["payload"]) == ("news", "a b")
    d.send("unsub", "one")
    d.call("c", "PING")
    redis.cli("PUBLISH", "news", "again")
    assert d.wait("message", "two")["payload"] == "again"
    assert d.wait("message", "all")["payload"] == "again"
    # Its own callback ends it; the others hear the same message.
    redis.cli("PUBLISH", "news", "goodbye")
    d.wait("message", "two")
    d.wait("message", "all")
    redis.cli("PUBLISH", "news", "nobody")
    poll(lambda: redis.cli("CLIENT", "LIST", "TYPE", "pubsub") == "",
         "the link goes with the last subscription")
    assert not d.kept


def test_subscriptions_come_back(d):
    with RedisServer() as r:
        d.open("c", r.url)
        d.send("sub", "s", "c", "ch")
        d.wait("subscribed", "s")
        r.cli("CLIENT", "KILL", "TYPE", "pubsub")
        assert d.wait("lost", "s")["why"] == "closed"
        d.wait("subscribed", "s")
        r.cli("PUBLISH", "ch", "one")
        assert d.wait("message", "s")["payload"] == "one"
        r.restart()
        d.wait("lost", "s")
        d.wait("subscribed", "s")
        r.cli("PUBLISH", "ch", "two")
        assert d.wait("message", "s")["payload"] == "two"


def test_a_subscription_begins_when_the_server_does(d):
    with RedisServer() as r:
        r.kill()
        d.open("c", r.url)
        d.down("c")
        d.send("sub", "s", "c", "ch")
        r.start().wait_ready()
        d.wait("subscribed", "s")


def test_a_refused_subscription(d):
    with RedisServer(password="p") as r:
        r.cli("ACL", "SETUSER", "ann", "on", ">p", "+@all", "resetchannels",
              "&mine")
        d.open("c", f"redis://ann:p@127.0.0.1:{r.port}")
        d.send("sub", "mine", "c", "mine")
        d.send("sub", "yours", "c", "yours")
        d.wait("subscribed", "mine")
        assert d.wait("refused", "yours")["why"].startswith("NOPERM")
        d.send("unsub", "yours")
