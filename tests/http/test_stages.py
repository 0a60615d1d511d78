"""Stages in C, on every response: request id, access log, security, CORS."""

import json
import re

import pytest

APP = '''
app:security_headers { csp = "default-src 'self'", frame = "DENY",
                       hsts = true, skip = { "/plain" } }
app:access_log { skip = { "/quiet" } }
app:cors { origins = { "https://a.example" }, methods = { "GET", "POST" },
           headers = { "X-Own" }, credentials = true, max_age = 600 }
app:get("/", function() return "ok" end)
app:get("/plain", function() return "ok" end)
app:get("/quiet", function() return "ok" end)
app:get("/error", function() error("x") end)
app:get("/csp", function(c)
    c:set_header("Content-Security-Policy", "own")
    return "ok"
end)
app:post("/", function() return "posted" end)
app:group("/open", function(open)
    open:cors { origins = { "*" } }
    open:get("/x", function() return "open" end)
end)
'''
ORIGIN = {"Origin": "https://a.example"}


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


@pytest.mark.parametrize("method, target, status", [
    ("GET", "/", 200), ("GET", "/nowhere", 404), ("PUT", "/", 405),
    ("GET", "/error", 500), ("OPTIONS", "/", 204), ("GET", "/%zz", 400),
])
def test_security_headers_are_on_everything(node, method, target, status):
    response = node.request(method, target)
    assert response.status in (status, 200 if status == 204 else status)
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.header("X-Frame-Options") == "DENY"
    assert response.header("Content-Security-Policy") == "default-src 'self'"
    assert response.header("X-Request-Id")


def test_security_headers_can_be_skipped_and_overruled(node):
    assert node.get("/plain").header("X-Content-Type-Options") is None
    assert node.get("/csp").header("Content-Security-Policy") == "own"


def test_access_log(node):
    node.get("/")
    node.get("/quiet")
    node.get("/nowhere?token=secret")
    node.wait_log(r"/nowhere")
    assert "/quiet" not in node.log()


def test_access_log_in_json(start):
    node = start('app:get("/x", function() return "ok" end)',
                 settings={"log.format": "json"})
    node.request("GET", '/x?q="\\%0a', {"User-Agent": 'a"b\\c'})
    node.wait_log("/x")
    for line in node.log().splitlines():
        json.loads(line)


def test_no_line_can_be_forged(node):
    node.get("/nowhere%0aforged", {"User-Agent": "x\x1b[31m"})
    node.get("/%0d%0aforged")
    node.get("/after-forged")
    node.wait_log("after-forged")
    for line in node.log().splitlines():
        assert not line.startswith("forged")
        assert "\x1b" not in line


def test_cors(node):
    response = node.get("/", ORIGIN)
    assert response.header("Access-Control-Allow-Origin") == \
        "https://a.example"
    assert response.header("Access-Control-Allow-Credentials") == "true"
    assert "Origin" in ",".join(response.all("Vary"))
    other = node.get("/", {"Origin": "https://b.example"})
    assert other.header("Access-Control-Allow-Origin") is None
    assert node.get("/nowhere", ORIGIN).header(
        "Access-Control-Allow-Origin") == "https://a.example"
    assert node.get("/error", ORIGIN).header(
        "Access-Control-Allow-Origin") == "https://a.example"


def test_preflight(node):
    response = node.request("OPTIONS", "/", {
        **ORIGIN, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-own"})
    assert response.status in (200, 204)
    assert response.header("Access-Control-Allow-Origin") == \
        "https://a.example"
    methods = response.header("Access-Control-Allow-Methods")
    assert set(re.split(r",\s*", methods)) >= {"GET", "POST"}
    assert "x-own" in response.header("Access-Control-Allow-Headers").lower()
    assert response.header("Access-Control-Max-Age") == "600"


def test_group_overrules(node):
    response = node.get("/open/x", {"Origin": "https://any.example"})
    assert response.header("Access-Control-Allow-Origin") == "*"
    assert response.header("Access-Control-Allow-Credentials") is None


def test_slow_requests_are_named(start):
    node = start("""
app:get("/slow", function() moonshine.sleep(0.2) return "slow" end)
app:get("/quick", function() return "quick" end)
app:get("/stream", function(c)
    c:stream(function(write) moonshine.sleep(0.2) write("x") end)
end)
""", settings={"log.access": "off", "log.slow": "100ms"})
    for path in ("/quick", "/stream", "/slow"):
        assert node.get(path).status == 200
    node.wait_log(r"slow request .*target=/slow")
    assert "/quick" not in node.log() and "/stream" not in node.log()
