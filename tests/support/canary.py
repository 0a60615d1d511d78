"""Visitors who carry their name in all they send, and look for the names of
others in every byte they get.

    with Flock([node.address]) as flock:
        flock.wait(2000)

Each asks on connections of its own: in order, pipelined, in pieces, leaves in
the middle, sends what is no HTTP. What an answer must say is checked, too. The
first thing that is wrong is raised at the end of the block.
"""

import random
import re
import threading
import time

from support.client import Client, Closed, Malformed, build
from support.forms import multipart
from support.node import eventually

NAME = re.compile(rb"own-([a-z]+)-")
# In what the log must never show: headers, cookies, bodies, sessions.
SECRET = "sk-"

APP = r"""
local module = {}           -- as a table of a module would be
local last                  -- as an upvalue would be
local by_context = setmetatable({}, { __mode = "k" })
local by_coroutine = setmetatable({}, { __mode = "k" })

app:use(function(c, proceed)
    c:set("own", c:header("X-Own"))
    c:set_header("X-Seen", c:header("X-Own") or "none")
    last = c
    by_context[c] = (by_context[c] or "") .. (c:header("X-Own") or "none")
    local co = coroutine.running()
    by_coroutine[co] = (by_coroutine[co] or "") .. (c:header("X-Own") or "none")
    local body, status, headers = proceed(c)
    c:add_header("X-Seen-Too", tostring(c:get("own")))
    return body, status, headers
end)

local function all_of(c)
    return { own = c:get("own"), headers = c:headers(), cookies = c:cookies(),
        queries = c:queries(), path = c:path(), ip = c:ip(), id = c:request_id(),
        param = c:param("x"), none = c:header("X-None"), context = by_context[c],
        coroutine = by_coroutine[coroutine.running()] }
end

app:any("/echo/:x", function(c) return all_of(c) end)
app:any("/wait/:x", function(c)
    local before = c:get("own")
    local a, b = moonshine.all(
        function() moonshine.sleep(math.random() / 500) return c:header("X-Own") end,
        function() return c:get("own") end)
    moonshine.sleep(math.random() / 500)
    local all = all_of(c)
    all.before, all.a, all.b = before, a, b
    return all
end)
app:post("/body", function(c) return c:body() end)
app:post("/stream", function(c)
    local parts = {}
    for piece in function() return c:read(7) end do parts[#parts + 1] = piece end
    return table.concat(parts)
end, { body = "stream" })
app:post("/file", function(c)
    local file = c:body_file()
    file:seek(1)
    return (file:read(16) or "") .. c:body()
end, { body = "file" })
app:post("/bind", function(c) return c:bind() end)
app:post("/form", function(c)
    local uploads = {}
    for i, upload in ipairs(c:uploads()) do
        uploads[i] = { upload.filename, upload.type, upload:read(5), upload:read() }
    end
    return { forms = c:forms(), uploads = uploads }
end)
app:get("/pieces/:x", function(c)
    c:stream(function(write)
        for _ = 1, 4 do
            if not write(c:param("x") .. "\n") then return end
            moonshine.sleep(0)
        end
    end)
end)
app:any("/fails/:x", function(c)
    local secret = c:header("X-Own")
    local how = c:query("how")
    if how == "table" then error({ cookie = secret, authorization = { secret } }) end
    if how == "nil" then error() end
    if how == "fail" then c:fail(422, "not so", { own = c:header("X-Own") }) end
    if how == "result" then return function() return secret end end
    if how == "late" then moonshine.sleep(0) local nothing = nil return nothing.x end
    error("it went wrong")
end)
app:get("/cookie/:x", function(c)
    c:set_cookie("own", c:param("x"), { path = "/" .. c:param("x") })
    c:set_cookie("n", math.random(1e9))
    c:redirect("/" .. c:param("x"))
end)
app:get("/last", function(c)
    moonshine.sleep(0)
    local ok, said = pcall(function() return last:header("X-Own") end)
    -- It may be another's that runs now: then its owner is who has it.
    return { ok = ok, dead = not ok and said:find("used after", 1, true) ~= nil }
end)
app:get("/spawn/:x", function(c)
    local own = c:header("X-Own")
    local task = moonshine.spawn(function()
        moonshine.sleep("3ms")
        local ok, said = pcall(function() return c:header("X-Own") end)
        module[own] = ok and said ~= own and ("wrong: " .. tostring(said)) or module[own]
    end)
    if c:query("wait") then task:wait() end
    return { own = own, wrong = module[own] }
end)
app:post("/keep", function(c)
    local session = c:session()
    session:set("own", c:header("X-Own"))
    session:flash("hello", c:header("X-Own"))
    return { own = session:get("own") }
end)
app:get("/kept", function(c)
    local session = c:session()
    return { all = session:all(), flash = session:flash("hello"), own = c:header("X-Own") }
end)
app:get("/page", function(c) return c:render("page", { own = c:header("X-Own") }) end)
app:get("/empty", function() end)
app:on(404, function(c, err) return { no = c:path(), own = c:header("X-Own") } end)
"""
VIEWS = {"views/page.html": "<% layout 'frame' %><p><%= own %>|<%= missing or '' %>",
         "views/frame.html": "<html><% if own then %><%- content %><% end %>"}
