"""What the client would like (Accept) and what it has (entity tags)."""

import re

import pytest

APP = r'''
app:get("/accepts", function(c)
    return c:accepts("html", "json", "text") or "none"
end)
app:get("/types", function(c)
    return c:accepts("image/png", "application/vnd.api+json", "xml", "csv") or "none"
end)
app:get("/vary", function(c)
    c:set_header("Vary", "Origin, accept")
    c:accepts("html")
    c:accepts("json")
    return "x"
end)
app:get("/vary-twice", function(c)
    c:set_header("Vary", "Origin")
    c:accepts("html")
    c:accepts("json")
    return "x"
end)
app:get("/no-types", function(c) return c:accepts() end)
app:get("/bad-type", function(c) return c:accepts("htm") end)
app:get("/wildcard", function(c) return c:accepts("text/*") end)
app:get("/many", function(c) return c:accepts(unpack({}, 1, 17)) end)
app:get("/number", function(c) return c:accepts(1) end)

local version = "v1"
local asked = 0
app:get("/doc", function(c)
    if c:etag(version) then return end
    asked = asked + 1
    return { version = version, asked = asked }
end)
app:get("/goes-on", function(c)
    c:set_header("X-Fresh", tostring(c:etag(version)))
    c:set_header("Cache-Control", "no-cache")
    c:html("<p>body</p>", 200)
end)
app:get("/text", function(c) c:etag(version) return "body" end)
app:get("/explicit", function(c) c:etag(version) return "body", 200 end)
app:get("/other-status", function(c) c:etag(version) return "gone", 410 end)
app:get("/fails", function(c) c:etag(version) error("x") end)
app:get("/streamed", function(c)
    c:etag(version)
    c:stream(function(write) print("streaming") write("body") end)
end)
app:get("/file", function(c) c:etag(version) c:send_file("app.lua") end)
app:get("/after", function(c)
    c:after(function() print("after fresh " .. c:status()) end)
    c:etag(version)
end)
app:get("/second", function(c)
    c:etag("old")
    c:set_header("X-Fresh", tostring(c:etag("new")))
    return "body"
end)
local function tagged(c, proceed)
    local body, status = proceed(c)
    if type(body) == "string" then c:etag(body, { weak = true }) end
    return body, status
end
app:get("/middleware", tagged, function() return "a body that is hashed" end)
app:get("/value", function(c)
    local values = { int = 12, big = 2 ^ 53 - 1, half = 0.1, space = "a b", quote = 'a"b',
        long = ("x"):rep(65), ok = ("x"):rep(64), empty = "", utf8 = "ü", ["nan"] = 0 / 0,
        ["true"] = true, none = false, table = {} }
    return tostring(c:etag(values[c:query("of")]))
end)
app:get("/weak", function(c) c:etag("w", { weak = true }) return "x" end)
app:get("/option", function(c) c:etag("w", { week = true }) return "x" end)

app:put("/doc", function(c)
    c:etag(version)
    version = c:body()
    return "saved"
end)
app:delete("/doc", function(c) c:etag(version) return "deleted" end)
app:put("/new", function(c) c:etag(false) return "made", 201 end)
app:get("/new", function(c) return tostring(c:etag(false)) end)
app:put("/weak", function(c) c:etag("w", { weak = true }) return "saved" end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


@pytest.mark.parametrize("accept, best", [
    (None, "html"),
    ("", "html"),
    ("*/*", "html"),
    ("application/json", "json"),
    ("APPLICATION/JSON", "json"),
    ("text/*", "html"),
    ("text/plain, */*;q=0.1", "text"),
    ("application/json;q=0.9, text/html;q=0.8", "json"),
    ("text/html;q=0, */*", "json"),
    ("text/html;level=1, text/html;q=0.1, application/json;q=0.5", "json"),
    ("application/json;charset=utf-8", "json"),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
     "html"),
    ("image/png", "none"),
    ("*/*;q=0", "none"),
    ("rubbish", "none"),
])
def test_accepts(node, accept, best):
    answer = node.get("/accepts", {} if accept is None else {"Accept": accept})
    assert answer.text == best
    assert answer.header("Vary") == "Accept"


def test_accepts_full_types_and_several_fields(node):
    for accept, best in (
            ("image/*", "image/png"),
            ("application/vnd.api+json", "application/vnd.api+json"),
            ("application/xml;q=0.5, text/csv;q=0.6", "csv"),
            ("application/xml", "xml")):
        assert node.get("/types", {"Accept": accept}).text == best
    fields = [("Accept", "image/png;q=0.1"), ("Accept", "text/csv"),
              ("Accept", "application/xml;q=0.2")]
    assert node.get("/types", fields).text == "csv"


def test_vary_is_said_once(node):
    assert node.get("/vary").all("Vary") == ["Origin, accept"]
    assert node.get("/vary-twice").all("Vary") == ["Origin", "Accept"]


@pytest.mark.parametrize("target, words", [
    ("/no-types", "c:accepts takes 1 to 16 types, not 0"),
    ("/many", "c:accepts takes 1 to 16 types, not 17"),
    ("/bad-type", "'htm' is neither a type such as text/html nor one of .*"
     "did you mean 'html'"),
    ("/wildcard", r"'text/\*' is neither a type"),
    ("/number", "a type must be a string, not a number"),
    ("/value?of=nan", "c:etag: the value must be .*, not nan"),
    ("/value?of=true", "c:etag: the value must be .*, not a boolean"),
    ("/value?of=table", "c:etag: the value must be .*, not a table"),
    ("/value?of=missing", "c:etag: the value must be .*, not nil"),
    ("/option", "c:etag has no option 'week', did you mean 'weak'"),
])
def test_wrong_use(node, target, words):
    assert node.get(target).status == 500
    node.wait_log(r"request failed: app\.lua:\d+: .*" + words)


def test_fresh_copy_saves_the_work(node):
    first = node.get("/doc")
    assert first.header("ETag") == '"v1"'
    assert first.json() == {"version": "v1", "asked": 1}
    client = node.connect()
    for match in ('"v1"', 'W/"v1"', '"x", "v1"', "*", '"x",W/"v1" , "y"'):
        again = client.get("/doc", {"If-None-Match": match})
        assert (again.status, again.body) == (304, b""), match
        assert again.header("ETag") == '"v1"'
        assert again.header("Content-Length") is None
        assert again.header("Content-Type") is None
    head = client.request("HEAD", "/doc", {"If-None-Match": '"v1"'})
    assert head.status == 304
    for match in ('"v2"', "v1", '"v1', "", '"V1"'):
        assert client.get("/doc", {"If-None-Match": match}).status == 200
    assert client.get("/doc").json()["asked"] == 7


@pytest.mark.parametrize("target", ["/goes-on", "/text", "/explicit",
                                    "/streamed", "/file", "/after"])
def test_a_body_that_comes_all_the_same_is_not_sent(node, target):
    client = node.connect()
    fresh = client.get(target, {"If-None-Match": '"v1"'})
    assert (fresh.status, fresh.body) == (304, b"")
    assert fresh.header("Content-Type") is None
    full = client.get(target)
    assert full.status == (204 if target == "/after" else 200)
    if target == "/goes-on":
        assert fresh.header("X-Fresh") == "true"
        assert fresh.header("Cache-Control") == "no-cache"
        assert full.header("X-Fresh") == "false"
        assert full.text == "<p>body</p>"
    if target == "/streamed":
        node.wait_log("streaming")
        assert node.log().count("streaming") == 1
    if target == "/after":
        node.wait_log("after fresh 304")


def test_what_is_no_success_is_sent(node):
    gone = node.get("/other-status", {"If-None-Match": '"v1"'})
    assert (gone.status, gone.text) == (410, "gone")
    failed = node.get("/fails", {"If-None-Match": '"v1"'})
    assert failed.status == 500 and failed.header("ETag") is None
    second = node.get("/second", {"If-None-Match": '"old"'})
    assert (second.status, second.text) == (200, "body")
    assert second.header("X-Fresh") == "false"
    assert second.header("ETag") == '"new"'


def test_middleware_may_tag_what_was_returned(node):
    tag = node.get("/middleware").header("ETag")
    assert re.fullmatch(r'W/"[0-9a-f]{32}"', tag)
    again = node.get("/middleware", {"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("of, tag", [
    ("int", '"12"'), ("big", '"9007199254740991"'),
    ("half", '"0.10000000000000001"'), ("ok", '"' + "x" * 64 + '"'),
    ("empty", '""'), ("utf8", '"\xc3\xbc"'), ("none", None),
])
def test_tags(node, of, tag):
    assert node.get(f"/value?of={of}").header("ETag") == tag


def test_long_and_unsafe_values_are_hashed(node):
    tags = {node.get(f"/value?of={of}").header("ETag")
            for of in ("space", "quote", "long")}
    assert len(tags) == 3
    assert all(re.fullmatch('"[0-9a-f]{32}"', tag) for tag in tags)
    assert node.get("/value?of=long").header("ETag") in tags


def test_changes_can_be_made_conditional(node):
    def put(headers, target="/doc", method="PUT"):
        return node.request(method, target, headers, b"v1").status

    assert put({}) == 200
    assert put({"If-Match": '"v1"'}) == 200
    assert put({"If-Match": '"x", "v1"'}) == 200
    assert put({"If-Match": "*"}) == 200
    assert put({"If-Match": '"v0"'}) == 412
    assert put({"If-Match": 'W/"v1"'}) == 412
    assert put({"If-None-Match": "*"}) == 412
    assert put({"If-None-Match": '"v1"'}) == 412
    assert put({"If-None-Match": '"v0"'}) == 200
    assert put({"If-Match": '"v0"'}, method="DELETE") == 412
    # A weak tag never equals another strongly.
    assert put({"If-Match": 'W/"w"'}, "/weak") == 412
    assert put({"If-Match": "*"}, "/weak") == 200
    # Nothing is there yet.
    assert put({"If-None-Match": "*"}, "/new") == 201
    assert put({"If-Match": "*"}, "/new") == 412
    assert put({"If-Match": '"v1"'}, "/new") == 412
    assert node.get("/new", {"If-None-Match": "*"}).text == "false"


def test_failed_precondition(node):
    refused = node.request("PUT", "/doc", {"If-Match": '"v0"'}, b"never")
    assert refused.status == 412
    assert refused.json()["title"] == "Precondition Failed"
    assert refused.header("ETag") is None
    assert node.get("/doc").json()["version"] == "v1"
    # What was changed is not what the tag described.
    assert node.request("PUT", "/doc", None, b"v1").header("ETag") is None
    assert node.get("/doc", {"If-Match": '"v0"'}).status == 412
    assert node.get("/doc", {"If-Match": '"v1"'}).status == 200
