"""csrf{}: who may send an unsafe request, and what a token is worth."""

import base64
import re

import pytest

from support.admin import Admin
from support.forms import multipart
from support.node import command, write_app

# What a proxy with TLS in front would say, since nodes speak plain HTTP.
APP = r"""
local Context = require("moonshine.context").methods
function Context:scheme() return self:header("X-Scheme") or "http" end

app:use(moonshine.csrf { origins = "https://admin.example.com", skip = { "/hook", "/api/*" } })
app:get("/token", function(c) return c:csrf_token() end)
app:get("/tokens", function(c) return { c:csrf_token(), c:csrf_token() } end)
app:get("/late", function(c)
    c:stream(function(write)
        write("a")
        moonshine.sleep(0)
        local ok, message = pcall(c.csrf_token, c)
        write(tostring(message))
    end)
end)
app:any("/", function(c) return c:method() end)
app:any("/hook", function() return "hook" end)
app:any("/hooks", function() return "hooks" end)
app:any("/api/x", function() return "api" end)
app:post("/stream", function(c)
    local size = 0
    for piece in c.read, c do size = size + #piece end
    return tostring(size)
end, { body = "stream" })
app:post("/login", function(c) c:session():renew() c:session():set("user", "ann") return "in" end)
app:post("/form", function(c) return c:form("a") end)
app:post("/upload", function(c) return c:upload("file"):read() end, { body = "file" })
"""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP, workers=2)


def take(node, headers=None, cookie=None):
    """A token and its cookie, as a browser that opens a page."""
    headers = dict(headers or {})
    if cookie:
        headers["Cookie"] = cookie
    answer = node.get("/token", headers)
    assert answer.status == 200, answer
    sent = answer.header("Set-Cookie")
    return answer.text, sent.split(";")[0] if sent else cookie


def post(node, headers=None, body=b"", target="/", method="POST"):
    return node.request(method, target, headers, body)


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://test.local"},
    {"Origin": "http://TEST.local:80"},
    {"Origin": "http://a.b:8080", "Host": "a.b:8080"},
    {"Origin": "https://test.local", "X-Scheme": "https"},
    {"Origin": "https://test.local", "Host": "test.local:443",
     "X-Scheme": "https"},
    {"Origin": "https://admin.example.com"},
    {"Origin": "https://admin.example.com", "Sec-Fetch-Site": "cross-site"},
])
def test_passes_without_a_token(node, headers):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = post(node, headers, method=method)
        assert (answer.status, answer.text) == (200, method), answer


