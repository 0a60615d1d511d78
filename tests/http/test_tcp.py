"""moonshine.tcp: handlers that talk to other services."""

import os
import socket
import threading

import pytest

from support.node import eventually


class Service:
    """A TCP service of this process; `talk(conn)` runs in a thread for each
    connection. Counts connections made and open."""

    def __init__(self, talk, address=("127.0.0.1", 0), backlog=128):
        family = socket.AF_UNIX if isinstance(address, str) else \
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.bind(address)
        self.sock.listen(backlog)
        self.talk = talk
        self.made = 0
        self.open = set()
        self.lock = threading.Lock()
        if family != socket.AF_UNIX:
            self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.made += 1
                self.open.add(conn)
            threading.Thread(target=self.run, args=(conn,),
                             daemon=True).start()

    def run(self, conn):
        try:
            self.talk(conn)
        except OSError:
            pass
        with self.lock:
            self.open.discard(conn)
        conn.close()

    def gone(self):
        """All that ever connected have left."""
        return self.made > 0 and not self.open

    def hang_up(self):
        with self.lock:
            for conn in self.open:
                conn.shutdown(socket.SHUT_RDWR)

    def close(self):
        # Wakes the accept, which a close alone does not.
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.hang_up()
        self.thread.join(5)


def echo(conn):
    while data := conn.recv(65536):
        conn.sendall(data)


def silent(conn):
    while conn.recv(65536):
        pass


def says(*parts):
    """Says it once it was asked, then closes."""
    def talk(conn):
        conn.recv(65536)
        for part in parts:
            conn.sendall(part)
    return talk


@pytest.fixture
def serve():
    services = []

    def start(talk, **options):
        service = Service(talk, **options)
        services.append(service)
        return service

    yield start
    for service in services:
        service.close()


# `say(...)` makes one line of what a call returned, nil included.
HELP = r"""
local function say(...)
    local parts = {}
    for i = 1, select("#", ...) do
        parts[i] = tostring((select(i, ...)))
    end
    return table.concat(parts, "|")
end
local function dial(c, ...)
    local sock = moonshine.tcp()
    assert(sock:connect("127.0.0.1", c:query("port"), ...))
    return sock
end
"""


def app(body):
    return (HELP + body).replace("\n", " ")


@pytest.fixture
def ask(start, serve):
    """ask(talk, lua): what a route with that body says about a service."""
    def run(talk, body):
        service = serve(talk)
        node = start(app('app:get("/", function(c) ' + body + " end)"))
        response = node.get(f"/?port={service.port}")
        assert response.status == 200, response
        return response.text
    return run


def test_receives_sizes_lines_and_all(ask):
    assert ask(says(b"one\r\ntwo\n\nabcdefg", b"hij"), """
        local s = dial(c)
        assert(s:send("go") == 2)
        local a, b, d = s:receive(), s:receive("*l"), s:receive()
        return say(a, b, d, s:receive(4), s:receive(0), s:receive("*a"))
    """) == "one|two||abcd||efghij"


def test_partial_data_comes_with_the_failure(ask):
    assert ask(says(b"whole\nhalf"), """
        local s = dial(c)
        s:send("go")
        local line = s:receive()
        return say(line, s:receive("*l")) .. " " .. say(s:receive(1))
            .. " " .. say(s:close(), s:close())
    """) == "whole|nil|closed|half nil|closed| 1|nil|closed"


def test_a_receive_that_times_out_leaves_the_socket_open(ask):
    def talk(conn):
        conn.sendall(b"early")
        conn.recv(100)
        conn.sendall(b"late\n")
        conn.recv(100)

    assert ask(talk, """
        local s = dial(c)
        s:settimeouts("5s", nil, "30ms")
        local first = say(s:receive())
        s:settimeout(5)
        s:send("x")
        return first .. " " .. say(s:receive())
    """) == "nil|timeout|early late"


def test_receive_any(ask):
    assert ask(says(b"abcdef"), """
        local s = dial(c)
        s:send("go")
        local first = s:receiveany(2)
        local rest = {}
        repeat
            local data, err, partial = s:receiveany(100)
            rest[#rest + 1] = data or say(err, partial)
        until not data
        return first .. " " .. table.concat(rest)
    """) == "ab cdefclosed|"


