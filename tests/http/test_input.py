"""Bodies, queries and parameters with a shape; the route option `input`."""

import json
import re
from urllib.parse import urlencode

import pytest

from support.forms import post_form
from support.node import command, write_app

APP = r'''
local order = { item = "string(1..80)", count = "integer(1..99)", note = "string?" }
app:post("/order", function(c) return { got = c:bind(order) } end)
app:post("/inline", function(c)
    return { got = c:bind { item = "string(1..80)", count = "integer(1..99)" } }
end)
app:post("/nested", function(c)
    return { got = c:bind {
        address = { city = "string", zip = "string|null" },
        tags = { "string(1..10)", max = 3 },
        lines = { { sku = "string", n = "integer" }, optional = true },
    } }
end)
app:post("/try", function(c)
    local value, message, code, details = c:try_bind { a = "integer" }
    return { value = value, message = message, code = code, details = details }
end)
app:post("/any", function(c) return { got = c:bind() } end)
app:post("/list", function(c) return { got = c:bind { { id = "integer" }, max = 2 } } end)
app:post("/check", function(c)
    return c:bind { name = function(v)
        return v ~= "root" and v or nil, "is taken"
    end }
end)
app:get("/items/:id", function(c, input) return input end, {
    input = {
        params = { id = "integer(1..)" },
        query = { page = "integer(1..10) = 1", tag = { "string", optional = true },
            sort = "'name'|'date'?" },
    },
})
app:put("/items/:id", function(c, input)
    return { id = c:param("id"), body = input.body }
end, { input = { body = { title = "string(1..20)" } } })
app:get("/closed", function(c) c:fail(401) end,
    function(c, input) return "never" end, { input = { query = { a = "integer" } } })
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


def post(node, target, value, kind="application/json", method="POST"):
    body = value if isinstance(value, bytes) else \
        (urlencode(value, doseq=True) if "form" in kind
         else json.dumps(value)).encode()
    return node.request(method, target, {"Content-Type": kind}, body)


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("target", ["/order", "/inline"])
def test_a_body_of_the_right_shape(node, target):
    good = {"item": "moon", "count": 3}
    assert post(node, target, good).json() == {"got": good}
    assert post(node, target, good, FORM).json() == {"got": good}
    assert post_form(node, target, ("item", "moon"), ("count", "3")).json() == \
        {"got": good}
    assert post(node, target, good, "application/vnd.api+json").json() == \
        {"got": good}


def test_wrong_fields_are_all_named(node):
    answer = post(node, "/order", {"item": "", "cuont": 1})
    assert answer.status == 422
    assert answer.header("Content-Type") == "application/problem+json"
    problem = answer.json()
    assert problem["details"] == {
        "item": "must be a string of 1 to 80 characters",
        "count": "is missing",
        "cuont": "is unknown, did you mean 'count'?"}
    assert problem["detail"].startswith("the body: ")
    assert "(and 2 more)" in problem["detail"]
    assert post(node, "/order", {"item": "", "cuont": 1}, FORM).json()[
        "details"] == problem["details"]


@pytest.mark.parametrize("body, status", [
    (b"", 400), (b"{", 400), (b"[]", 422), (b"null", 422), (b"7", 422)])
def test_bodies_that_are_no_such_object(node, body, status):
    assert post(node, "/order", body).status == status


def test_other_types_are_refused(node):
    assert post(node, "/order", b"a,b", "text/csv").status == 415
    assert node.request("POST", "/order").status == 400


def test_nested_values(node):
    good = {"address": {"city": "B", "zip": None}, "tags": ["a", "b"],
            "lines": [{"sku": "x", "n": 1}]}
    assert post(node, "/nested", good).json() == {"got": good}
    bad = {"address": {"city": 7}, "tags": ["a", "b", "c", "d"],
           "lines": [{"sku": "x", "n": 1}, {"sku": "y", "n": "1", "m": 1}]}
    assert post(node, "/nested", bad).json()["details"] == {
        "address.city": "must be a string", "address.zip": "is missing",
        "tags": "must be a list of at most 3 items",
        "lines.2.n": "must be an integer", "lines.2.m": "is unknown, "
        "did you mean 'n'?"}


def test_nested_values_of_a_form(node):
    fields = [("address[city]", "B"), ("address[zip]", ""), ("tags[]", "a"),
              ("tags[]", "b"), ("lines[0][sku]", "x"), ("lines[0][n]", "1"),
              ("lines[1][sku]", "y"), ("lines[1][n]", "2")]
    want = {"address": {"city": "B", "zip": ""}, "tags": ["a", "b"],
            "lines": [{"sku": "x", "n": 1}, {"sku": "y", "n": 2}]}
    assert post(node, "/nested", fields, FORM).json() == {"got": want}
    assert post_form(node, "/nested", *fields).json() == {"got": want}


def test_try_bind(node):
    assert post(node, "/try", {"a": 1}).json() == {"value": {"a": 1}}
    assert post(node, "/try", {"a": "x"}).json() == {
        "message": "the body: a must be an integer", "code": 422,
        "details": {"a": "must be an integer"}}
    assert post(node, "/try", b"{").json()["code"] == 400
    assert post(node, "/try", b"", "text/plain").json()["code"] == 415
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert node.request("POST", "/try", kind, b"--c").json()["code"] == 400


def test_without_a_shape(node):
    assert post(node, "/any", [1, {"a": None}]).json() == {
        "got": [1, {"a": None}]}
    assert post(node, "/any", {"a": ["1", "2"]}, FORM).json() == {
        "got": {"a": "1"}}


def test_lists_and_functions(node):
    assert post(node, "/list", [{"id": 1}]).json() == {"got": [{"id": 1}]}
    assert post(node, "/list", [{"id": 1}, {"id": "x"}]).json()["details"] == {
        "2.id": "must be an integer"}
    assert post(node, "/check", {"name": "moon"}).json() == {"name": "moon"}
    assert post(node, "/check", {"name": "root"}).json()["details"] == {
        "name": "is taken"}


def test_input_of_a_route(node):
    assert node.get("/items/7").json() == {
        "params": {"id": 7}, "query": {"page": 1}}
    assert node.get("/items/7?page=2&tag=a&tag=b&sort=name").json() == {
        "params": {"id": 7},
        "query": {"page": 2, "tag": ["a", "b"], "sort": "name"}}
    assert node.get("/items/0").status == 404
    assert node.get("/items/x").status == 404
    wrong = node.get("/items/7?page=11&z=1")
    assert wrong.status == 400
    assert wrong.json()["details"] == {
        "page": "must be an integer from 1 to 10", "z": "is unknown"}
    assert post(node, "/items/7", {"title": "t"}, method="PUT").json() == {
        "id": "7", "body": {"title": "t"}}
    assert post(node, "/items/7", {}, method="PUT").status == 422


def test_middleware_comes_before_input(node):
    assert node.get("/closed?a=x").status == 401


@pytest.mark.parametrize("option, words", [
    ('{ body = { a = "sting" } }', "did you mean 'string'"),
    ('{ header = {} }', "input has no option 'header'"),
    ('{ params = { other = "integer" } }', "/x/:id has no such parameter"),
    ('"integer"', "input must be a table, not a string"),
])
def test_a_malformed_shape_does_not_load(tmp_path, option, words):
    done = command("check", write_app(
        tmp_path, "\n" + 'app:get("/x/:id", function() end, '
        "{ input = %s })" % option))
    assert done.returncode == 1
    assert re.search(r"app\.lua:2: ", done.stderr) and words in done.stderr


def test_more_shapes_than_are_kept(start):
    """Made anew in each request: slower and said so, but right."""
    node = start(r'''
app:post("/", function(c)
    local n = c:query("n")
    return c:bind { ["a" .. n] = "integer", ["b" .. n] = "string(1.." .. n .. ")" }
end)''', settings={"cpu_limit": "10s"})
    with node.connect() as client:
        for n in range(1, 520):
            answer = client.request(
                "POST", f"/?n={n}", {"Content-Type": "application/json"},
                json.dumps({f"a{n}": n, f"b{n}": "x"}))
            assert answer.status == 200, answer
    node.wait_log("more shapes than can be kept compiled")


def test_a_reload_brings_new_shapes(start):
    app = 'app:post("/", function(c) return c:bind { a = "%s" } end)'
    node = start(app % "integer")
    assert post(node, "/", {"a": "x"}).status == 422
    node.rewrite(app % "string")
    assert node.command("reload").returncode == 0
    assert post(node, "/", {"a": "x"}).json() == {"a": "x"}
