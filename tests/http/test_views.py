"""Views through real nodes: answers, failures, reloads."""

import re

import pytest

from support.admin import Admin
from support.node import command, eventually, write_app

APP = r'''
app:get("/users/:id<int>", function(c)
    c:render("user", { user = { name = c:query("name", "Anna") }, id = c:param("id") })
end, { name = "user" })
app:get("/created", function(c) c:render("user", { user = { name = "A" } }, 201) end)
app:get("/feed", function(c) c:render("feed.xml", { title = "a & b" }) end)
app:get("/mail", function(c) c:render("mail.txt", { name = "<A>" }) end)
app:get("/typed", function(c)
    c:set_header("Content-Type", "application/xhtml+xml")
    c:render("feed.xml", { title = "t" })
end)
app:get("/returned", function(c) c:render("mail.txt", { name = "A" }) return "returned" end)
app:get("/wrapped", function(c, proceed)
    local body = proceed(c)
    c:set_header("X-Inner", tostring(body))
end, function(c) c:render("mail.txt", { name = "A" }) end)
app:get("/unknown", function(c) c:render("usr", {}) end)
app:get("/data", function(c) c:render("user", "text") end)
app:get("/status", function(c) c:render("mail.txt", { name = "A" }, 1000) end)
app:get("/nil", function(c) c:render("user", { user = {} }) end)
app:get("/inner", function(c) c:render("outer", { secret = c:query("secret") }) end)
app:get("/spin", function(c) c:render("spin") end)
app:get("/flood", function(c) c:render("flood") end, { cpu_limit = "60s" })
app:get("/deep", function(c) c:render("deep") end)
app:get("/slow", function(c)
    c:render("slow", { wait = moonshine.sleep, name = c:query("name") })
end, { timeout = "300ms" })
app:get("/reuse", function(c)
    local ok = pcall(c.render, c, "user", { user = {} })
    c:render("mail.txt", { name = tostring(ok) })
end)
app:on(404, function(c, err) c:render("gone", { status = err.status }) end)
local early = moonshine.render("mail.txt", { name = "early" })
app:get("/early", function() return early end)
'''

VIEWS = {
    "views/user.html":
        '<title><%= user.name %></title>\n'
        '<a href="<%= url("user", { id = 7 }, { name = user.name }) %>">7</a>\n'
        '<%= c:path() %> <%= tostring(id) %>\n',
    "views/feed.xml": '<feed><%= title %></feed>',
    "views/mail.txt": 'Hello <%= name %>, <%= tostring(c == nil) %>',
    "views/outer.html": 'outer\n<%- include("inner") %>',
    "views/inner.html": '<%= secret %>\n\n<%= nothing %>',
    "views/spin.html": 'a\n<% while true do %><% end %>',
    "views/flood.html": '<% while true do %>' + "x" * 1000 + '<% end %>',
    "views/deep.html": '<%- include("deep") %>',
    "views/slow.html": '<%= name %><% wait(10) %>',
    "views/gone.html": 'no <%= c:path() %>, <%= status %>',
}


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared({"app.lua": APP, **VIEWS},
                        settings={"cpu_limit": "200ms",
                                  "request_memory": "16m"})


def test_render(node):
    answer = node.get("/users/3?name=B%3Cb%3E")
    assert answer.status == 200
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    assert answer.text == (
        '<title>B&lt;b&gt;</title>\n'
        '<a href="/users/7?name=B%3Cb%3E">7</a>\n/users/3 3\n')
    assert node.get("/created").status == 201
    head = node.request("HEAD", "/users/3")
    assert (head.status, head.body) == (200, b"")
    assert int(head.header("Content-Length")) == \
        len(node.get("/users/3").body)


def test_content_types(node):
    feed = node.get("/feed")
    assert feed.header("Content-Type") == "application/xml"
    assert feed.text == "<feed>a &amp; b</feed>"
    mail = node.get("/mail")
    assert mail.header("Content-Type") == "text/plain; charset=utf-8"
    assert mail.text == "Hello <A>, false"
    assert node.get("/typed").header("Content-Type") == \
        "application/xhtml+xml"


def test_it_is_an_answer_like_others(node):
    assert node.get("/returned").text == "returned"
    wrapped = node.get("/wrapped")
    assert wrapped.text == "Hello A, false"
    assert wrapped.header("X-Inner") == "nil"
    gone = node.get("/no/such<page>")
    assert (gone.status, gone.text) == (404, "no /no/such&lt;page&gt;, 404")
    assert node.get("/early").text == "Hello early, true"
    assert node.get("/reuse").text == "Hello false, false"