def test_receive_until(ask):
    text = b"hello, world! -agentzh\nblah blah blah--agentzhtail"
    assert ask(says(text[:20], text[20:]), """
        local s = dial(c)
        s:send("go")
        local pieces, next_piece = {}, s:receiveuntil("-agentzh")
        while true do
            local data, err = next_piece(4)
            if not data then
                pieces[#pieces + 1] = tostring(err)
                break
            end
            pieces[#pieces + 1] = data
        end
        local whole = next_piece():gsub("%s", "_")
        return table.concat(pieces, "|") .. " " .. whole .. " "
            .. say(s:receiveuntil("no", {inclusive = true})())
    """) == "hell|o, w|orld|! |nil _blah_blah_blah- nil|closed|tail"


def test_receive_until_inclusive(ask):
    assert ask(says(b"key=value;rest"), """
        local s = dial(c)
        s:send("go")
        return say(s:receiveuntil("=", {inclusive = true})(),
            (s:receiveuntil(";")()), s:receive("*a"))
    """) == "key=|value|rest"


def test_sends_lists_and_megabytes(ask):
    def count(conn):
        left = 8 << 20
        while left:
            left -= len(conn.recv(min(left, 65536)))
        conn.sendall(b"got it\n" + echo_line(conn))

    def echo_line(conn):
        return conn.recv(100)

    assert ask(count, """
        local s = dial(c)
        local sent = s:send(("x"):rep(8 * 1048576))
        s:send({"a", {1, {"b"}}, 2.5})
        return say(sent, s:receive(), s:receive("*a"))
    """) == f"{8 << 20}|got it|a1b2.5"


def test_a_send_that_nobody_reads_times_out(ask):
    done = threading.Event()

    def deaf(conn):
        done.wait(30)

    try:
        assert ask(deaf, """
            local s = dial(c)
            s:settimeouts(5, "50ms", 5)
            return say(s:send(("x"):rep(32 * 1048576))) .. " "
                .. say(s:send("more"))
        """) == "nil|timeout nil|closed"
    finally:
        done.set()


def test_too_long(ask):
    assert ask(says(b"x" * 2000), """
        local s = dial(c, {receive_limit = "1k"})
        s:send("go")
        return say(s:receive()) .. " " .. say(s:receive(4096)) .. " "
            .. #s:receive(1000)
    """) == "nil|too long| nil|too long| 1000"


def test_connect_failures_name_the_reason(start):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = start(app("""
        app:get("/", function(c)
            local s = moonshine.tcp()
            return say(s:connect(c:query("host"), c:query("port")))
                .. " " .. say(s:send("x")) .. " " .. say(s:receive())
                .. " " .. say(s:getreusedtimes()) .. " " .. say(s:setkeepalive())
        end)
    """))
    closed = " nil|closed nil|closed| nil|closed nil|closed"
    for host, reason in (("127.0.0.1", "connection refused"),
                         ("localhost", "connection refused"),
                         ("a..b", "host not found"),
                         ("unix:/nowhere/at/all", "no such file or directory"),
                         ("unix:/" + "x" * 200, "name too long")):
        text = node.get(f"/?host={host}&port={port}").text
        assert text == f"nil|{reason}{closed}"


def test_connect_times_out(start, tmp_path):
    # A unix socket with a full backlog is the one peer that surely never
    # answers, whatever the network here does.
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as full:
        full.bind(path)
        full.listen(0)
        waiting = []
        try:
            while True:
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.setblocking(False)
                one.connect(path)
        except BlockingIOError:
            pass
        node = start(app(f"""
            app:get("/", function(c)
                local s = moonshine.tcp()
                s:settimeouts("40ms")
                return say(s:connect("unix:{path}"))
            end)
        """))
        assert node.get("/").text == "nil|timeout"
        for one in waiting:
            one.close()


def test_unix_sockets(start, serve, tmp_path):
    path = str(tmp_path / "echo")
    serve(echo, address=path)
    node = start(app(f"""
        app:get("/", function(c)
            local s = moonshine.tcp()
            assert(s:connect("unix:{path}"))
            s:send("hi\\n")
            local line, times = s:receive(), s:getreusedtimes()
            assert(s:setkeepalive())
            return say(line, times)
        end)
    """))
    assert node.get("/").text == "hi|0"
    assert node.get("/").text == "hi|1"


