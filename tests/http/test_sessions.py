"""c:session() over real nodes: the same on every store, whoever asks."""

import contextlib
import re
import threading

import pytest

from support.client import Client, build
from support.node import Node, eventually
from support.servers import Cluster, MemcachedServer, RedisServer, Sentinels

APP = r"""
app:get("/plain", function() return "plain" end)
app:get("/set", function(c) c:session():set(c:query("k"), c:query("v")) return "set" end)
app:get("/get", function(c) return { value = c:session():get(c:query("k")) } end)
app:get("/all", function(c) return c:session():all() end)
app:get("/clear", function(c)
    local session = c:session()
    session:clear()
    session:set("left", true)
    return session:all()
end)
app:get("/count", function(c)
    return tostring(c:session():update(function(view)
        view:set("n", (view:get("n") or 0) + 1)
        return view:get("n")
    end))
end)
app:get("/mix", function(c)
    local session = c:session()
    local function add(name)
        return session:update(function(view)
            view:set(name, (view:get(name) or 0) + 1)
            return view:get(name)
        end)
    end
    local seen = {}
    if c:query("set") then session:set("before", "set") end
    seen[1], seen[2] = add("n"), add("n")
    if c:query("read") then seen[3] = session:get("n") end
    if c:query("renew") then session:renew() end
    if c:query("set") then session:set("after", "set") end
    return seen
end)
app:get("/slow", function(c)
    local session = c:session()
    session:set("slow", true)
    while moonshine.shared("gate"):get("open") == nil do moonshine.sleep(0.005) end
    return "slow"
end)
app:get("/gate", function(c) moonshine.shared("gate"):set("open", 1) return "open" end)
app:get("/flash", function(c) c:session():flash("note", "saved") return "kept" end)
app:get("/note", function(c) return { note = c:session():flash("note") } end)
app:get("/remember", function(c) c:session():set("a", 1) c:session():remember(3600) return "yes" end)
app:get("/hash", function(c) return c:session():id_hash() or "none" end)
app:post("/login", function(c)
    local session = c:session()
    session:renew()
    session:subject(c:query("user"))
    session:set("user", c:query("user"))
    return "in"
end)
app:post("/logout", function(c) c:session():destroy() return "out" end)
app:get("/sessions", function(c)
    local list, message, code = moonshine.sessions.list(c:query("user"))
    return list and { count = #list } or c:fail(code, message)
end)
app:post("/revoke", function(c)
    local count, message, code = moonshine.sessions.revoke_all(c:query("user"))
    return count and { count = count } or c:fail(code, message)
end)
"""
SETTINGS = {"shared.gate": "64k"}
STORES = ["lmdb", "memory", "redis", "unix", "sentinel", "cluster",
          "memcached"]


@contextlib.contextmanager
def store(kind, directory):
    """A URL, with the real thing behind it."""
    if kind in ("lmdb", "memory"):
        yield kind + ":"
    elif kind == "memcached":
        with MemcachedServer() as server:
            yield server.url
    elif kind in ("redis", "unix"):
        path = str(directory / "redis.sock") if kind == "unix" else None
        with RedisServer(unix=path) as server:
            yield server.url
    else:
        with (Sentinels() if kind == "sentinel" else Cluster()) as group:
            yield group.url()


@pytest.fixture(name="node", scope="module", params=STORES)
def fixture_node(request, tmp_path_factory):
    with store(request.param, tmp_path_factory.mktemp("store")) as url, \
            Node(APP, workers=2, settings={**SETTINGS, "session.url": url}) \
            as node:
        node.store = request.param
        yield node


class Browser:
    """Keeps the cookie; one connection, so that one worker serves it."""

    def __init__(self, node, jar=None):
        self.client = Client(node.address)
        self.jar = {} if jar is None else jar

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def ask(self, target, method="GET", status=200):
        headers = {}
        if self.jar:
            headers["Cookie"] = "; ".join(
                f"{k}={v}" for k, v in self.jar.items())
        answer = self.client.request(method, target, headers)
        assert answer.status == status, (target, answer, answer.text)
        for line in answer.all("Set-Cookie"):
            name, _, value = line.split(";")[0].partition("=")
            if value:
                self.jar[name] = value
            else:
                self.jar.pop(name, None)
        return answer


