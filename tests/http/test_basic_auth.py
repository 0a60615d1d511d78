"""basic_auth{}: names and passwords, plain and hashed, and what is refused."""

import base64
import re

import pytest

from support.admin import Admin
from support.node import command, eventually, write_app

CHALLENGE = 'Basic realm="The \\"moon\\"", charset="UTF-8"'
# Of "password", made with the reference implementation.
HASH = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$" \
    "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
APP = r"""
local auth = moonshine.basic_auth
local function who(c) return { user = c:get("user") } end
app:get("/plain", auth { realm = 'The "moon"', users = { anna = "secret", ["ü"] = "ö:ä" } }, who)
app:get("/hashed", auth { users = { anna = "HASH", bert = "plain" } }, who)
app:get("/check", auth { check = function(name, password, c)
    if name == "fail" then c:fail(402, "pay first") end
    if name == "error" then error("a bug") end
    if name == "table" then return { id = 7 } end
    return password == "right"
end }, who)
""".replace("HASH", HASH)


def basic(name, password):
    text = f"{name}:{password}".encode()
    return {"Authorization": "Basic " + base64.b64encode(text).decode()}


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


@pytest.mark.parametrize("path, name, password", [
    ("/plain", "anna", "secret"), ("/plain", "ü", "ö:ä"),
    ("/hashed", "anna", "password"), ("/hashed", "bert", "plain")])
def test_right(node, path, name, password):
    for _ in range(3):
        answer = node.get(path, basic(name, password))
        assert answer.status == 200 and answer.json() == {"user": name}
        assert answer.header("WWW-Authenticate") is None


@pytest.mark.parametrize("path, name, password", [
    ("/plain", "anna", ""), ("/plain", "anna", "secreT"),
    ("/plain", "anna", "secret "), ("/plain", "Anna", "secret"),
    ("/plain", "", "secret"), ("/plain", "", ""), ("/plain", "bert", "secret"),
    ("/hashed", "anna", "Password"), ("/hashed", "anna", HASH),
    ("/hashed", "carl", "password"), ("/hashed", "bert", "password"),
    ("/hashed", "bert", ""), ("/hashed", "anna", "x" * 5000),
    ("/check", "anna", "wrong")])
def test_wrong(node, path, name, password):
    for _ in range(2):
        answer = node.get(path, basic(name, password))
        assert answer.status == 401, answer
        assert answer.header("WWW-Authenticate").startswith("Basic realm=")


def coded(raw):
    return "Basic " + base64.b64encode(raw).decode()


@pytest.mark.parametrize("field", [
    None, "", "Basic", "Basic ", "Basic !", "Basic YW5uYTpzZWNyZXQ",
    "BasicYW5uYTpzZWNyZXQ=", "Bearer YW5uYTpzZWNyZXQ=",
    "Basic YW5uYTpzZWNyZXQ= x", "Digest username=anna", coded(b"anna"),
    coded(b"anna:sec\0ret"), coded(b"anna\n:secret"), coded(b"\xff\xfe")])
def test_malformed(node, field):
    headers = {} if field is None else {"Authorization": field}
    answer = node.get("/plain", headers)
    assert answer.status == 401
    assert answer.header("WWW-Authenticate") == CHALLENGE


def test_forms_of_the_field(node):
    value = basic("anna", "secret")["Authorization"].split()[1]
    for field in (f"basic {value}", f"BASIC   {value}", f"Basic {value}  "):
        answer = node.get("/plain", {"Authorization": field})
        assert answer.status == 200, field


def test_check(node):
    assert node.get("/check", basic("anna", "right")).json() == {
        "user": "anna"}
    assert node.get("/check", basic("table", "")).json() == {
        "user": {"id": 7}}
    assert node.get("/check", basic("fail", "")).status == 402
    assert node.get("/check", basic("error", "")).status == 500
    assert node.get("/check").status == 401


# What is remembered, and for how long

SLOW = r"""
local hash
app:on_start(function()
    hash = assert(moonshine.crypto.password_hash("right", { memory = "64m", ops = OPS }))
end)
local auth
app:get("/", function(c, proceed)
    auth = auth or moonshine.basic_auth { users = { anna = hash, bert = "plain" }, remember = REMEMBER }
    return auth(c, proceed)
end, function(c) return c:get("user") end)
"""


