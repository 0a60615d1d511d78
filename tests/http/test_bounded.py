"""Input made to cost more than it should: what it costs is bounded, and each
bound has a name in the configuration or is one of the format's."""

import json
import shutil
import subprocess

import pytest

from support.client import Client, build
from support.collisions import crafted
from support.forms import multipart
from support.node import ROOT

APP = '''
local json = moonshine.json
local function count(map)
    local n = 0
    for _ in pairs(map) do n = n + 1 end
    return tostring(n)
end
app:post("/json", function(c)
    local value, message = json.decode(c:body())
    if value == nil then c:fail(400, message) end
    return type(value) == "table" and count(value) or type(value)
end)
app:get("/query", function(c) return count(c:queries()) end)
app:get("/one", function(c) return c:query("last") or "none" end)
app:post("/form", function(c) return count(c:forms()) end)
app:post("/bind", function(c) return count(c:bind()) end)
app:get("/cookies", function(c) return count(c:cookies()) end)
app:get("/cookie", function(c) return c:cookie("last") or "none" end)
app:get("/headers", function(c) return count(c:headers()) end)
app:post("/session", function(c)
    local session = c:session()
    for key in c:body():gmatch("[^,]+") do session:set(key, 1) end
    return "kept"
end)
app:get("/match", function(c) return tostring((c:query("text")):find(".-.-.-b")) end)
app:get("/hello", function(c) return "hello" end)
'''
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


@pytest.fixture(scope="module")
def wide(start_shared):
    """Takes as much as it can be told to."""
    return start_shared(APP, settings={
        "request_line_limit": "1m", "header_limit": "1m",
        "header_count": "10000", "max_args": "100000", "body_limit": "8m",
        "session.url": "memory:"})


# Numbers of things

def test_arguments_of_a_query(node):
    many = "&".join(f"a{n}=1" for n in range(101))
    assert node.get("/query?" + many).status == 400
    assert node.get("/query?" + many.rpartition("&")[0]).text == "100"


@pytest.mark.parametrize("target", ["/form", "/bind"])
def test_fields_of_a_form(node, target):
    for count, status in ((100, 200), (101, 413), (10000, 413)):
        body = "&".join(f"a{n}=1" for n in range(count))
        assert node.request("POST", target, FORM, body).status == status
        kind, body = multipart(*((f"a{n}", "1") for n in range(count)))
        assert node.request("POST", target, {"Content-Type": kind},
                            body).status == status


def test_files_of_a_form(node):
    kind, body = multipart(*((f"a{n}", b"", "a.txt") for n in range(90)))
    assert node.request("POST", "/form", {"Content-Type": kind},
                        body).status == 413


def test_separators_without_anything_between(wide):
    """A million of them are no arguments, and take no stack."""
    assert wide.get("/query?" + "&" * 1000000).text == "0"
    assert wide.get("/one?" + "&" * 1000000 + "last=1").text == "1"
    assert wide.request("POST", "/form", FORM, "&" * 1000000).text == "0"
    assert wide.get("/cookies", {"Cookie": ";" * 1000000}).text == "0"
    assert wide.get("/cookie", {"Cookie": "; " * 500000 + "last=1"}).text == "1"


def test_cookies(node):
    """A bomb that fits into the head is read, a larger one refused."""
    for count, status in ((100, 200), (101, 400), (3000, 400), (6000, 431)):
        bomb = "; ".join(f"a{n}=b" for n in range(count))
        with Client(node.address) as client:
            client.send(build("GET", "/cookies", {"Cookie": bomb}))
            assert client.read_response().status == status


def test_keys_of_a_session(node):
    keys = [f"a{n}" for n in range(1001)]
    with Client(node.address) as client:
        assert client.request("POST", "/session", {},
                              ",".join(keys[:-1])).text == "kept"
        assert client.request("POST", "/session", {},
                              ",".join(keys)).status == 500


# JSON

