"""c:stream with a format: the bytes a client gets, and how it ends."""

import csv
import io
import json
import re

import pytest

from support.client import build
from support.node import eventually

APP = r'''
local ended = 0
app:get("/csv", function(c)
    c:stream(function(write)
        write { "name", "note" }
        write { "Anna", 'says "hi", twice' }
        write { "Bob\nBobson", 1.5 }
        write { moonshine.json.null, true }
    end, "csv")
end)
app:get("/ndjson", function(c)
    c:stream(function(write)
        for i = 1, 3 do
            write { i = i, text = "a\nb" }
            moonshine.sleep("1ms")
        end
    end, "ndjson")
end)
app:get("/events", function(c)
    c:stream(function(write)
        write "plain"
        moonshine.sleep("1ms")
        write { event = "tick", id = 7, retry = "3s", data = { n = 1 } }
        write { data = "two\nlines" }
    end, "events")
end)
app:get("/events-own", function(c)
    c:set_header("Cache-Control", "no-store")
    c:set_header("Content-Type", "text/event-stream; charset=utf-8")
    c:stream(function(write) write "x" end, "events")
end)
app:get("/typed", function(c)
    c:stream(function(write) write "a,b" write(1) end, "text/x-own")
end)
app:get("/default", function(c) c:stream(function(write) write "x" end) end)
app:get("/status", function(c)
    c:status(202)
    c:stream(function(write) write { 1 } end, "csv")
end)
app:get("/wrong/csv", function(c)
    c:stream(function(write)
        write { "begun" }
        write("not a row")
    end, "csv")
end)
app:get("/wrong/ndjson", function(c)
    c:stream(function(write)
        write { print }
    end, "ndjson")
end)
app:get("/wrong/events", function(c)
    c:stream(function(write)
        write { dta = 1 }
    end, "events")
end)
app:get("/wrong/format", function(c)
    c:stream(function() end, "cvs")
end)
app:get("/rows", function(c)
    c:stream(function(write)
        for i = 1, 20000 do
            if not write { i, "row " .. i, "a,b", i % 2 == 0 } then return end
        end
    end, "csv")
end, { cpu_limit = "60s" })
app:get("/endless", function(c)
    c:defer(function() ended = ended + 1 end)
    c:stream(function(write)
        local i = 0
        repeat i = i + 1 until not write { i, ("x"):rep(1000) }
    end, "csv")
end)
app:get("/ended", function() return tostring(ended) end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


def test_csv(node):
    answer = node.get("/csv")
    assert answer.header("Content-Type") == "text/csv; charset=utf-8"
    assert answer.body == (b'name,note\r\nAnna,"says ""hi"", twice"\r\n'
                           b'"Bob\nBobson",1.5\r\n,true\r\n')
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert rows == [["name", "note"], ["Anna", 'says "hi", twice'],
                    ["Bob\nBobson", "1.5"], ["", "true"]]


def test_many_rows(node):
    rows = list(csv.reader(io.StringIO(node.get("/rows").text, newline="")))
    assert len(rows) == 20000
    assert rows == [[str(i), f"row {i}", "a,b", str(i % 2 == 0).lower()]
                    for i in range(1, 20001)]


def test_ndjson(node):
    answer = node.get("/ndjson")
    assert answer.header("Content-Type") == "application/x-ndjson"
    lines = answer.text.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"i": i, "text": "a\nb"} for i in (1, 2, 3)]


def test_events(node):
    answer = node.get("/events")
    assert answer.header("Content-Type") == "text/event-stream"
    assert answer.header("Cache-Control") == "no-cache"
    assert answer.header("X-Accel-Buffering") == "no"
    assert answer.text == ('data: plain\n\n'
                           'event: tick\nid: 7\nretry: 3000\n'
                           'data: {"n":1}\n\n'
                           'data: two\ndata: lines\n\n')
    own = node.get("/events-own")
    assert own.header("Cache-Control") == "no-store"
    assert own.header("Content-Type") == "text/event-stream; charset=utf-8"


def test_events_arrive_as_they_are_written(node):
    client = node.connect()
    client.send(build("GET", "/events"))
    client.read_head()
    assert next(client.read_chunks()) == b"data: plain\n\n"


def test_other_types(node):
    typed = node.get("/typed")
    assert typed.header("Content-Type") == "text/x-own"
    assert typed.text == "a,b1"
    default = node.get("/default")
    assert default.header("Content-Type") == "text/plain; charset=utf-8"
    assert default.header("Cache-Control") is None
    status = node.get("/status")
    assert (status.status, status.text) == (202, "1\r\n")


@pytest.mark.parametrize("kind, line, words", [
    ("csv", 4, "write() takes a list, the fields of a row, not a string"),
    ("ndjson", 3, "write(): "),
    ("events", 3, "an event has no option 'dta', did you mean 'data'?"),
    ("format", 2, "c:stream: the format must be csv, ndjson, events or"),
])
def test_wrong_use_names_the_line(node, kind, line, words):
    first = APP.splitlines().index(f'app:get("/wrong/{kind}", function(c)') + 1
    if kind == "format":
        assert node.get("/wrong/format").status == 500
    else:
        # The head was out: the client can tell that the body is not whole.
        client = node.connect()
        client.send(build("GET", f"/wrong/{kind}"))
        assert client.read_head().status == 200
        assert not client.read_rest().endswith(b"0\r\n\r\n")
    node.wait_log("request failed: app.lua:%d: " % (first + line - 1))
    assert words in node.log()


def test_disconnect_in_the_middle_of_csv(node):
    before = int(node.get("/ended").text)
    client = node.connect()
    client.send(build("GET", "/endless"))
    assert client.read_head().header("Content-Type").startswith("text/csv")
    assert next(client.read_chunks()).startswith(b"1,xxx")
    client.close()
    eventually(lambda: int(node.get("/ended").text) == before + 1,
               "the stream ends")
    assert not re.search("request failed.*route=/endless", node.log())
    assert node.get("/csv").status == 200
