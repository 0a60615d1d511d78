"""Lines of the access log: each one can be read by a machine, whatever the
client sends, and says what the documents say."""

import json
import re

import pytest

from support.admin import Admin
from support.client import Client
from support.node import eventually

APP = r"""
app:access_log { skip = { "/quiet" } }
app:get("/", function() return "hello" end)
app:get("/quiet", function() return "" end)
app:get("/item/:id", function(c) return c:param("id") end)
app:get("/sleep", function() moonshine.sleep(0.12) return "slept" end)
app:post("/body", function(c) return tostring(#c:body()) end)
app:get("/big", function() return ("x"):rep(8 * 1024 * 1024) end)
app:get("/stream", function(c)
    return c:stream(function(write) write("a") moonshine.sleep(0.2) write("b") end)
end)
"""

FIELDS = ["ip", "method", "target", "status", "bytes", "ms", "first_ms",
          "route", "request", "generation", "agent"]
PHASES = ["receive_ms", "handle_ms", "send_ms"]

LINE = re.compile(r'(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) '
                  r'(?P<level>debug|info|warn|error) +(?P<who>[^:]+): '
                  r'(?P<message>access|slow request)'
                  r'(?P<fields>(?: [a-z_]+=(?:"(?:[^"\\]|\\.)*"|[^\s"=]+))+)')
FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)')

HOSTILE = [
    ("GET /%0aforged HTTP/1.1", b"curl"),
    ('GET /?q="quoted\\" HTTP/1.1', b'a "quoted" \\ agent'),
    ("GET /?a=b=c HTTP/1.1", b"k=v status=200 ip=1.2.3.4"),
    ("GET /nowhere HTTP/1.1", b"\xff\xfe\x80 \xc3\x28 \xed\xa0\x80"),
    ("GET /nowhere HTTP/1.1", b"tab\tinside"),
    ("GET /nowhere HTTP/1.1", "caf\u00e9 \u2028 \u202e".encode()),
    ("GET /nowhere HTTP/1.1", b"A" * 20000),
    ("GET /nowhere HTTP/1.1", b""),
    ("FORGED /x HTTP/1.1", b"}{\"status\":1}"),
]


def text_lines(node):
    """All access lines of a log in text; nothing else may look like one."""
    for line in node.log().split("\n"):
        assert not re.search("[\0-\x1f\x7f]", line), line
        if "access" not in line and "slow request" not in line:
            continue
        found = LINE.fullmatch(line)
        assert found, line
        fields = {}
        for name, value in FIELD.findall(found["fields"]):
            assert name not in fields, line
            fields[name] = json.loads(value) if value[0] == '"' else value
        yield found, fields


def json_lines(node):
    for line in node.log().rstrip("\n").split("\n"):
        one = json.loads(line)
        if one["message"] in ("access", "slow request"):
            yield one


def send_hostile(node):
    for head, agent in HOSTILE:
        with Client(node.address) as client:
            client.send(head.encode() + b"\r\nHost: a\r\nUser-Agent: " + agent +
                        b"\r\nConnection: close\r\n\r\n")
            client.read_rest()


def test_every_line_of_text_parses(start):
    node = start(APP)
    send_hostile(node)
    node.get("/item/7")
    node.wait_log("target=/item/7")
    lines = list(text_lines(node))
    assert len(lines) == len(HOSTILE) + 1
    for found, fields in lines:
        assert list(fields) == FIELDS, fields
        assert found["who"] == "test worker 1"
        assert found["message"] == "access"
        assert len(fields["agent"]) <= 256
        assert re.fullmatch("[0-9a-f]{32}", fields["request"])
    assert lines[1][1]["agent"] == 'a "quoted" \\ agent'
    assert lines[2][1]["agent"] == "k=v status=200 ip=1.2.3.4"
    assert lines[6][1]["agent"] == "A" * 256
    assert lines[7][1]["agent"] == "-"
    last = lines[-1][1]
    assert (last["ip"], last["method"], last["target"], last["route"],
            last["status"], last["bytes"], last["generation"]) == \
        ("127.0.0.1", "GET", "/item/7", "/item/:id", "200", "1", "1")


def test_every_line_of_json_parses(start):
    node = start(APP, settings={"log.format": "json"})
    send_hostile(node)
    assert node.get("/item/7").status == 200
    node.wait_log("/item/7")
    lines = list(json_lines(node))
    assert len(lines) == len(HOSTILE) + 1
    for one in lines:
        assert list(one) == ["time", "level", "who", "message", *FIELDS]
        for name in ("status", "bytes", "ms", "first_ms", "generation"):
            assert isinstance(one[name], (int, float)), one
        assert 0 <= one["first_ms"] <= one["ms"]
    assert lines[5]["agent"] == "caf\u00e9 \u2028 \u202e"
    assert "\ufffd" in lines[3]["agent"]
    assert lines[-1]["route"] == "/item/:id" and lines[-1]["bytes"] == 1


