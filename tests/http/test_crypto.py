"""Passwords are hashed aside: others are served, limits hold, and a task that
ends leaves its job to end by itself. What the functions return is looked at by
tests/lua/specs/crypto.lua."""

import signal

from support.admin import Admin
from support.node import eventually

# A job of seconds (many, on a busy machine), so that there is time to look at
# it, or next to nothing.
APP = r"""
local crypto = moonshine.crypto
local slow = { memory = "64m", ops = 60 }
app:get("/fast", function() return "fast" end)
app:get("/slow", function() return assert(crypto.password_hash("x", slow)) end)
app:get("/short", function() crypto.password_hash("x", slow) end, { timeout = "100ms" })
app:post("/slow", function()
    local hash, message, code = crypto.password_hash("x", slow)
    return { hash = hash, message = message, code = code }
end)
app:get("/light", function()
    local hash, message, code = crypto.password_hash("x", { memory = "8k", ops = 1 })
    return { hash = hash, message = message, code = code }
end)
"""


def waiting(node, what="hash password"):
    return [r for r in Admin(node).requests() if r["waits_on"] == what]


def begin(node, count, method="GET"):
    """So many slow requests, each on a connection of its own."""
    before = len(waiting(node))
    clients = [node.connect(110) for _ in range(count)]
    for client in clients:
        client.send(f"{method} /slow HTTP/1.1\r\nHost: x\r\n"
                    "Content-Length: 0\r\n\r\n".encode())
    eventually(lambda: len(waiting(node)) == before + count, "they wait")
    return clients


def test_others_are_served_meanwhile(start):
    node = start(APP)
    client, = begin(node, 1)
    assert node.get("/fast").text == "fast"
    assert node.get("/light").json()["hash"].startswith("$argon2id$v=19$m=8,")
    assert len(waiting(node)) == 1
    answer = client.read_response()
    assert answer.status == 200
    assert answer.text.startswith("$argon2id$v=19$m=65536,t=60,p=1$")


def test_too_many(start):
    node = start(APP, settings={"password.queue": 1})
    clients = begin(node, 3)  # two run, one waits
    refused = node.get("/light").json()
    assert refused == {"message": "too many passwords are being hashed",
                       "code": 503}
    # The one that waits leaves its place, though no job has ended.
    clients[2].close()
    eventually(lambda: len(waiting(node)) == 2, "it is gone")
    begin(node, 1)
    assert node.get("/light").json()["code"] == 503


def test_memory_is_bounded(start):
    """Two may run, but the second does not fit beside the first."""
    node = start(APP, settings={"password.memory": "64m"})
    slow, = begin(node, 1)
    light = node.connect()
    light.send(b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: len(waiting(node)) == 2, "it waits, too")
    assert slow.read_response().status == 200
    assert light.read_response().json()["hash"]


def test_a_task_that_ends_does_not_wait_for_its_job(start):
    node = start(APP)
    assert node.get("/short").status == 503
    assert waiting(node) == []
    client, = begin(node, 1)
    client.close()
    eventually(lambda: not waiting(node), "the request is gone")
    # Both jobs run on. Their VM goes only after them.
    ok, message = Admin(node).reload()
    assert ok, message
    assert node.get("/light").json()["hash"]
    live = lambda: Admin(node).workers()[0]["generations_live"]
    assert eventually(lambda: live() == 1, "the old VM is closed", 60)


def test_a_reload_does_not_end_a_hash(start):
    node = start(APP, settings={"timeout": "none"})
    clients = begin(node, 3, "POST")  # two run, one waits
    node.rewrite(APP.replace('return "fast"', 'return "new"'))
    assert Admin(node).reload()[0]
    assert node.get("/fast").text == "new"
    for client in clients:
        assert client.read_response().json()["hash"]


def test_a_drain_waits_for_it(start):
    node = start(APP)
    client, = begin(node, 1, "POST")
    node.signal(signal.SIGTERM)
    answer = client.read_response()
    assert answer.json()["hash"] and answer.header("Connection") == "close"


def test_but_not_for_ever(start):
    """Six jobs after each other take longer than the time there is."""
    node = start(APP, settings={"drain_timeout": "100ms"})
    begin(node, 6, "POST")
    node.signal(signal.SIGTERM)
    node.process.wait(20)
    assert node.wait_log("cutting 6 requests")


def test_not_while_loading(start):
    node = start(APP)
    node.rewrite('moonshine.crypto.password_hash("x")')
    ok, message = Admin(node).reload()
    assert not ok
    assert "app.lua:1: crypto.password_hash: not while loading" in message
    node.rewrite('app:on_start(function() '
                 'assert(moonshine.crypto.password_hash("x")) end)')
    assert Admin(node).reload()[0]