@pytest.mark.parametrize("target, words", [
    ("/unknown", r"app\.lua:\d+: c:render: there is no view 'usr' "
     r"\(views/usr\.html\), did you mean 'user'\?"),
    ("/data", r"app\.lua:\d+: c:render: the data must be a table, not a string"),
    ("/status", r"app\.lua:\d+: c:status: the status must be"),
    ("/nil", r"views/user\.html:1: 'user\.name' is nil; write "
     r'<%= user\.name or \\?"\\?" %>'),
    ("/inner?secret=s3cret", r"views/inner\.html:3: 'nothing' is nil"),
    ("/deep", r"views/deep\.html:1: include: more than 100 views"),
])
def test_failures_are_logged_with_their_place(node, target, words):
    answer = node.get(target)
    assert answer.status == 500
    assert "views/" not in answer.text and "nothing" not in answer.text
    found = node.wait_log("request failed: " + words)
    after = node.log()[found.end():]
    assert "traceback" in after
    # Nothing of it is in what the next one gets.
    assert node.get("/mail").text == "Hello <A>, false"
    assert "s3cret" not in node.get("/users/1").text


@pytest.mark.parametrize("target, words", [
    ("/spin", "cpu limit of 200 ms exceeded.*views/spin.html:2"),
    ("/flood", "memory"),
    ("/slow?name=late", "timeout"),
])
def test_limits_hold_in_views(node, target, words):
    for _ in range(3):
        assert node.get(target).status == 503
        assert node.get("/users/1").status == 200
    node.wait_log("(?s)" + words)
    assert len(node.children()) == 1


# Reload

SAY = 'app:get("/", function(c) c:render("index", { n = 1 }) end)'


def test_reload_brings_new_views(start):
    node = start({"app.lua": SAY, "views/index.html": "one <%= n %>"},
                 workers=2)
    admin = Admin(node)
    assert node.get("/").text == "one 1"
    node.rewrite({"views/index.html": "two <%= n + 1 %>"})
    assert node.get("/").text == "one 1"
    assert admin.reload()[0]
    for _ in range(4):
        assert node.get("/").text == "two 2"
    # A view more, and one that the first includes.
    node.rewrite({"views/index.html": "three <%- include('part') %>",
                  "views/part.html": "(<%= n %>)"})
    assert admin.reload()[0]
    assert node.get("/").text == "three (1)"
    assert admin.rollback()[0]
    assert node.get("/").text == "two 2"
    # The worker that replaces a dead one has the committed views.
    node.rewrite({"views/index.html": "never"})
    (node.app / "views/part.html").unlink()
    admin.reload()
    assert node.get("/").text == "never"


BAD = {
    "unclosed": ("a\n<% if n then", r"views/index\.html:2: <% is not closed"),
    "syntax": ("a\n\n<%= n n %>", r"views/index\.html:3: '\)' expected near"),
    "no end": ("<% if n then %>\na", r"views/index\.html:2: 'end' expected"),
    "global": ("<% n = 2 %>", r"views/index\.html:1: assignment to the global"
               " 'n': make it local"),
    "include": ("\n<%- include('prt') %>", r"views/index\.html:2: include: "
                r"there is no view 'prt' \(views/prt\.html\), did you mean "
                "'part'"),
    "layout": ("<% layout('base') %>", r"views/index\.html:1: layout: there is "
               "no view 'base'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_view_never_replaces_a_good_one(start, kind):
    text, words = BAD[kind]
    good = {"app.lua": SAY, "views/index.html": "good <%= n %>",
            "views/part.html": "part"}
    node = start(good)
    node.rewrite({"views/index.html": text})
    ok, message = Admin(node).reload()
    assert not ok and re.search(words, message), message
    assert node.get("/").text == "good 1"
    assert Admin(node).status()["generation"] == 1
    node.rewrite({"views/index.html": "better <%= n %>"})
    assert Admin(node).reload()[0]
    assert node.get("/").text == "better 1"


@pytest.mark.parametrize("kind", BAD)
def test_check_names_the_line(tmp_path, kind):
    text, words = BAD[kind]
    app = write_app(tmp_path / "app", {
        "app.lua": SAY, "views/index.html": text, "views/part.html": "part"})
    done = command("check", app)
    assert done.returncode == 1 and re.search(words, done.stderr), done.stderr


def test_dev_reloads_on_save_and_shows_the_lines(start):
    node = start({"app.lua": SAY + ' app:get("/x", function(c) '
                  'c:render("x.xml") end)', "views/x.xml": "<one/>",
                  "views/index.html": "one"}, "--dev")
    node.rewrite({"views/index.html": "two"})
    eventually(lambda: node.get("/").text == "two", "reloaded")
    node.rewrite({"views/x.xml": "<two/>"})
    eventually(lambda: node.get("/x").text == "<two/>", "reloaded")
    node.rewrite({"views/index.html": "first line\n<%= n.x.y %>\nlast"})
    eventually(lambda: node.get("/").status == 500, "it fails")
    page = node.get("/", {"Accept": "text/html"}).text
    assert "views/index.html:2" in page
    assert "first line" in page and "&lt;%= n.x.y %&gt;" in page