FILES = {"app.lua": APP, **VIEWS}


class Wrong(AssertionError):
    pass


class Bird:
    def __init__(self, flock, number):
        self.flock, self.random = flock, random.Random(f"{flock.seed}{number}")
        letters = [self.random.choice("abcdefghijklmnop") for _ in range(8)]
        self.name = "".join(letters)
        self.cookie, self.client, self.heard = None, None, b""

    def value(self, secret=True):
        """Of any length, so that it lies over what others left."""
        size = self.random.choice([1, 5, 30, 200, 1500])
        return f"{SECRET if secret else ''}own-{self.name}-" + \
            self.random.choice("xyz") * size

    def connection(self):
        if self.client is None:
            address = self.random.choice(self.flock.addresses)
            self.client = Client(address, 20)
            self.count = 0
        return self.client

    def leave(self):
        if self.client is not None:
            self.look(self.client.pending)
            self.client.close()
        self.client = None

    def look(self, data):
        for name in NAME.findall(data):
            if name != self.name.encode():
                raise Wrong(f"{self.name} was given {name}: {data[:3000]!r}")

    # ---- requests ----

    def request(self, method, target, headers=None, body=None):
        fields = {"X-Own": self.own, **(headers or {})}
        jar = [f"{SECRET}{self.random.random()}=own-{self.name}-c"]
        if self.cookie:
            jar.append(self.cookie)
        fields["Cookie"] = "; ".join(jar)
        return build(method, target, fields, body)

    def expect(self, response, kind):
        if response.status >= 500 and kind != "fails":
            if response.status == 503 and self.flock.may_refuse:
                return
            raise Wrong(f"{kind}: {response} {response.body!r}")
        if kind in ("echo", "wait"):
            said = response.json()
            values = {said["own"], said["headers"]["x-own"], said["context"],
                      said["coroutine"], said.get("before", self.own),
                      said.get("a", self.own), said.get("b", self.own)}
            if values != {self.own} or "none" in said:
                raise Wrong(f"{kind} {self.name}: {said}")
        elif kind in ("body", "stream") and response.body != self.body:
            raise Wrong(f"{kind}: {response.body!r} for {self.body!r}")
        elif kind == "pieces" and response.text != f"{self.own}\n" * 4:
            raise Wrong(f"{kind}: {response.body!r}")
        elif kind == "spawn" and "wrong" in response.json():
            raise Wrong(response.text)
        elif kind == "keep":
            for field in response.all("Set-Cookie"):
                if field.startswith("id="):
                    self.cookie = field.split(";")[0]

    def make(self):
        """(what it is, its bytes)"""
        self.own = self.value()
        plain, how = self.value(False)[:200], self.random.choice
        kind = how(["echo", "echo", "wait", "body", "stream", "file", "bind",
                    "form", "pieces", "fails", "cookie", "last", "spawn", "keep",
                    "kept", "page", "empty", "nowhere", "head", "method"])
        self.body = self.value().encode()
        if kind in ("body", "stream", "file"):
            if how([True, False]):
                self.body = self.body * how([1, 3, 30])
            return kind, self.request("POST", "/" + kind, body=self.body)
        if kind == "bind":
            return kind, self.request("POST", "/bind", body={self.own: [self.own]})
        if kind == "form":
            if how([True, False]):
                kind_of, body = "application/x-www-form-urlencoded", \
                    f"a={self.own}&b={self.own}&c=%20"
            else:
                kind_of, body = multipart(("a", self.own),
                                          ("f", self.own, "n.txt", "text/x"))
            return kind, self.request("POST", "/form",
                                      {"Content-Type": kind_of}, body)
        if kind == "pieces":
            self.own = plain
            return kind, self.request("GET", f"/pieces/{plain}")
        if kind == "fails":
            way = how(["table", "nil", "fail", "result", "late", "text"])
            return kind, self.request(
                "GET", f"/fails/{plain}?how={way}&token={self.own}",
                {"Accept": how(["text/html", "application/json"])})
        if kind in ("keep", "kept", "page", "empty", "last"):
            return kind, self.request("POST" if kind == "keep" else "GET",
                                      "/" + kind)
        if kind == "head":
            return kind, self.request("HEAD", f"/echo/{plain}")
        if kind == "method":
            return kind, self.request("DELETE", "/kept")
        tail = f"/{plain}?token={self.own}&a={how(['', 'b%20c', plain])}"
        if kind == "spawn" and how([True, False]):
            tail += "&wait=1"
        return kind, self.request("GET", f"/{kind}{tail}")

    def step(self):
        client = self.connection()
        requests = []
        for _ in range(self.random.choice([1, 1, 1, 4])):
            kind, data = self.make()
            requests.append((kind, data, self.own, self.body))
        bytes_ = b"".join(data for _, data, _, _ in requests)
        way = self.random.random()
        if way < 0.06:  # what is no HTTP, with the name in it
            broken = bytes_.replace(b"\r\n", self.random.choice(
                [b"\n", b"\r", b"\r\n ", b"\0\r\n"]), 2)
            client.send(broken)
            client.half_close()
            self.look(client.read_rest())
            return self.leave()
        if way < 0.14:  # and gone
            client.send(bytes_[:self.random.randrange(1, len(bytes_))])
            return self.leave()
        if way < 0.3:  # in pieces
            cut = self.random.randrange(1, len(bytes_))
            client.send(bytes_[:cut])
            time.sleep(0.001)
            client.send(bytes_[cut:])
        else:
            client.send(bytes_)
        if way > 0.94:  # asked, and gone before the answer
            return self.leave()
        for kind, _, self.own, self.body in requests:
            response = client.read_response(head=kind == "head")
            head = "\n".join(map(str, response.headers)).encode()
            self.look(head + response.body)
            self.flock.count += 1
            self.expect(response, kind)
            self.count += 1
            if response.header("Connection") == "close":
                return self.leave()
        if self.count > 40:
            self.leave()

    def live(self):
        while not self.flock.ending:
            try:
                self.step()
            except (OSError, Closed, Malformed) as error:
                if not self.flock.may_cut:
                    raise Wrong(f"{self.name}: {error!r}") from error
                self.leave()
                time.sleep(0.01)
        self.leave()


class Flock:
    """may_cut: workers die. may_refuse: 503 is an answer."""

    def __init__(self, addresses, birds=6, seed="flock", may_cut=False,
                 may_refuse=False):
        self.addresses, self.seed = addresses, seed
        self.may_cut, self.may_refuse = may_cut, may_refuse
        self.ending, self.count, self.failure = False, 0, None
        self.birds = [Bird(self, number) for number in range(birds)]
        self.threads = [threading.Thread(target=self.run, args=(bird,),
                                         daemon=True) for bird in self.birds]

    def run(self, bird):
        try:
            bird.live()
        except BaseException as error:  # pylint: disable=broad-except
            self.failure = self.failure or error
            self.ending = True

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def wait(self, answers, seconds=120.0):
        """Until so many more were read."""
        until = self.count + answers
        eventually(lambda: self.count >= until or self.failure is not None,
                   f"{answers} answers", seconds)
        if self.failure is not None:
            raise self.failure

    def __exit__(self, kind, *_):
        self.ending = True
        for thread in self.threads:
            thread.join()
        if kind is None and self.failure is not None:
            raise self.failure
