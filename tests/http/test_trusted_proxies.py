"""Whose word on the client counts: X-Forwarded-*, Forwarded, X-Request-Id."""

import re

import pytest

from support.client import Client
from support.node import command, eventually

APP = '''
local moonshine = require "moonshine"
local app = moonshine.app()
local limit = moonshine.limit
app:security_headers { hsts = true }
app:get("/who", function(c)
    c:set_cookie("a", "b")
    return { ip = c:ip(), scheme = c:scheme(), host = c:host(), id = c:request_id() }
end)
app:get("/limited", limit.token_bucket { rate = 1, per = "1h", burst = 2 },
    function() return "passed" end)
app:post("/form", moonshine.csrf(), function() return "posted" end)
app:static("/files", "files")
return app
'''
SPOOFED = {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https",
           "X-Forwarded-Host": "evil.example", "X-Request-Id": "spoofed-123",
           "Forwarded": "for=192.0.2.8;proto=https;host=evil.example"}
FILES = {"app.lua": APP, "files/a.txt": "a"}


def who(node, headers=None):
    return node.get("/who", headers).json()


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(FILES, settings={
        "trusted_proxies": "127.0.0.0/8,10.0.0.0/8"})


def test_nobody_is_believed_by_default(start):
    node = start(FILES)
    seen = who(node, SPOOFED)
    assert (seen["ip"], seen["scheme"]) == ("127.0.0.1", "http")
    assert seen["host"] == "test.local"
    assert re.fullmatch("[0-9a-f]{32}", seen["id"])


def test_a_proxy_is_believed(node):
    response = node.get("/who", [
        ("X-Forwarded-For", "1.2.3.4, 192.0.2.1"),
        ("X-Forwarded-For", "10.0.0.7"), ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "a.example:8443"),
        ("X-Request-Id", "Abc.def_123-456"),
        ("Forwarded", "for=192.0.2.77")])
    seen = response.json()
    assert seen == {"ip": "192.0.2.1", "scheme": "https",
                    "host": "a.example:8443", "id": "Abc.def_123-456"}
    assert response.header("X-Request-Id") == "Abc.def_123-456"
    assert "; Secure" in response.header("Set-Cookie")
    assert response.header("Strict-Transport-Security")


def test_without_the_fields_it_is_the_proxy_itself(node):
    response = node.get("/who")
    assert response.json()["ip"] == "127.0.0.1"
    assert response.json()["scheme"] == "http"
    assert "; Secure" not in response.header("Set-Cookie")
    assert response.header("Strict-Transport-Security") is None


@pytest.mark.parametrize("sent, taken", [
    ("12345678", True), ("a" * 128, True), ("A.b_c-d9", True),
    ("1234567", False), ("a" * 129, False), ("", False),
    ("has space", False), ("semi;colon", False), ("tilde~~~", False),
    ("quote\"quote", False), ("umlaut-\xe4\xe4", False)])
def test_which_request_ids_are_taken(node, sent, taken):
    response = node.get("/who", {"X-Request-Id": sent})
    got = response.header("X-Request-Id")
    assert (got == sent) == taken
    assert taken or re.fullmatch("[0-9a-f]{32}", got)
    assert response.json()["id"] == got


def test_limits_count_the_client(node):
    def status(client):
        return node.get("/limited", {"X-Forwarded-For": client}).status

    assert [status("192.0.2.20") for _ in range(3)] == [200, 200, 429]
    assert status("192.0.2.21") == 200
    # More spoofed addresses on the left do not help.
    assert status("8.8.8.8, 192.0.2.20") == 429


def test_the_access_log_names_the_client(node):
    node.get("/who?logged", {"X-Forwarded-For": "192.0.2.33",
                             "X-Request-Id": "logged-request"})
    line = node.wait_log(r".*logged-request.*").group()
    assert "192.0.2.33" in line
    # Also what C answers alone.
    node.get("/files/a.txt", {"X-Forwarded-For": "192.0.2.34"})
    node.wait_log(r"192\.0\.2\.34")


def test_csrf_compares_with_the_forwarded_origin(node):
    def post(origin, **forwarded):
        headers = {"Origin": origin, "Content-Type":
                   "application/x-www-form-urlencoded",
                   "X-Forwarded-For": "192.0.2.40"}
        headers.update({f"X-Forwarded-{k}": v for k, v in forwarded.items()})
        return node.request("POST", "/form", headers, "a=b").status

    assert post("https://a.example", Proto="https", Host="a.example") == 200
    assert post("https://a.example", Proto="http", Host="a.example") == 403


@pytest.mark.parametrize("value", [
    ",", "a@," * 2000, '"' * 3000, "[::1", "\t", "::::", "1.2.3.4.5:80:80"],
    ids=["comma", "many", "quotes", "bracket", "tab", "colons", "numbers"])