def side_by_side(*functions):
    """Runs them at the same time; what one raised is raised here."""
    wrong = []

    def run(fn):
        try:
            fn()
        except BaseException as error:  # pylint: disable=broad-except
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(fn,)) for fn in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def test_a_session_begins_when_something_is_set(node):
    with Browser(node) as browser:
        assert not browser.ask("/plain").all("Set-Cookie")
        answer = browser.ask("/get?k=a")
        assert answer.json() == {} and not answer.all("Set-Cookie")
        cookie, = browser.ask("/set?k=a&v=1").all("Set-Cookie")
        assert re.fullmatch(r"id=[\w-]{43}; Path=/; HttpOnly; SameSite=Lax",
                            cookie)
        answer = browser.ask("/get?k=a")
        assert answer.json() == {"value": "1"}
        assert not answer.all("Set-Cookie")


def test_clear_removes_values_and_keeps_the_session(node):
    with Browser(node) as browser:
        browser.ask("/set?k=a&v=1")
        cookie = browser.jar["id"]
        assert browser.ask("/clear").json() == {"left": True}
        assert browser.ask("/all").json() == {"left": True}
        assert browser.jar["id"] == cookie


@pytest.mark.parametrize("cookie", [
    "x", "A" * 43, "A" * 64, "0" * 64, "a" * 4000, "%00" * 20, "\"" * 43])
def test_an_unknown_id_is_never_adopted(node, cookie):
    with Browser(node, {"id": cookie}) as browser:
        assert browser.ask("/get?k=a").json() == {}
        browser.ask("/set?k=a&v=1")
        assert browser.jar["id"] != cookie
        assert len(browser.jar["id"]) == 43


def test_what_requests_set_side_by_side_is_all_there(node):
    rounds = 100 if node.sanitized() else 1000
    with Browser(node) as one, Browser(node) as two:
        one.ask("/set?k=x&v=1")
        two.jar.update(one.jar)
        for i in range(0, rounds, 25):
            side_by_side(
                lambda i=i: [one.ask(f"/set?k=a{n % 50}&v={n}")
                             for n in range(i, i + 25)],
                lambda i=i: [two.ask(f"/set?k=b{n % 50}&v={n}")
                             for n in range(i, i + 25)])
            found = one.ask("/all").json()
            for n in range(i, i + 25):
                assert found[f"a{n % 50}"] == found[f"b{n % 50}"] == str(n)


def test_no_update_is_lost(node):
    rounds = 5
    with Browser(node) as first:
        first.ask("/count")
        browsers = [Browser(node, dict(first.jar)) for _ in range(8)]
        side_by_side(*[
            lambda browser=browser: [browser.ask("/count")
                                     for _ in range(rounds)]
            for browser in browsers])
        for browser in browsers:
            browser.client.close()
        assert first.ask("/count").text == str(8 * rounds + 2)


@pytest.mark.parametrize("query", ["", "set=1", "read=1", "set=1&read=1",
                                   "renew=1", "set=1&renew=1"])
def test_updates_among_other_changes(node, query):
    with Browser(node) as browser:
        for start in (0, 2):  # a session that begins, and one that is there
            answer = browser.ask(f"/mix?{query}")
            want = [start + 1, start + 2]
            want += [start + 2] if "read" in query else []
            assert answer.json() == want
            begins = start == 0 or "renew" in query
            assert len(answer.all("Set-Cookie")) == begins
            held = {"n": start + 2}
            if "set" in query:
                held.update(before="set", after="set")
            assert browser.ask("/all").json() == held


def test_login_and_logout(node):
    with Browser(node) as browser, Browser(node) as other:
        browser.ask("/set?k=a&v=1")
        before = dict(browser.jar)
        browser.ask("/login?user=ann", "POST")
        assert browser.jar["id"] != before["id"]
        assert browser.ask("/all").json() == {"a": "1", "user": "ann"}
        other.jar.update(before)  # the old id is dead
        assert other.ask("/all").json() == {}
        after = dict(browser.jar)
        answer = browser.ask("/logout", "POST")
        assert answer.all("Set-Cookie") == [
            "id=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"]
        other.jar.update(after)
        assert other.ask("/all").json() == {}


