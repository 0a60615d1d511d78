"""Bodies in: buffered, as a file, streamed. Bodies out: streams, files."""

import os
import socket
import struct
import subprocess

import pytest

from support.admin import Admin
from support.client import Client, build, chunks
from support.node import eventually, write_app

APP = r'''
app:post("/echo", function(c) return c:body() end)
app:post("/file", function(c)
    local file = c:body_file()
    local total = 0
    for piece in file.read, file do total = total + #piece end
    assert(file:save("saved.bin"))
    return total .. " of " .. file.size
end, { body = "file", body_limit = "4m" })
app:post("/seek", function(c)
    local file, parts = c:body_file(), {}
    for i, offset in ipairs { 2, 0, -1, 3, 99 } do
        file:seek(offset)
        parts[i] = file:read(2) or "end"
    end
    parts[#parts + 1] = select(2, pcall(file.seek, file, "start"))
    return table.concat(parts, " ")
end, { body = "file" })
app:post("/chunks", function(c)
    local total, reads = 0, 0
    while true do
        local piece = c:read(65536)
        if not piece then break end
        total, reads = total + #piece, reads + 1
    end
    return total .. " in " .. (reads > 1 and "several" or "one")
end, { body = "stream", body_limit = "16m" })
app:get("/stream", function(c)
    c:set_header("Content-Type", "text/event-stream")
    c:stream(function(write)
        for i = 1, 3 do write("data: " .. i .. "\n\n") moonshine.sleep(0.01) end
    end)
end)
app:get("/stream-error", function(c)
    c:stream(function(write) write("begun") moonshine.sleep(0.01) error("mid") end)
end)
app:post("/until-closed", function(c)
    local message
    repeat
        local piece, why = c:read()
        message = why
    until not piece
    moonshine.log.info("the body ended: " .. tostring(message))
end, { body = "stream" })
local ended = "no"
app:get("/stream-forever", function(c)
    c:defer(function() ended = "yes" end)
    c:stream(function(write) while write(("x"):rep(10000)) do end end)
end)
app:get("/ended", function() return ended end)
app:get("/echo-file/:name", function(c) c:send_file("files/" .. c:param("name")) end)
app:get("/any-file", function(c) c:send_file(c:query("path"), { root = "files" }) end)
app:get("/download", function(c)
    c:send_file("files/a.txt", { download = "näme \"x\".txt", max_age = 60 })
end)
app:static("/assets", "public", { index = "index.html", max_age = 3600 })
app:static("/spa", "public", { fallback = "index.html", immutable = true })
'''
FILES = {
    "app.lua": APP,
    "files/a.txt": "0123456789",
    "files/empty": "",
    "files/big.bin": bytes(range(256)) * 20000,
    "public/index.html": "<h1>index</h1>",
    "public/style.css": "body {}",
    "public/.secret": "no",
    "public/sub/index.html": "sub",
}


@pytest.fixture(scope="module")
def node(start_shared, tmp_path_factory):
    app = write_app(tmp_path_factory.mktemp("bodies"), FILES)
    os.symlink("/etc/passwd", app / "public" / "escape")
    return start_shared(app)


def post(node, target, body, kind="application/json"):
    return node.request("POST", target, {"Content-Type": kind}, body)


def test_body_as_a_file(node):
    for size in (0, 5, 3000000):
        body = os.urandom(size)
        assert post(node, "/file", body, "text/plain").text == \
            f"{size} of {size}"
        assert (node.app / "saved.bin").read_bytes() == body


def test_a_body_file_is_read_from_where_seek_went(node):
    assert post(node, "/seek", b"abcd", "text/plain").text == \
        "cd ab ab d end app.lua:16: seek: the offset must be a number, " \
        "not a string"


def test_body_as_a_stream(node):
    assert post(node, "/chunks", b"x" * 3000000,
                "text/plain").text == "3000000 in several"
    response = node.request(
        "POST", "/chunks", {"Transfer-Encoding": "chunked"},
        chunks(*[b"y" * 10000] * 50))
    assert response.text == "500000 in several"
    assert node.request("POST", "/chunks", body="").text == "0 in one"


def test_stream(node):
    with Client(node.address) as client:
        response = client.get("/stream")
        assert response.header("Transfer-Encoding") == "chunked"
        assert response.header("Content-Type") == "text/event-stream"
        assert response.text == "data: 1\n\ndata: 2\n\ndata: 3\n\n"
        assert client.get("/ended").status == 200


def test_stream_arrives_as_it_is_written(node):
    with Client(node.address) as client:
        client.send(build("GET", "/stream"))
        client.read_head()
        assert next(client.read_chunks()) == b"data: 1\n\n"


def test_broken_stream_is_not_taken_for_a_whole_one(node):
    with Client(node.address) as client:
        client.send(build("GET", "/stream-error"))
        rest = client.read_rest()
        assert b"begun" in rest
        assert not rest.endswith(b"0\r\n\r\n")


def test_stream_to_a_client_that_left(node):
    client = node.connect()
    client.send(build("GET", "/stream-forever"))
    client.read_head()
    client.close()
    assert node.get("/ended").status == 200
    eventually(lambda: node.get("/ended").text == "yes", "the stream ends")


