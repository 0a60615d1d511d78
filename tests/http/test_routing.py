"""Which handler a request reaches, and what answers when none does."""

import pytest

from support.client import Client

APP = '''
local function said(text)
    return function(c)
        local out = { text }
        for _, name in ipairs { "id", "name", "rest", "a", "b", "key" } do
            local ok, value = pcall(c.param, c, name)
            if ok and value ~= nil then
                local text = type(value) == "number" and ("%.0f"):format(value)
                out[#out + 1] = name .. "=" .. (text or value)
                    .. ":" .. type(value)
            end
        end
        return table.concat(out, " ")
    end
end
app:get("/", said "root")
app:get("/admin", said "admin")
app:get("/files/*rest", said "files")
app:get("/users/:name", said "plain")
app:get("/users/:id<int>", said "int")
app:get("/users/me", said "me")
app:get("/users/:name/posts", said "posts")
app:get("/things/:key<uuid>", said "uuid")
app:get("/words/:key<alpha>", said "alpha")
app:get("/back/:a/x/y", said "back1")
app:get("/back/one/:b/z", said "back2")
app:get("/slash/", said "slash")
app:get("/noslash", said "noslash")
app:post("/things", said "created")
app:put("/things", said "put")
app:route({ "PATCH", "DELETE" }, "/things", said "changed")
app:any("/any", said "any")
app:head("/only-head", function(c) c:set_header("X-Head", "own") return "" end)
app:get("/only-head", said "get")
app:options("/own-options", said "options")
app:get("/path", function(c) return c:path() .. " " .. c:route() end)
app:get("/path/:name/deep", function(c) return c:path() .. " " .. c:route() end)
app:group("/v1", function(v1)
    v1:get("/ping", said "v1")
    v1:group("/in", function(inner) inner:get("/:id<int>", said "inner") end)
end)
local flat = app:group("/flat")
flat:get("/x", said "flat")
app:get("/named/:id<int>/:name", said "named", { name = "thing" })
app:get("/url", function(c)
    return c:url("thing", { id = 7, name = "a b/c" }, { q = "x y" })
end)
for i = 1, 200 do app:get("/many/r" .. i .. "/:id", said("many" .. i)) end
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


MATCHES = {
    "/": "root",
    "/admin": "admin",
    "/%61dmin": "admin",
    "/adm%69n?x=/y": "admin",
    "/./admin": "admin",
    "/x/../admin": "admin",
    "/x/%2e%2E/admin": "admin",
    "/files/a/b.txt": "files rest=a/b.txt:string",
    "/files/": "files rest=:string",
    "/files/a%2Fb": "files rest=a%2Fb:string",
    "/users/anna": "plain name=anna:string",
    "/users/ann%61": "plain name=anna:string",
    "/users/a%2Fb": "plain name=a/b:string",
    "/users/a+b": "plain name=a+b:string",
    "/users/%C3%A9": "plain name=\u00e9:string",
    "/users/7": "int id=7:number",
    "/users/007": "int id=7:number",
    "/users/123456789012345": "int id=123456789012345:number",
    "/users/1234567890123456": "plain name=1234567890123456:string",
    "/users/-7": "plain name=-7:string",
    "/users/me": "me",
    "/users/me/posts": "posts name=me:string",
    "/things/123e4567-e89b-12d3-a456-426614174000":
        "uuid key=123e4567-e89b-12d3-a456-426614174000:string",
    "/words/abc": "alpha key=abc:string",
    "/back/one/x/y": "back1 a=one:string",
    "/back/one/x/z": "back2 b=x:string",
    "/slash/": "slash",
    "/v1/ping": "v1",
    "/v1/in/5": "inner id=5:number",
    "/flat/x": "flat",
    "/many/r150/9": "many150 id=9:string",
    "/path": "/path /path",
    "/path/%41/deep": "/path/A/deep /path/:name/deep",
}


@pytest.mark.parametrize("target", MATCHES)
def test_matches(node, target):
    response = node.get(target)
    assert (response.status, response.text) == (200, MATCHES[target])


NOT_FOUND = ["/nope", "/admin/x", "//admin", "/users//posts", "/users/",
             "/words/abc1", "/things/not-a-uuid", "/V1/ping", "/ADMIN",
             "/users%2F7", "/v1", "/many/r201/1"]


@pytest.mark.parametrize("target", NOT_FOUND)
def test_not_found(node, target):
    assert node.get(target).status == 404


@pytest.mark.parametrize("target", ["/%", "/%2", "/%zz", "/a%00b", "/%c",
                                    "/users/%0"])
def test_malformed(node, target):
    assert node.get(target).status == 400


def test_dots_do_not_climb_above_the_root(node):
    assert node.get("/../../admin").status in (200, 400)
    assert node.get("/files/../../../etc/passwd").status == 404


def test_methods(node):
    for method, text in (("POST", "created"), ("PUT", "put"),
                         ("PATCH", "changed"), ("DELETE", "changed")):
        assert node.request(method, "/things").text == text
    for method in ("GET", "POST", "DELETE", "PURGE", "M-SEARCH"):
        assert node.request(method, "/any").text == "any", method


def test_method_not_allowed(node):
    response = node.get("/things")
    assert response.status == 405
    allow = {m.strip() for m in response.header("Allow").split(",")}
    assert allow == {"POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    assert node.request("PURGE", "/admin").status in (405, 501)


def test_options_is_built_in(node):
    response = node.request("OPTIONS", "/admin")
    assert response.status in (200, 204)
    allow = {m.strip() for m in response.header("Allow").split(",")}
    assert allow == {"GET", "HEAD", "OPTIONS"}
    assert node.request("OPTIONS", "/own-options").text == "options"
    assert node.request("OPTIONS", "/nope").status == 404
    assert node.request("OPTIONS", "*").status in (200, 204)


def test_head_comes_from_get_unless_registered(node):
    assert node.request("HEAD", "/admin").status == 200
    assert node.request("HEAD", "/only-head").header("X-Head") == "own"
    assert node.get("/only-head").header("X-Head") is None


def test_trailing_slash(node):
    response = node.get("/admin/?x=1")
    assert response.status == 308
    assert response.header("Location") == "/admin?x=1"
    assert node.get("/slash").header("Location") == "/slash/"
    assert node.request("HEAD", "/admin/").status == 308
    # Dot segments are gone, or it would go back and forth for ever.
    for target in ("/admin/.", "/admin/x/..", "/./admin/./"):
        assert node.get(target).header("Location") == "/admin"
    assert node.request("POST", "/things/").status == 404


def test_trailing_slash_never_leaves_the_host(node):
    for target in ("//evil.example/admin/", "/\\evil.example/",
                   "///admin/", "/%2Fevil.example/admin/"):
        with Client(node.address) as client:
            response = client.get(target)
            location = response.header("Location")
            assert location is None or (location.startswith("/") and
                                        location[1:2] not in ("/", "\\"))


def test_strict_slashes(start):
    node = start({"app.lua": 'local m = require "moonshine"\n'
                             'local app = m.app { trailing_slash = "strict" }\n'
                             'app:get("/a", function() return "a" end)\n'
                             'return app\n'})
    assert node.get("/a").status == 200
    assert node.get("/a/").status == 404


def test_url(node):
    location = node.get("/url").text
    assert location in ("/named/7/a%20b%2Fc?q=x%20y",
                        "/named/7/a%20b%2Fc?q=x+y")
    assert node.get(location).text == \
        "named id=7:number name=a b/c:string"