MISLEADING = "\u202e \u2066 \u200b \u2028 \u009b \ufeff"


def test_nothing_misleads_who_reads(start):
    """What turns text around, hides in it, or steers a terminal."""
    node = start(APP)
    with Client(node.address) as client:
        client.send(b"GET /%1b HTTP/1.1\r\nHost: a\r\nUser-Agent: " +
                    MISLEADING.encode() + b"\r\nConnection: close\r\n\r\n")
        client.read_rest()
    node.wait_log("access")
    (_, fields), = text_lines(node)
    assert fields["agent"] == MISLEADING  # nothing is lost
    log = node.log()
    for ch in MISLEADING.replace(" ", ""):
        assert ch not in log, hex(ord(ch))


def test_requests_in_flight_mislead_nobody(start):
    """The path is decoded here, and may hold line breaks and tabs."""
    node = start("""app:get("/*rest", function()
        moonshine.sleep("60s") return "" end)""")
    with Client(node.address) as client:
        client.send(b"GET /%0aforged%09x%1b[31m%e2%80%ae%9b%c3%a9 HTTP/1.1\r\n"
                    b"Host: a\r\n\r\n")
        found, = eventually(lambda: in_flight(node), "it runs")
        shown = r"/\x0aforged\x09x\x1b[31m\xe2\x80\xae\x9b\u00e9"
        shown = shown.replace(r"\u00e9", "\u00e9")
        assert (found["path"], found["route"]) == (shown, "/*rest")
        table = node.command("status", "--requests").stdout
        assert len(table.strip().split("\n")) == 2 and shown in table


def test_secrets_of_the_query_are_masked(start):
    node = start(APP, settings={"log.format": "json"})
    for target in ("/item/1?a=1&reset_token=canary&b=2", "/nowhere?code=canary",
                   "/item/1?%70assword=canary", "/%zz?apiKey=canary"):
        node.get(target)
    one = one_line(node, "/item/1?a=1&reset_token=***&b=2")
    assert one["status"] == 200
    one_line(node, "/%zz?apiKey=***")
    assert "canary" not in node.log()


def one_line(node, target):
    def look():
        return [one for one in json_lines(node) if one["target"] == target]
    lines = eventually(look, f"{target} is logged")
    assert len(lines) == 1
    return lines[0]


def test_time_to_the_first_byte(start):
    node = start(APP, settings={"log.format": "json"})
    assert node.get("/stream").text == "ab"
    one = one_line(node, "/stream")
    assert one["first_ms"] < one["ms"] - 150
    assert one["ms"] >= 200


def test_a_slow_handler(start):
    node = start(APP, settings={"log.format": "json", "log.slow": "100ms"})
    assert node.get("/sleep").text == "slept"
    one = one_line(node, "/sleep")
    assert one["message"] == "slow request" and one["level"] == "warn"
    assert list(one) == ["time", "level", "who", "message", *FIELDS, *PHASES]
    assert one["handle_ms"] >= 100 and one["receive_ms"] < one["handle_ms"]
    assert abs(sum(one[p] for p in PHASES) - one["ms"]) < 0.01


def test_a_slow_sender(start):
    node = start(APP, settings={"log.format": "json", "log.slow": "100ms"})
    with Client(node.address) as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                    b"\r\nab")
        eventually(lambda: any(r["age_ms"] > 150 for r in in_flight(node)),
                   "it waits for the body")
        client.send(b"cd")
        assert client.read_response().text == "4"
    one = one_line(node, "/body")
    assert one["receive_ms"] > 100 and one["handle_ms"] < one["receive_ms"]


def test_a_slow_reader(start):
    node = start(APP, settings={"log.format": "json", "log.slow": "100ms"})
    with Client(node.address) as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: any(
            r["age_ms"] > 200 and r["waits_on"] == "sending the answer"
            for r in in_flight(node)), "it is being sent")
        assert len(client.read_response().body) == 8 * 1024 * 1024
    one = one_line(node, "/big")
    assert one["send_ms"] > 100 and one["handle_ms"] < one["send_ms"]


def in_flight(node):
    return Admin(node).requests()


@pytest.mark.parametrize("settings", [{"log.access": "off"},
                                      {"log.level": "warn"}])
def test_off(start, settings):
    node = start(APP, settings={**settings, "log.slow": "100ms"})
    assert node.get("/item/7").status == 200
    assert node.get("/sleep").status == 200
    node.wait_log("slow request .*target=/sleep")
    assert "/item/7" not in node.log()


def test_off_for_a_path(start):
    node = start(APP)
    node.get("/quiet")
    node.get("/item/8")
    node.wait_log("target=/item/8")
    assert "/quiet" not in node.log()