def test_what_is_malformed_is_not_believed(node, value):
    for name in ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"):
        seen = who(node, {name: value})
        assert (seen["ip"], seen["scheme"]) == ("127.0.0.1", "http")
        assert seen["host"] == "test.local"


def test_a_list_without_end_is_believed_up_to_a_bound(node):
    seen = who(node, {"X-Forwarded-For": "192.0.2.1," + "10.0.0.1," * 2000})
    assert seen["ip"] == "10.0.0.1"


def test_forwarded_is_the_other_family(start):
    node = start(FILES, settings={"trusted_proxies": "127.0.0.1",
                                  "forwarded": "rfc7239"})
    seen = who(node, {**SPOOFED, "Forwarded":
                      'For="[2001:db8::1]:4711";Proto=https;host="b.example"'})
    assert seen == {"ip": "2001:db8::1", "scheme": "https",
                    "host": "b.example", "id": "spoofed-123"}
    seen = who(node, {"Forwarded": "for=_hidden, for=unknown",
                      "X-Forwarded-For": "192.0.2.1"})
    assert seen["ip"] == "127.0.0.1"


def test_a_unix_socket_is_believed_when_named(start, tmp_path):
    node = start(FILES, listen=f"unix:{tmp_path}/node.sock",
                 settings={"trusted_proxies": "unix"})
    assert who(node)["ip"] == ""
    assert who(node, SPOOFED)["ip"] == "192.0.2.9"
    # 127.0.0.1 is not the peer here, so it ends the walk.
    assert who(node, {"X-Forwarded-For": "192.0.2.1, 127.0.0.1"})["ip"] == \
        "127.0.0.1"


def test_pipelined_requests_have_clients_of_their_own(node):
    request = ("GET /who HTTP/1.1\r\nHost: a\r\n"
               "X-Forwarded-For: 192.0.2.{}\r\n\r\n")
    client = node.connect()
    client.send("".join(request.format(i) for i in (1, 2, 3)).encode() +
                b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
    seen = [client.read_response().json()["ip"] for _ in range(4)]
    assert seen == ["192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1"]


def test_an_unknown_proxy_is_reported_once(start):
    node = start(FILES, workers=2)
    for _ in range(5):
        for _ in range(4):
            who(node, {"X-Forwarded-For": "192.0.2.1"})
    found = node.wait_log(r"X-Forwarded-For from 127\.0\.0\.1 is ignored.*")
    assert 'trusted_proxies = { "127.0.0.1" }' in found.group()
    assert node.log().count("is ignored") == 1
    # A reload that does not mend it reports it once more.
    assert node.command("reload").returncode == 0
    who(node, {"X-Forwarded-For": "192.0.2.1"})
    eventually(lambda: node.log().count("is ignored") == 2, "a second report")


def test_the_wrong_family_is_reported(start):
    node = start(FILES, settings={"trusted_proxies": "127.0.0.1"})
    who(node, {"Forwarded": "for=192.0.2.1"})
    who(node, {"Forwarded": "for=192.0.2.1"})
    found = node.wait_log(r"a trusted proxy sends Forwarded, .*")
    assert 'forwarded = "rfc7239"' in found.group()
    assert node.log().count("a trusted proxy sends") == 1


def test_trust_changes_with_a_reload(start):
    node = start({**FILES, "config.lua": "return {}\n"})
    client = node.connect()
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert client.get("/who", forwarded).json()["ip"] == "127.0.0.1"
    node.rewrite({"config.lua":
                  'return { trusted_proxies = { "127.0.0.1" } }\n'})
    assert node.command("reload").returncode == 0
    # The connection from before, too.
    assert client.get("/who", forwarded).json()["ip"] == "192.0.2.1"
    node.rewrite({"config.lua": "return {}\n"})
    assert node.command("reload").returncode == 0
    assert client.get("/who", forwarded).json()["ip"] == "127.0.0.1"


def test_a_bad_entry_is_named(tmp_path):
    (tmp_path / "app.lua").write_text(
        'return require("moonshine").app()\n')
    (tmp_path / "config.lua").write_text(
        'return { trusted_proxies = { "10.0.0.0/8", "10.0.0.0/40" } }\n')
    result = command("check", tmp_path)
    assert result.returncode != 0
    assert '"10.0.0.0/40" has a prefix that is not 0 to 32' in \
        result.stdout + result.stderr


def test_half_a_head_is_its_peers(start):
    node = start(FILES, settings={"trusted_proxies": "127.0.0.1",
                                  "header_timeout": "100ms"})
    with Client(node.address) as client:
        client.send(b"GET /who HTTP/1.1\r\nX-Forwarded-For: 192.0.2.66\r\n")
        assert client.read_response().status == 408
    node.wait_log(r"408")
    assert "192.0.2.66" not in node.log()