def test_head_of_a_stream(node):
    with Client(node.address) as client:
        assert client.request("HEAD", "/stream").status == 200
        assert client.get("/ended").status == 200


def test_send_file(node):
    with Client(node.address) as client:
        response = client.get("/echo-file/a.txt")
        assert response.text == "0123456789"
        assert response.header("Content-Type").startswith("text/plain")
        etag = response.header("ETag")
        assert client.get("/echo-file/empty").body == b""
        assert client.get("/echo-file/big.bin").body == FILES["files/big.bin"]
        assert client.get("/echo-file/none").status == 404
        assert client.get("/echo-file/a.txt",
                          {"If-None-Match": etag}).status == 304
        part = client.get("/echo-file/a.txt", {"Range": "bytes=2-4"})
        assert (part.status, part.text) == (206, "234")
        assert part.header("Content-Range") == "bytes 2-4/10"
        assert client.get("/echo-file/a.txt",
                          {"Range": "bytes=-3"}).text == "789"
        assert client.get("/echo-file/a.txt",
                          {"Range": "bytes=20-"}).status == 416
        head = client.request("HEAD", "/echo-file/big.bin")
        assert head.header("Content-Length") == str(256 * 20000)
        assert client.get("/echo-file/a.txt").text == "0123456789"


@pytest.mark.parametrize("path", ["../app.lua", "/etc/passwd", "a/../../app.lua",
                                  "..%2Fapp.lua", "..", "%00", "a.txt%00.png"])
def test_send_file_stays_inside_its_root(node, path):
    assert node.get(f"/any-file?path={path}").status in (400, 403, 404)


def test_download(node):
    response = node.get("/download")
    disposition = response.header("Content-Disposition")
    assert disposition.startswith("attachment")
    assert "filename*=UTF-8''n%C3%A4me" in disposition
    assert "max-age=60" in response.header("Cache-Control")


def test_static(node):
    response = node.get("/assets/style.css")
    assert response.header("Content-Type").startswith("text/css")
    assert "max-age=3600" in response.header("Cache-Control")
    assert node.get("/assets/").text == "<h1>index</h1>"
    assert node.get("/assets/sub").header("Location") == "/assets/sub/"
    assert node.get("/assets/sub/").text == "sub"
    assert node.get("/assets/none").status == 404
    assert node.request("POST", "/assets/style.css").status == 405


def test_static_fallback(node):
    page = node.get("/spa/any/where")
    assert page.text == "<h1>index</h1>"
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert page.header("Cache-Control") == "no-cache"
    assert node.get("/spa/style.css").header("Cache-Control") == \
        "public, max-age=31536000, immutable"


@pytest.mark.parametrize("path", [
    ".secret", "escape", "../app.lua", "%2e%2e/app.lua", "..%2fapp.lua",
    "sub/../../app.lua", "%5c..%5capp.lua", "style.css%00", "style.css/",
])
def test_static_serves_nothing_else(node, path):
    assert node.get(f"/assets/{path}").status in (400, 404), path


# Spooling

def test_a_body_is_spooled_off_the_loop(node, tmp_path):
    """Files are written by the thread pool: a slow disk holds up nobody."""
    worker, trace = node.children()[0], tmp_path / "trace"
    strace = subprocess.Popen(
        ["strace", "-f", "-y", "-o", trace, "-e", "trace=openat,write",
         "-p", str(worker)], stderr=subprocess.PIPE)
    try:
        assert b"attached" in strace.stderr.readline()
        assert post(node, "/file", b"x" * 3000000).text == "3000000 of 3000000"
    finally:
        strace.terminate()
        strace.communicate()
    spooled = [line for line in trace.read_text().splitlines()
               if "O_TMPFILE" in line or "(deleted)" in line]
    assert len(spooled) > 1
    assert all(int(line.split()[0]) != worker for line in spooled), spooled


def test_spooling_that_fails(start, tmp_path):
    where = tmp_path / "gone"
    where.mkdir()
    node = start(FILES, settings={"temp_dir": where})
    where.rmdir()
    body = os.urandom(300000)
    assert post(node, "/file", body).status == 503
    node.wait_log(f"cannot spool a request body in {where}: No such file")
    where.mkdir()
    assert post(node, "/file", body).text == "300000 of 300000"


def test_clients_that_leave_while_their_body_is_spooled(node):
    worker = node.children()[0]
    before = len(os.listdir(f"/proc/{worker}/fd"))
    for _ in range(50):
        with Client(node.address) as client:
            client.send(build("POST", "/file", {"Content-Length": 3000000}))
            client.send(b"x" * 400000)
    assert post(node, "/file", b"y" * 100).text == "100 of 100"
    eventually(lambda: len(os.listdir(f"/proc/{worker}/fd")) <= before + 1,
               "the files are closed")


def test_a_reader_hears_of_a_reset(node):
    with Client(node.address) as client:
        client.send(build("POST", "/until-closed", {
            "Transfer-Encoding": "chunked"}) + b"5\r\nfirst\r\n")
        eventually(lambda: any(r["waits_on"] == "request body"
                               for r in Admin(node).requests()), "it waits")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
    node.wait_log("the body ended: closed", 10)