@pytest.mark.parametrize("text, status", [
    ("[" * 100 + "]" * 100, 200),
    ("[" * 101 + "]" * 101, 400),
    ("[" * 500000, 400),
    ("[" * 500000 + "]" * 500000, 400),
    ('{"a":' * 150000 + "1" + "}" * 150000, 400),
    ('[{"a":' * 100000, 400),
    ("1" * 1000000, 400),
    ("-" + "1" * 1000000, 400),
    ("0." + "0" * 900000 + "1", 200),
    ("0." + "9" * 1000000, 200),
    ("1" * 300 + "." + "3" * 900000, 200),
    ("1e999999999999999999999", 400),
    ("1e-99999999999999999999", 200),
    ("1e" + "9" * 900000, 400),
    ("1e-" + "9" * 900000, 200),
    ("[" + "1e308," * 100000 + "1]", 200),
    ("[" + "0.1e-1," * 100000 + "1]", 200),
    ('"' + "\\u0041" * 160000 + '"', 200),
    ('"' + "\\" * 900001 + '"', 400),
    (" " * 1000000, 400),
    (" " * 1000000 + "1", 200),
], ids=lambda value: str(value)[:12])
def test_json(node, text, status):
    response = node.request("POST", "/json", {}, text)
    assert response.status == status, response
    assert node.get("/hello").status == 200


# Keys that have one hash

def test_crafted_keys_are_all_told_apart(wide):
    keys = crafted(20000)
    assert wide.request("POST", "/json", {},
                        json.dumps(dict.fromkeys(keys, 1))).text == "20000"
    assert wide.get("/query?" + "=1&".join(keys) + "=1").text == "20000"
    assert wide.request("POST", "/form", FORM,
                        "=1&".join(keys) + "=1").text == "20000"
    kind, body = multipart(*((key, "1") for key in keys))
    assert wide.request("POST", "/form", {"Content-Type": kind},
                        body).text == "20000"
    assert wide.get("/headers",
                    [(key, "1") for key in keys[:9000]]).text == "9001"
    assert wide.get("/cookies",
                    {"Cookie": "=1; ".join(keys) + "=1"}).text == "20000"


@pytest.mark.seconds(400)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind")
def test_crafted_keys_cost_no_more_than_twice(node):
    """Counted in instructions, so that it is the same on any machine."""
    if node.sanitized():
        pytest.skip("valgrind and sanitizers do not go together")
    done = subprocess.run(
        [ROOT / "tests/bench/collisions", "--keys", "4000", "json", "headers"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


# Searching

def test_patterns_are_stopped(start):
    """One C call that no budget can interrupt: the watch ends its worker, and
    the others go on."""
    node = start(APP, workers=2, settings={"cpu_limit": "100ms"})
    with Client(node.address) as hurt:
        hurt.send(build("GET", "/match?text=" + "a" * 2000))
        node.wait_log("hang|killed")
        for _ in range(20):
            assert node.get("/hello").text == "hello"


def hostile_routes(depth):
    """At each level a constant and a parameter fit, and only the last segment
    tells: as much to go back over as can be."""
    def patterns(prefix, left):
        if left == 0:
            yield prefix + "/end"
            return
        yield from patterns(prefix + "/a", left - 1)
        yield from patterns(f"{prefix}/:p{left}", left - 1)
    return list(patterns("", depth))


def test_routes_do_not_multiply(start):
    """The work is bounded by the tree of routes, not by the path."""
    routes = hostile_routes(9)
    node = start("for _, pattern in ipairs {%s} do "
                 "app:get(pattern, function() return pattern end) end" %
                 ",".join(f'"{pattern}"' for pattern in routes))
    with Client(node.address) as client:
        assert client.get("/a" * 9 + "/end").text == "/a" * 9 + "/end"
        for path in ("/a" * 9 + "/no", "/a" * 10 + "/end", "/a" * 4000,
                     "/" * 8000, "/a" * 9, "/%61" * 2000 + "/end",
                     "/.." * 2500, "/a/.." * 1500):
            response = client.get(path)
            assert response.status in (400, 404, 308), path[:40]


def test_many_catch_alls(start):
    patterns = ["/" + "/".join(f":a{n}" for n in range(depth)) + "/*rest"
                for depth in range(1, 16)]
    node = start("for _, pattern in ipairs {%s} do "
                 "app:get(pattern, function(c) return c:param('rest') end) end"
                 % ",".join(f'"{pattern}"' for pattern in patterns))
    with Client(node.address) as client:
        for segments in (1, 15, 16, 3000):
            assert client.get("/x" * segments).status in (200, 308, 404)