@pytest.mark.parametrize("headers", [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Same-Origin"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "https://test.local"},
    {"Origin": "http://test.local:8080"},
    {"Origin": "http://test.local.evil.example"},
    {"Origin": "http://test.local/"},
    {"Origin": "test.local"},
    {"Origin": "http://admin.example.com"},
    {"Origin": "http://test.local", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Referer": "http://test.local/"},
])
def test_needs_a_token(node, headers):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = post(node, headers, method=method)
        assert answer.status == 403, answer
        assert "send the CSRF token" in answer.text
    text, cookie = take(node)
    headers = {**headers, "Cookie": cookie, "X-CSRF-Token": text}
    assert post(node, headers).status == 200


def test_safe_methods_pass(node):
    evil = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    for method in ("GET", "HEAD", "OPTIONS"):
        assert node.request(method, "/", evil).status in (200, 204)
    # An unknown one is not safe.
    assert post(node, method="MKCOL").status == 403


def test_skip(node):
    assert post(node, target="/hook").text == "hook"
    assert post(node, target="/api/x").text == "api"
    assert post(node, target="/hooks").status == 403
    assert post(node, target="/%68ook").text == "hook"


def test_the_token_in_a_form(node):
    text, cookie = take(node)
    headers = {**FORM, "Cookie": cookie}
    assert post(node, headers, f"_csrf={text}&a=1", "/form").text == "1"
    assert post(node, headers, f"a=1&_csrf={text}", "/form").text == "1"
    assert post(node, headers, "a=1", "/form").status == 403
    assert post(node, headers, f"_csrf={text[:-1]}", "/form").status == 403
    # What is no form is not read as one.
    headers["Content-Type"] = "text/plain"
    assert post(node, headers, f"_csrf={text}").status == 403


def test_the_token_beside_a_file(node):
    text, cookie = take(node)

    def upload(token):
        kind, body = multipart(("_csrf", token), ("file", "moon", "a.txt"))
        headers = {"Cookie": cookie, "Content-Type": kind}
        return post(node, headers, body, "/upload")
    assert upload(text).text == "moon"
    assert upload(text[:-1]).status == 403
    kind, body = multipart(("file", text, "_csrf"))
    headers = {"Cookie": cookie, "Content-Type": kind}
    assert post(node, headers, body, "/upload").status == 403


def test_a_streamed_body_is_left_alone(node):
    text, cookie = take(node)
    headers = {**FORM, "Cookie": cookie}
    body = f"_csrf={text}"
    assert post(node, headers, body, "/stream").status == 403
    headers["X-CSRF-Token"] = text
    assert post(node, headers, body, "/stream").text == str(len(body))


def test_the_cookie(node):
    answer = node.get("/tokens")
    assert re.fullmatch(r"csrf=[\w-]{43}\.[\w-]{43}; Path=/; HttpOnly; "
                        r"SameSite=Lax", answer.header("Set-Cookie"))
    cookie = answer.header("Set-Cookie").split(";")[0]
    again = node.get("/tokens", {"Cookie": cookie})
    assert again.header("Set-Cookie") is None
    # With TLS in front it is one that no neighbour can plant.
    secure = node.get("/token", {"X-Scheme": "https"})
    assert secure.header("Set-Cookie").startswith("__Host-csrf=")
    assert "; Secure" in secure.header("Set-Cookie")
    assert "Domain" not in secure.header("Set-Cookie")


def test_each_text_is_another_one_and_good(node):
    first = node.get("/tokens")
    cookie = first.header("Set-Cookie").split(";")[0]
    texts = first.json() + node.get("/tokens", {"Cookie": cookie}).json()
    assert len(set(texts)) == 4
    for text in texts:
        headers = {"Cookie": cookie, "X-CSRF-Token": text}
        assert post(node, headers).status == 200
    # No two share more than chance would have it, in any place.
    raw = [base64.urlsafe_b64decode(text + "==") for text in texts]
    assert all(len(r) == 64 for r in raw)
    same = sum(a == b for a, b in zip(raw[0], raw[1]))
    assert same < 16


def test_a_token_is_worth_nothing_elsewhere(node):
    text, cookie = take(node)
    other_text, other_cookie = take(node)
    for headers in (
            {"Cookie": other_cookie, "X-CSRF-Token": text},
            {"Cookie": cookie, "X-CSRF-Token": other_text},
            {"X-CSRF-Token": text},
            {"Cookie": "csrf=", "X-CSRF-Token": text},
            {"Cookie": cookie, "X-CSRF-Token": ""},
            {"Cookie": cookie, "X-CSRF-Token": text + "AAAA"},
            {"Cookie": cookie, "X-CSRF-Token": text[:-4]},
            {"Cookie": cookie, "X-CSRF-Token": "A" * len(text)},
            {"Cookie": cookie, "X-CSRF-Token": cookie.split("=")[1]},
            # A cookie that was not made here, and one for the other scheme.
            {"Cookie": "csrf=" + "A" * 43 + "." + "A" * 43,
             "X-CSRF-Token": text},
            {"Cookie": cookie, "X-CSRF-Token": text, "X-Scheme": "https"}):
        answer = post(node, headers)
        assert answer.status == 403, headers
        assert "does not belong" in answer.text
    headers = {"Cookie": cookie, "X-CSRF-Token": text}
    assert post(node, headers).status == 200


def test_a_bad_cookie_is_replaced(node):
    text, cookie = take(node, cookie="csrf=planted")
    assert cookie != "csrf=planted"
    assert post(node, {"Cookie": cookie, "X-CSRF-Token": text}).status == 200


def test_a_login_ends_the_tokens_of_before(node):
    text, cookie = take(node)
    answer = post(node, {"X-CSRF-Token": text, "Cookie": cookie},
                  target="/login")
    assert answer.text == "in"
    sent = dict(line.split(";")[0].split("=", 1)
                for line in answer.all("Set-Cookie"))
    assert set(sent) == {"csrf", "id"}
    session = f"id={sent['id']}"
    fresh = f"csrf={sent['csrf']}; {session}"
    assert post(node, {"X-CSRF-Token": text, "Cookie": fresh}).status == 403
    text, _ = take(node, cookie=fresh)
    answer = post(node, {"X-CSRF-Token": text, "Cookie": fresh})
    assert answer.text == "POST"


def test_a_login_without_a_token_sets_no_cookie_for_one(node):
    answer = post(node, {"Sec-Fetch-Site": "same-origin"}, target="/login")
    assert [line.split("=")[0] for line in answer.all("Set-Cookie")] == ["id"]


def test_the_cookie_comes_before_the_body(node):
    assert "csrf_token: the response has begun" in node.get("/late").text
    _, cookie = take(node)
    # With a cookie there is nothing to set.
    answer = node.get("/late", {"Cookie": cookie})
    assert re.fullmatch(r"a[\w-]{86}", answer.text)


def test_across_reloads(start):
    def config(new, old=None):
        old = f', old = "{old}"' if old else ""
        return {"config.lua": f'secrets = {{ new = "{new}"{old} }}'}
    first, second = "a" * 16, "b" * 16
    node = start({"app.lua": APP, **config(first)}, workers=2)
    text, cookie = take(node)
    headers = {"Cookie": cookie, "X-CSRF-Token": text}
    assert Admin(node).reload()[0]
    assert post(node, headers).status == 200
    node.rewrite(config(second, first))
    assert Admin(node).reload()[0]
    assert post(node, headers).status == 200
    # The old cookie goes on, with a token under the new key.
    fresh, same = take(node, cookie=cookie)
    assert same == cookie
    assert post(node, {"Cookie": cookie, "X-CSRF-Token": fresh}).status == 200
    node.rewrite(config(second))
    assert Admin(node).reload()[0]
    assert post(node, headers).status == 403
    text, cookie = take(node, cookie=cookie)
    assert post(node, {"Cookie": cookie, "X-CSRF-Token": text}).status == 200


def test_other_names_and_the_routes(start):
    node = start(r"""
app:get("/token", function(c) return c:csrf_token() end)
app:post("/", moonshine.csrf { field = "t", header = "X-T" }, function() return "ok" end)
""")
    text, cookie = take(node)
    headers = {"Cookie": cookie}
    assert post(node, {**headers, "X-T": text}).text == "ok"
    assert post(node, {**headers, **FORM}, f"t={text}").text == "ok"
    answer = post(node, {**headers, "X-CSRF-Token": text})
    assert answer.status == 403 and "field t or the header X-T" in answer.text
    said = command("routes", node.app)
    assert re.search(r"POST +/ .*csrf", said.stdout), said


@pytest.mark.parametrize("options, words", [
    ("{ origin = {} }", "csrf has no option 'origin', did you mean 'origins'?"),
    ('{ origins = "example.com" }', 'must be like "https://example.com"'),
    ('{ origins = "null" }', 'must be like "https://example.com"'),
    ('{ origins = { "https://a.example/" } }', "must be like"),
    ("{ skip = { 1 } }", "each of csrf: skip must be a string"),
    ("{ field = 1 }", "csrf: field must be a string"),
    ("7", "csrf: the options must be a table"),
])
def test_wrong_options(tmp_path, options, words):
    done = command("check", write_app(
        tmp_path, f"\napp:use(moonshine.csrf({options}))"))
    assert done.returncode == 1
    assert "app.lua:2: " in done.stderr and words in done.stderr