def slow(ops=30, remember='"1m"'):
    return SLOW.replace("OPS", str(ops)).replace("REMEMBER", remember)


def waiting(node):
    return [r for r in Admin(node).requests()
            if r["waits_on"] == "verify password"]


def send(node, name, password):
    """A request that is on its way: it waits for a hash."""
    before = len(waiting(node))
    client = node.connect(60)
    field = basic(name, password)["Authorization"]
    client.send(f"GET / HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: {field}\r\n\r\n".encode())
    eventually(lambda: len(waiting(node)) == before + 1, "it waits")
    return client


def test_a_right_password_is_remembered(start):
    """With no room for jobs that wait and both threads taken, only what needs
    none is answered."""
    node = start(slow(), settings={"password.queue": 0})
    assert node.get("/", basic("anna", "right")).status == 200
    busy = [send(node, "anna", f"wrong {i}") for i in range(2)]
    assert node.get("/", basic("anna", "right")).status == 200
    refused = node.get("/", basic("anna", "Right"))
    assert refused.status == 503 and refused.header("Retry-After") == "1"
    # A name that is not there costs the same, and so does a plain password.
    assert node.get("/", basic("carl", "right")).status == 503
    assert node.get("/", basic("bert", "wrong")).status == 503
    assert node.get("/", basic("bert", "plain")).status == 200
    assert [c.read_response().status for c in busy] == [401, 401]


def test_not_for_ever(start):
    node = start(slow(1, "0"), settings={"password.queue": 0})
    for _ in range(3):
        assert node.get("/", basic("anna", "right")).status == 200
    node.rewrite(slow(1, '"10ms"'))
    assert Admin(node).reload()[0]
    node.get("/", basic("anna", "right"))
    # Seen hashing again once that time is over.
    client = node.connect(60)

    def hashes():
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: "
                    + basic("anna", "right")["Authorization"].encode()
                    + b"\r\n\r\n")
        seen = bool(waiting(node))
        assert client.read_response().status == 200
        return seen
    eventually(hashes, "it is hashed anew")


def test_the_same_is_checked_once(start):
    """Ten at once are one job, where there is room for two and none waits."""
    node = start(slow(), settings={"password.queue": 0})
    clients = [send(node, "anna", "right") for _ in range(10)]
    assert [c.read_response().status for c in clients] == [200] * 10
    clients = [send(node, "anna", "wrong") for _ in range(10)]
    # The first goes away; another one takes its place.
    clients.pop(0).close()
    assert [c.read_response().status for c in clients] == [401] * 9


def test_a_reload_forgets(start):
    node = start(APP)
    assert node.get("/plain", basic("anna", "secret")).status == 200
    assert node.get("/hashed", basic("anna", "password")).status == 200
    node.rewrite(APP.replace(HASH, "new").replace('"secret"', '"other"'))
    assert Admin(node).reload()[0]
    assert node.get("/plain", basic("anna", "secret")).status == 401
    assert node.get("/hashed", basic("anna", "password")).status == 401
    assert node.get("/hashed", basic("anna", "new")).status == 200


@pytest.mark.parametrize("options, words", [
    ("{}", "takes users or check, one of them"),
    ("{ users = {}, check = print }", "takes users or check, one of them"),
    ("{ user = {} }", "no option 'user', did you mean 'users'?"),
    ("{ users = { 'x' } }", "each name of users must be a string"),
    ("{ users = { a = 1 } }", 'the password of "a" must be a string'),
    ('{ users = { ["a:b"] = "x" } }', "must not have a colon"),
    ('{ users = { a = "$2b$12$abcdefghijklmnopqrstuv" } }',
     "hashed, but not with argon2"),
    ('{ users = { a = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=" } }',
     "hashed, but not with argon2"),
    ('{ users = { a = "$argon2id$v=19$m=1" } }', 'the hash of "a" is damaged'),
    ('{ users = {}, realm = "a\\nb" }', "must not have control characters"),
    ('{ users = {}, remember = "soon" }', "must be a duration"),
    ("{ check = 1 }", "check must be a function"),
    ("", "the options must be a table"),
])
def test_wrong_options(tmp_path, options, words):
    done = command("check", write_app(
        tmp_path, f"\napp:use(moonshine.basic_auth({options}))"))
    assert done.returncode == 1
    assert re.search(r"app\.lua:2: ", done.stderr) and words in done.stderr