def test_ipv6_and_names(start, serve):
    try:
        service = serve(echo, address=("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    node = start(app("""
        app:get("/", function(c)
            local s = moonshine.tcp()
            assert(s:connect(c:query("host"), c:query("port")))
            s:send("hi\\n")
            return s:receive()
        end)
    """))
    assert node.get(f"/?host=::1&port={service.port}").text == "hi"
    assert node.get(f"/?host=[::1]&port={service.port}").text == "hi"
    names = serve(echo)
    assert node.get(f"/?host=localhost&port={names.port}").text == "hi"


KEEP = app("""
    app:get("/", function(c)
        local s = dial(c, {pool_size = tonumber(c:query("size"))})
        s:send("hi\\n")
        local line, times = s:receive(), s:getreusedtimes()
        assert(s:setkeepalive(c:query("idle")))
        return say(line, times, s:receive())
    end)
    app:get("/many", function(c)
        local socks = {}
        for i = 1, 5 do
            socks[i] = dial(c)
        end
        for i = 1, 5 do
            assert(socks[i]:setkeepalive(10, 2))
        end
        return "ok"
    end)
""")


def test_kept_connections_are_used_again(start, serve):
    service = serve(echo)
    node = start(KEEP)
    for times in range(5):
        assert node.get(f"/?port={service.port}").text == \
            f"hi|{times}|nil|closed|"
    assert service.made == 1


def test_kept_connections_survive_a_reload(start, serve):
    service = serve(echo)
    node = start(KEEP)
    for times in range(4):
        assert node.get(f"/?port={service.port}").text.startswith(f"hi|{times}|")
        assert node.command("reload").returncode == 0
    assert service.made == 1


def test_kept_connections_end_in_time_and_with_the_peer(start, serve):
    service = serve(echo)
    node = start(KEEP)
    assert node.get(f"/?port={service.port}&idle=1ms").text.startswith("hi|0|")
    eventually(lambda: not service.open, "the idle connection is closed")
    assert node.get(f"/?port={service.port}").text.startswith("hi|0|")
    service.hang_up()
    eventually(lambda: not service.open, "the service has closed")
    assert node.get(f"/?port={service.port}").text.startswith("hi|0|")
    assert service.made == 3


def test_the_pool_is_bounded(start, serve):
    service = serve(echo)
    node = start(KEEP)
    assert node.get(f"/many?port={service.port}").text == "ok"
    eventually(lambda: service.made == 5 and len(service.open) == 2,
               "two are kept")


def test_a_connection_that_said_too_much_is_not_kept(start, serve):
    def chatty(conn):
        while conn.recv(100):
            conn.sendall(b"line\nunasked")

    service = serve(chatty)
    node = start(app("""
        app:get("/", function(c)
            local s = dial(c)
            s:send("go")
            s:receive()
            return say(s:setkeepalive())
        end)
    """))
    assert node.get(f"/?port={service.port}").text == \
        "nil|unread data in buffer"
    eventually(service.gone, "it is closed with the request")


WAITS = app("""
    app:get("/", function(c)
        local s = dial(c)
        return say(s:receive())
    end)
    app:get("/all", function(c)
        local s = dial(c)
        local function read() return say(s:receive()) end
        return say(moonshine.all(read, function()
            moonshine.sleep(0)
            return say(s:receive()) .. say(s:close()) .. say(s:setkeepalive())
                .. say(s:connect("127.0.0.1", c:query("port")))
                .. say(s:send("ping\\n"))
        end))
    end)
    app:get("/free", function(c) return "free" end)
""")


def test_two_tasks_share_one_socket(start, serve):
    service = serve(echo)
    node = start(WAITS)
    busy = "nil|socket busy reading"
    assert node.get(f"/all?port={service.port}").text == \
        f"ping|{busy}|{busy}{busy}{busy}5"


def test_the_request_timeout_ends_a_wait(start, serve):
    service = serve(silent)
    node = start(WAITS, settings={"timeout": "100ms"})
    assert node.get(f"/?port={service.port}").status == 503
    eventually(service.gone, "the connection is closed")


def test_a_client_that_leaves_ends_a_wait(start, serve):
    service = serve(silent)
    node = start(WAITS)
    client = node.connect()
    client.send(f"GET /?port={service.port} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    eventually(lambda: service.open, "the handler waits")
    client.close()
    eventually(service.gone, "the connection is closed")
    assert node.get("/free").text == "free"


def test_waiting_handlers_do_not_hold_up_a_worker(start, serve):
    release = threading.Event()

    def slow(conn):
        release.wait(60)
        conn.sendall(b"now\n")

    service = serve(slow, backlog=512)
    node = start(WAITS)
    clients = [node.connect() for _ in range(200)]
    for client in clients:
        client.send(f"GET /?port={service.port} HTTP/1.1\r\nHost: a\r\n\r\n"
                    .encode())
    eventually(lambda: service.made == 200, "200 handlers wait")
    assert node.get("/free").text == "free"
    release.set()
    for client in clients:
        assert client.read_response().text == "now"


def test_a_forgotten_socket_closes_with_its_request(start, serve):
    service = serve(echo)
    node = start(app("""
        local kept
        app:get("/", function(c)
            kept = dial(c)
            return "ok"
        end)
        app:get("/again", function(c) return say(kept:send("x")) end)
    """))
    assert node.get(f"/?port={service.port}").text == "ok"
    eventually(service.gone, "the connection is closed")
    assert node.get("/again").text == "nil|closed"


def test_a_task_of_the_request_may_connect_for_it(start, serve):
    service = serve(echo)
    node = start(app("""
        app:get("/", function(c)
            local s = moonshine.all(function() return dial(c) end)
            s:send("hi\\n")
            return s:receive()
        end)
    """))
    assert node.get(f"/?port={service.port}").text == "hi"


def test_timers_and_coroutines(start, serve):
    service = serve(echo)
    node = start(app(f"""
        local heard = 0
        moonshine.every("10ms", function()
            local s = moonshine.tcp()
            assert(s:connect("127.0.0.1", {service.port}))
            s:send("hi\\n")
            heard = s:receive() == "hi" and heard + 1 or heard
        end)
        app:get("/", function() return tostring(heard) end)
        app:get("/co", function(c)
            local next_line = coroutine.wrap(function()
                local s = dial(c)
                for i = 1, 3 do
                    s:send(i .. "\\n")
                    coroutine.yield(s:receive())
                end
            end)
            return say(next_line(), next_line(), next_line())
        end)
    """))
    eventually(lambda: int(node.get("/").text) > 2, "the timer talks")
    assert node.get(f"/co?port={service.port}").text == "1|2|3"


def test_wrong_use_names_the_line(start):
    calls = {
        "s.connect('a', 1)": "call it with a colon",
        "s:connect(1)": "the host must be a string",
        "s:connect('a', 70000)": "from 1 to 65535",
        "s:connect('a', 1, {pol = 1})": "did you mean 'pool'",
        "s:send({true})": "must not contain a boolean",
        "s:receive('*x')": "takes a number of bytes",
        "s:receive(-1)": "a whole number from 0",
        "s:receiveuntil('')": "must not be empty",
        "s:settimeout('soon')": "must be a duration",
    }
    cases = " ".join(f"function() {call} end," for call in calls)
    node = start(app(f"""
        local s = moonshine.tcp()
        local cases = {{ {cases} }}
        app:get("/:n<int>", function(c)
            return say(pcall(cases[c:param("n")]))
        end)
    """))
    for number, reason in enumerate(calls.values(), 1):
        text = node.get(f"/{number}").text
        assert text.startswith("false|app.lua:1: ") and reason in text, text


def test_not_while_loading(start):
    node = start(app("""
        local s = moonshine.tcp()
        local told = say(pcall(s.connect, s, "127.0.0.1", 1))
        app:get("/", function() return told end)
    """))
    assert "while loading" in node.get("/").text


def test_a_stop_waits_for_a_talk_and_drops_the_idle(start, serve):
    release = threading.Event()

    def slow(conn):
        release.wait(60)
        conn.sendall(b"now\n")
        conn.recv(1)

    service, kept = serve(slow), serve(echo)
    node = start(WAITS + " " + KEEP.replace('"/"', '"/keep"')
                 .replace(HELP.replace("\n", " "), ""))
    assert node.get(f"/keep?port={kept.port}").status == 200
    client = node.connect()
    client.send(f"GET /?port={service.port} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    eventually(lambda: service.open, "the handler waits")
    os.kill(node.pid, 15)
    node.wait_log("drain|TERM|stop")
    release.set()
    assert client.read_response().text == "now"
    client.close()
    assert node.process.wait(30) == 0
    eventually(lambda: not kept.open, "idle connections are closed")
