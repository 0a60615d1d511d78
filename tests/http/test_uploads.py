"""Files in forms: read, saved, bounded, and gone when nobody needs them."""

import os
import pathlib
import signal
import tempfile

import pytest

from support.client import Client, build
from support.forms import multipart, post_form
from support.node import eventually

APP = r'''
app:post("/upload", function(c)
    local list = moonshine.json.array {}
    for _, file in ipairs(c:uploads()) do
        list[#list + 1] = { field = file.field, name = file.filename, type = file.type,
            size = file.size, text = file.size < 100 and file:read() or nil }
    end
    return { files = list, forms = c:forms(), first = c:form("a") }
end, { body_limit = "20m" })
app:post("/save", function(c)
    local file = c:upload("file")
    local ok, message, code = file:save(c:query("to"))
    return { ok = ok, message = message, code = code }
end, { body_limit = "20m" })
app:post("/pieces", function(c)
    local file = c:upload("file")
    local total, count = 0, 0
    for piece in function() return file:read(1000) end do
        total, count = total + #piece, count + 1
    end
    return { total = total, count = count, whole = #file:read() }
end, { body_limit = "20m" })
app:post("/path", function(c)
    local file = c:upload("file")
    local path = file.path
    assert(path == file.path)
    local f = assert(io.open(path, "rb"))
    local text = f:read("*a")
    f:close()
    if c:query("fail") then error("after the path") end
    if c:query("wait") then moonshine.sleep("30s") end
    return { path = path, same = text == file:read() }
end, { body_limit = "20m", cancel_on_disconnect = true })
app:post("/typo", function(c) return c:upload("file").filenam end)
app:post("/bind", function(c)
    local got = c:bind { title = "string", file = "upload(1..1m)",
        more = { "upload", max = 2, optional = true } }
    return { title = got.title, size = got.file.size, more = got.more and #got.more }
end, { body_limit = "20m" })
app:post("/body", function(c)
    local before = #c:forms().a
    return { before = before, body = #c:body(), after = #c:form("a") }
end)
app:get("/", function() return "fine" end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


def descriptors(node):
    return len(os.listdir(f"/proc/{node.children()[0]}/fd"))


def test_fields_and_files(node):
    answer = post_form(
        node, "/upload", ("a", "1"), ("f", b"hello", "x.txt", "text/plain"),
        ("a", "2"), ("g", b"\0\r\n--", "C:\\dir\\y.bin"), ("h", b"", ""))
    assert answer.json() == {
        "first": "1", "forms": {"a": "1"},
        "files": [{"field": "f", "name": "x.txt", "type": "text/plain",
                   "size": 5, "text": "hello"},
                  {"field": "g", "name": "y.bin", "type": "", "size": 5,
                   "text": "\0\r\n--"}]}


@pytest.mark.parametrize("size", [0, 1, 60000, 70000, 5000000])
def test_saved_files_are_what_was_sent(node, size):
    data = os.urandom(size)
    answer = post_form(node, "/save?to=kept.bin", ("a", "x"),
                       ("file", data, "f.bin"), ("b", "y"))
    assert answer.json() == {"ok": True}
    kept = node.app / "kept.bin"
    assert kept.read_bytes() == data
    assert kept.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert not list(node.app.glob("*.part"))


@pytest.mark.skipif(os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev,
                    reason="/dev/shm is no file system of its own")
@pytest.mark.parametrize("size", [60000, 5000000])
def test_saved_on_another_file_system(node, size):
    """The kernel copies no file between file systems of different kinds."""
    data = os.urandom(size)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as there:
        kept = pathlib.Path(there, "kept.bin")
        answer = post_form(node, f"/save?to={kept}", ("file", data, "f.bin"))
        assert answer.json() == {"ok": True}
        assert kept.read_bytes() == data
        assert list(kept.parent.iterdir()) == [kept]


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("size", [10, 300000])
def test_a_file_that_cannot_be_saved(node, size):
    answer = post_form(node, "/save?to=no/such/dir.bin",
                       ("file", b"x" * size, "f"))
    assert answer.json()["code"] == 500
    assert "no/such/dir.bin: No such file or directory" in \
        answer.json()["message"]


@pytest.mark.parametrize("size", [0, 999, 1000, 123456])
def test_a_file_in_pieces(node, size):
    assert post_form(node, "/pieces", ("file", b"x" * size, "f")).json() == {
        "total": size, "count": -(-size // 1000), "whole": size}


@pytest.mark.parametrize("size", [0, 10, 300000])
def test_a_temporary_path(node, size):
    before = descriptors(node)
    with node.connect() as client:
        kind, body = multipart(("file", os.urandom(size), "f"))
        headers = {"Content-Type": kind}
        answer = client.request("POST", "/path", headers, body).json()
        assert answer["same"]
        assert client.request("POST", "/path?fail=1", headers,
                              body).status == 500
    assert not os.path.exists(answer["path"])
    eventually(lambda: descriptors(node) <= before, "the file is closed")


def test_the_temporary_file_of_a_client_that_left(node):
    before = descriptors(node)
    kind, body = multipart(("file", b"x" * 300000, "f"))
    with Client(node.address) as client:
        client.send(build("POST", "/path?wait=1", {"Content-Type": kind}, body))
        eventually(lambda: "sleep" in node.command(
            "status", "--requests").stdout, "the handler waits")
    eventually(lambda: descriptors(node) <= before, "the file is closed")


def test_nothing_is_left_by_a_worker_that_crashed(start, tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    node = start(APP, settings={"upload.dir": uploads, "temp_dir": uploads})
    kind, body = multipart(("file", b"x" * 300000, "f"))
    with Client(node.address) as client:
        client.send(build("POST", "/path?wait=1", {"Content-Type": kind}, body))
        eventually(lambda: "sleep" in node.command(
            "status", "--requests").stdout, "the handler waits")
        os.kill(node.children()[0], signal.SIGKILL)
        assert client.read_rest() == b""
    node.wait_ready()
    assert list(uploads.iterdir()) == []


def test_requests_that_end_while_their_form_is_read(node):
    """The job outlives the request, and ends by itself."""
    kind, body = multipart(*[("file", b"y" * 1000000, "f")] * 8)
    before = descriptors(node)
    for _ in range(20):
        with Client(node.address) as client:
            client.send(build("POST", "/save?to=left.bin",
                              {"Content-Type": kind}, body))
    eventually(lambda: descriptors(node) <= before, "all are closed")
    assert node.get("/").text == "fine"


def test_limits(start):
    node = start(APP, settings={"upload.max_files": 2, "upload.max_file": "1k",
                                "max_args": 3})
    files = [("f", b"x", "x")] * 3
    assert post_form(node, "/upload", *files[:2]).status == 200
    answer = post_form(node, "/upload", *files)
    assert answer.status == 413
    assert answer.json()["detail"] == "the form has more than 2 files"
    answer = post_form(node, "/upload", ("big", b"x" * 1025, "x"))
    assert answer.status == 413
    assert answer.json()["detail"] == \
        'the file in field "big" is larger than 1024 bytes'
    assert post_form(node, "/upload", *[("a", "1")] * 4).json()["detail"] == \
        "the form has more than 3 fields"
    assert post_form(node, "/upload", ("a", b"x" * 30000000)).status == 413


def test_files_of_a_shape(node):
    def bind(*parts):
        return post_form(node, "/bind", ("title", "t"), *parts)

    one = ("file", b"abc", "f")
    assert bind(one).json() == {"title": "t", "size": 3}
    assert bind(one, ("more", b"1", "a"), ("more", b"2", "b")).json() == {
        "title": "t", "size": 3, "more": 2}
    assert bind().json()["details"] == {"file": "is missing"}
    assert bind(("file", "text")).json()["details"] == {
        "file": "must be a file of 1 to 1048576 bytes"}
    assert bind(("file", b"", "empty")).status == 422


def test_the_body_stays_readable(node):
    kind, body = multipart(("a", "12345"))
    assert node.request("POST", "/body", {"Content-Type": kind},
                        body).json() == {
        "before": 5, "body": len(body), "after": 5}


def test_wrong_use_of_an_upload(node):
    assert post_form(node, "/typo", ("file", b"", "f")).status == 500
    node.wait_log("an upload has no 'filenam', did you mean 'filename'")


@pytest.mark.parametrize("size", [100, 100000])
@pytest.mark.parametrize("cut", ["--", "boundary", "name"])
def test_malformed_forms(node, size, cut):
    kind, body = multipart(("a", "x" * size))
    if cut == "--":
        body = body[:-4]
    elif cut == "boundary":
        kind = kind.replace("boundary=", "boundary=other")
    else:
        body = body.replace(b'; name="a"', b"")
    answer = node.request("POST", "/upload", {"Content-Type": kind}, body)
    assert answer.status == 400
    assert answer.json()["detail"].startswith(("the form", "a part of"))