def test_a_logout_during_a_slow_request_stays(node):
    with Browser(node) as slow, Browser(node) as quick, Browser(node) as late:
        slow.ask("/set?k=a&v=1")
        quick.jar.update(slow.jar)
        late.jar.update(slow.jar)
        waiting = threading.Thread(target=slow.ask, args=("/slow",))
        waiting.start()
        eventually(lambda: "/slow" in node.command(
            "status", "--requests").stdout, "the slow request is in flight")
        quick.ask("/logout", "POST")
        quick.ask("/gate")
        waiting.join()
        assert slow.ask("/all").json() == {}
        assert late.ask("/all").json() == {}


def test_flash_is_read_once(node):
    with Browser(node) as browser:
        browser.ask("/flash")
        assert browser.ask("/note").json() == {"note": "saved"}
        assert browser.ask("/note").json() == {}


def test_remember_keeps_the_cookie(node):
    with Browser(node) as browser:
        cookie, = browser.ask("/remember").all("Set-Cookie")
        assert "; Max-Age=3600;" in cookie


def test_the_hash_of_an_id(node):
    with Browser(node) as browser:
        assert browser.ask("/hash").text == "none"
        browser.ask("/set?k=a&v=1")
        found = browser.ask("/hash").text
        assert re.fullmatch(r"[0-9a-f]{8}", found)
        assert browser.ask("/hash").text == found
        assert found not in browser.jar["id"]


def test_all_sessions_of_a_subject(node):
    with Browser(node) as one, Browser(node) as two, Browser(node) as other:
        for browser in (one, two):
            browser.ask("/login?user=bob", "POST")
        other.ask("/login?user=eve", "POST")
        if node.store == "memcached":
            answer = other.ask("/sessions?user=bob", status=501)
            assert "memcached keeps no list" in answer.json()["detail"]
            other.ask("/revoke?user=bob", "POST", status=501)
            return
        assert other.ask("/sessions?user=bob").json() == {"count": 2}
        assert other.ask("/revoke?user=bob", "POST").json() == {"count": 2}
        assert one.ask("/all").json() == two.ask("/all").json() == {}
        assert other.ask("/all").json() == {"user": "eve"}
        assert other.ask("/sessions?user=bob").json() == {"count": 0}


def test_a_reload_keeps_them(node):
    with Browser(node) as browser:
        browser.ask("/set?k=a&v=1")
        done = node.command("reload")
        assert done.returncode == 0, done
        assert browser.ask("/get?k=a").json() == {"value": "1"}
        browser.ask("/set?k=b&v=2")
        assert browser.ask("/all").json() == {"a": "1", "b": "2"}


# ---- whose time is counted ----

PAUSES = """
    local ffi = require "ffi"
    ffi.cdef "int usleep(unsigned)"
    app:get("/pause", function(c)
        local session = c:session()
        local n = session:get("n") or 0
        moonshine.sleep("400ms")
        session:set("n", n + 1)
        return tostring(n)
    end)
    app:get("/set", function(c) c:session():set("n", 1) return "set" end)
    app:get("/block", function(c)
        moonshine.log.info("blocks " .. c:query("n"))  -- by a thread aside
        ffi.C.usleep(400000)
        return "blocked"
    end)
"""


@pytest.fixture(name="pausing", params=["lmdb", "redis"])
def fixture_pausing(request, tmp_path):
    with store(request.param, tmp_path) as url, \
            Node(PAUSES, settings={"session.url": url}) as node:
        yield node


def test_a_handler_that_waits_spends_no_time_of_the_store(pausing):
    """Between reading and saving it may take longer than the store may."""
    first = pausing.get("/pause")
    assert first.status == 200, first
    cookie = first.header("Set-Cookie").split(";")[0]
    for count in "12":
        again = pausing.get("/pause", {"Cookie": cookie})
        assert (again.status, again.text) == (200, count)


def test_a_loop_that_is_held_up_does_not_fail_the_store(pausing):
    """While another request blocks the worker for longer than the store may
    take, the session is saved, and its request hears of that."""
    node = pausing
    first, saving, second = (node.connect() for _ in range(3))
    for client in (first, saving, second):
        assert client.get("/set").status == 200
    for n in range(3):
        # All that comes during the first block is read in one turn: the
        # session is under way when the second one begins.
        first.send(build("GET", f"/block?n=first-{n}"))
        node.wait_log(f"blocks first-{n}")
        saving.send(build("GET", "/set"))
        second.send(build("GET", f"/block?n=second-{n}"))
        assert saving.read_response().text == "set"
        assert first.read_response().text == "blocked"
        assert second.read_response().text == "blocked"
