"""A site with a route of every kind, and how to tell a right answer of each.

    with Node(SITE, settings=SETTINGS) as node:
        for kind in KINDS:
            kind.ask(node)      # "right", "refused", "cut", or Wrong is raised

An answer is right, or it is a refusal (500 or 503, and nothing of the other
answer in it), or the connection ended before it was whole. All else is wrong.
"""

import json

from support.client import Client, Closed, build
from support.forms import multipart

BIG = b"0123456789abcdef" * 2000  # beyond body_buffer, and a read buffer
SETTINGS = {"body_buffer": "8k", "shared.d": "1m"}
APP = r'''
local pieces = ("s"):rep(700)
app:get("/plain", function() return "plain text" end)
app:post("/json", function(c)
    local got = c:bind { name = "string", list = { "integer", max = 50 } }
    return { name = got.name, list = got.list, n = #got.list }
end)
app:post("/body", function(c) return { bytes = #c:body() } end)
app:post("/upload", function(c)
    local file = c:upload("file")
    local path = file.path
    local handle = assert(io.open(path, "rb"))
    local size = #handle:read("*a")
    handle:close()
    return { size = size, same = file:read() == c:form("copy") }
end)
app:static("/files", "public")
app:get("/sent", function(c) return c:send_file("public/big.txt") end)
app:post("/count", function(c)
    local session = c:session()
    local n = (session:get("n") or 0) + 1
    session:set("n", n)
    return { n = n }
end)
app:get("/stream", function(c)
    return c:stream(function(write)
        for _ = 1, 60 do write(pieces) end
    end)
end)
app:get("/error", function() error("on purpose") end)
app:get("/page", function(c)
    return c:render("page.html", { items = { "a", "b<c" } })
end)
app:get("/tasks", function()
    local a, b = moonshine.all(function() moonshine.sleep("1ms") return 1 end,
        function()
            local ok, two = moonshine.spawn(function() return 2 end):wait("1s")
            return ok and two
        end)
    return { a = a, b = b }
end)
app:get("/shared", function()
    local dict = moonshine.shared("d")
    dict:set("k", ("v"):rep(100))
    return { n = #dict:get("k"), first = dict:incr("n", 1, 0) > 0 }
end)
app:get("/garbage", function()
    local t = {}
    for i = 1, 3000 do t[i] = { tostring(i), { i } } end
    return { n = #t, last = t[#t][1] }
end)
app:get("/limited", moonshine.limit.token_bucket { rate = 1e6, per = 1,
    burst = 1e6, key = "ip" }, function(c) c:set_cookie("a", "b") return "passed" end)
'''
SITE = {
    "app.lua": APP,
    "views/page.html": "<ul><% for _, i in ipairs(items) do %>"
                       "<li><%= i %></li><% end %></ul>",
    "public/big.txt": BIG.decode(),
    "public/small.txt": "small",
}


class Wrong(AssertionError):
    pass


class Kind:
    """One request, or several of one connection at once (`times`)."""

    def __init__(self, name, method, target, check, headers=None, body=None,
                 status=200, times=1):
        self.name, self.check, self.status = name, check, status
        self.bytes = build(method, target, headers, body) * times
        self.times = times

    def __repr__(self):
        return self.name

    def ask(self, node, timeout=20.0):
        try:
            with Client(node.address, timeout) as client:
                client.send(self.bytes)
                return self.judge([client.read_response()
                                   for _ in range(self.times)])
        except (Closed, ConnectionError):
            return "cut"
        except TimeoutError as error:
            raise Wrong(f"{self.name}: hangs: {error}") from None

    def judge(self, answers):
        verdict = "right"
        for answer in answers:
            if answer.status == self.status and self.is_right(answer):
                continue
            if answer.status not in (self.status if self.status > 399 else 500,
                                     500, 503):
                raise Wrong(f"{self.name}: {answer}")
            if answer.body and "html" not in answer.header("Content-Type") \
                    and answer.json()["status"] != answer.status:
                raise Wrong(f"{self.name}: {answer}")
            verdict = "refused"
        return verdict

    def is_right(self, answer):
        try:
            return self.check(answer)
        except (ValueError, KeyError):  # not what it says it is
            return False


def says(**values):
    return lambda answer: answer.json() == values


def counts(answer):
    return answer.json() == {"n": 1} and len(answer.all("Set-Cookie")) == 1


def text(value):
    return lambda answer: answer.body == value


NUMBERS = list(range(1, 40))
FORM, UPLOAD = multipart(("copy", BIG[:6000]), ("file", BIG[:6000], "f.txt"))
KINDS = [
    Kind("plain", "GET", "/plain", text(b"plain text")),
    Kind("pipeline", "GET", "/plain", text(b"plain text"), times=5),
    Kind("many headers", "GET", "/plain", text(b"plain text"),
         {f"X-{i}": "v" * 200 for i in range(60)}),
    Kind("json", "POST", "/json", says(name="n", list=NUMBERS, n=39),
         {"Content-Type": "application/json"},
         json.dumps({"name": "n", "list": NUMBERS}).encode()),
    Kind("body", "POST", "/body", says(bytes=len(BIG)), None, BIG),
    Kind("upload", "POST", "/upload", says(size=6000, same=True),
         {"Content-Type": FORM}, UPLOAD),
    Kind("static file", "GET", "/files/big.txt", text(BIG)),
    Kind("range", "GET", "/files/big.txt", text(BIG[5:21]),
         {"Range": "bytes=5-20"}, status=206),
    Kind("sent file", "GET", "/sent", text(BIG)),
    Kind("session", "POST", "/count", counts),
    Kind("stream", "GET", "/stream", text(b"s" * 42000)),
    Kind("error page", "GET", "/error",
         lambda a: "on purpose" not in a.text and
         a.json()["status"] == 500, status=500),
    Kind("view", "GET", "/page", text(b"<ul><li>a</li><li>b&lt;c</li></ul>")),
    Kind("tasks", "GET", "/tasks", says(a=1, b=2)),
    Kind("shared", "GET", "/shared", says(n=100, first=True)),
    Kind("garbage", "GET", "/garbage", says(n=3000, last="3000")),
    Kind("limited", "GET", "/limited", text(b"passed")),
    Kind("not found", "GET", "/nothing",
         lambda a: a.json()["status"] == 404, status=404),
]
BY_NAME = {kind.name: kind for kind in KINDS}
