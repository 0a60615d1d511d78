"""Requests and values that others collected because they break servers.

The collections are not part of this repository: MOONSHINE_CORPORA names a
folder with json/ (JSONTestSuite), http-llhttp/, http-gunicorn/ and
strings/blns.json, else one beside the checkout is used if it is there.
"""

import json
import os
import pathlib
import re
from html.parser import HTMLParser
from urllib.parse import quote, quote_from_bytes
from xml.etree import ElementTree

import pytest

from support.client import Client, Closed, build
from support.forms import multipart
from support.node import ROOT

FOLDER = pathlib.Path(os.environ.get("MOONSHINE_CORPORA",
                                     ROOT.parent / "shared/corpora"))
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no corpora here (MOONSHINE_CORPORA)")

APP = '''
app:post("/json", function(c)
    local value, message = moonshine.json.decode(c:body())
    if value == nil then c:fail(400, message) end
    return { value = value }
end)
app:get("/query", function(c) return { value = c:query("value") } end)
app:get("/segment/:value", function(c) return { value = c:param("value") } end)
app:get("/cookie", function(c) return { value = c:cookie("value") } end)
app:post("/form", function(c) return { value = c:form("value") } end)
app:post("/upload", function(c)
    local file = c:upload("file") or c:fail(400, "no file")
    return { value = file:read() }
end)
app:get("/header", function(c) return { value = c:header("X-Value") } end)
app:any("/*rest", function(c) return c:body() or "" end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP, settings={"header_timeout": "2s",
                                       "body_timeout": "2s"})


def files(pattern):
    return sorted(FOLDER.glob(pattern)) if FOLDER.is_dir() else []


# JSON: y_ must parse, n_ must be refused, i_ may do either.

@pytest.mark.parametrize("kind", ["y", "n", "i"])
def test_json(node, kind):
    wrong = []
    with Client(node.address) as client:
        for path in files(f"json/{kind}_*.json"):
            response = client.request(
                "POST", "/json", {"Content-Type": "application/json"},
                path.read_bytes())
            allowed = {"y": (200,), "n": (400,), "i": (200, 400)}[kind]
            if response.status not in allowed:
                wrong.append((path.name, response.status))
                continue
            if kind == "y":
                want = json.loads(path.read_bytes())
                if response.json().get("value") != want:
                    wrong.append((path.name, response.body[:80]))
    assert wrong == []


# Requests as gunicorn keeps them: "\r\n" and "\xNN" are written out.

def unescape(raw):
    raw = raw.replace(b"\n", b"")
    raw = re.sub(rb"\\x([0-9A-Fa-f]{2})",
                 lambda m: bytes([int(m.group(1), 16)]), raw)
    for name, byte in ((b"r", b"\r"), (b"n", b"\n"), (b"t", b"\t"),
                       (b"0", b"\0")):
        raw = raw.replace(b"\\" + name, byte)
    return raw


def with_host(data):
    """Most samples leave Host out, which HTTP/1.1 does not allow."""
    data = data.replace(b"HTTP/1.1\r\n\r\n",
                        b"HTTP/1.1\r\nHost: test.local\r\n\r\n")
    head, mark, rest = data.partition(b"\r\n")
    fields = b"\n" + rest.partition(b"\r\n\r\n")[0].lower()
    if mark and b"HTTP/1.1" in head and b"\nhost" not in fields:
        return head + b"\r\nHost: test.local" + mark + rest
    return data


def talk(node, data, split=None):
    """Sends, closes our side, returns every status, then the close."""
    statuses = []
    with Client(node.address) as client:
        try:
            if split is None:
                client.send(data)
            else:
                for start, end in split:
                    client.send(data[start:end])
            client.half_close()
        except OSError:
            pass  # it may answer and close before it has read all
        try:
            while True:
                statuses.append(client.read_response().status)
        except Closed:
            pass
    return statuses


# By the start of the file's name: why it is answered otherwise here.
GUNICORN_OTHER = {
    "invalid": {
        "003c": "a method that is odd, but a token",
        "006": "gunicorn's limit for the request line",
        "007": "gunicorn's limit for a field",
        "008": "gunicorn's limit for a field",
        "010": "gunicorn's limit for fields, set by its test",
        "011": "gunicorn's limit for fields, set by its test",
        "012": "gunicorn's limit for fields, set by its test",
        "017": "gunicorn's limit for a field",
        "019": "gunicorn's own rule for X-Forwarded fields",
        "040": "underscores in names, mapped to hyphens by WSGI",
        "041": "two Content-Types are the application's concern",
        "chunked_07": "underscores in names, mapped to hyphens by WSGI",
        "limit_": "gunicorn's limits",
    },
    "valid": {
        "005": "a fragment in the target",
        "009": "a fragment, and two framings",
        "013": "white space in chunk extensions",
        "025": "a transfer coding that we lack",
        "027": "a raw non-ASCII byte in the target",
        "028": "white space before the colon, an option there",
        "029": "transfer coding identity",
        "030": "transfer coding identity",
        "099": "a body shorter than its Content-Length",
        "compat_obs_fold": "obs-fold, an option there",
        "pp_": "the PROXY protocol belongs to the listener",
        "rfc9112_smuggle_gzip": "a transfer coding that we lack",
        "rfc9112_smuggle_te_identity": "transfer coding identity",
        "rfc9112_target_absolute_userinfo": "user information in a target",
        "rfc9112_target_authority": "CONNECT is not for an origin server",
    },
}


def gunicorn(kind):
    other = tuple(GUNICORN_OTHER[kind])
    for path in files(f"http-gunicorn/{kind}/*.http"):
        if not path.name.startswith(other):
            yield path.name, with_host(unescape(path.read_bytes()))


def ways(data):
    """Whole, cut in two, and byte by byte."""
    size = len(data)
    yield "whole", None
    for cut in sorted({1, size // 3, size // 2, size - 2, size - 1}):
        if 0 < cut < size:
            yield cut, [(0, cut), (cut, size)]
    yield "bytes", [(i, i + 1) for i in range(size)]


@pytest.mark.seconds(400)
def test_gunicorn_invalid(node):
    wrong = []
    for name, data in gunicorn("invalid"):
        for way, split in ways(data):
            statuses = talk(node, data, split)
            # None at all: it is not complete.
            if statuses and statuses[-1] < 400:
                wrong.append((name, way, statuses))
    assert wrong == []


@pytest.mark.seconds(400)
def test_gunicorn_valid(node):
    wrong = []
    for name, data in gunicorn("valid"):
        for way, split in ways(data):
            statuses = talk(node, data, split)
            # 415: some are for the application's /login, which wants a form.
            if not statuses or not set(statuses) <= {200, 204, 404, 415}:
                wrong.append((name, way, statuses))
    assert wrong == []


# Requests as llhttp keeps them: Markdown with the parser's event log.

BLOCK = re.compile(r"<!-- meta=(\{[^\n]*?\}) -->\n```http\n(.*?)```\n\n"
                   r"```log\n(.*?)```", re.DOTALL)


def llhttp():
    for path in files("http-llhttp/*.md"):
        text = path.read_text()
        for match in BLOCK.finditer(text):
            meta = json.loads(match.group(1))
            if meta["type"] != "request" or "pause" in meta:
                continue
            raw = match.group(2)[:-1].replace("\\\n", "")
            raw = raw.replace("\n", "\r\n").encode()
            for name, byte in ((b"r", b"\r"), (b"n", b"\n"), (b"t", b"\t"),
                               (b"f", b"\f")):
                raw = raw.replace(b"\\" + name, byte)
            raw = re.sub(rb"\\x([0-9a-fA-F]{2})",
                         lambda m: bytes([int(m.group(1), 16)]), raw)
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path.name}:{line}", with_host(raw), match.group(3)


def test_llhttp(node):
    """What its log calls an error must not be served."""
    wrong = []
    for name, data, log in llhttp():
        statuses = talk(node, data)
        # Any token is a method here, and what follows a last request is not
        # looked at.
        if re.search("reason=.*(method|Data after)", log):
            continue
        if "error code=" in log and statuses and statuses[-1] < 400:
            wrong.append((name, statuses, data[:100]))
    assert wrong == []


@pytest.mark.seconds(400)
def test_llhttp_split(node):
    """However the bytes arrive, the answers are the same."""
    wrong = []
    for name, data, _ in llhttp():
        if len(data) > 2000:
            continue
        whole = talk(node, data)
        for way, split in ways(data):
            parts = talk(node, data, split)
            if parts != whole:
                wrong.append((name, way, whole, parts))
    assert wrong == []


# Strings: round trip, or a clean refusal where HTTP does not allow them.

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def strings():
    return json.loads((FOLDER / "strings/blns.json").read_text())


def test_strings(node):
    wrong = []

    def expect(where, text, response, refusals=()):
        if response.status in refusals:
            return
        if response.status != 200 or response.json().get("value") != text:
            wrong.append((where, text, response.status, response.body[:80]))

    with Client(node.address) as client:
        for text in strings():
            encoded = quote(text, safe="")
            expect("json", text,
                   client.request("POST", "/json", body=json.dumps(text)))
            expect("query", text, client.get(f"/query?value={encoded}"))
            if text and text not in (".", ".."):
                expect("segment", text, client.get(f"/segment/{encoded}"),
                       (400,) if "\0" in text else ())
            raw = text.encode()
            if text and not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", raw) \
                    and text == text.strip(" \t"):
                expect("header", text, client.get(
                    "/header", {"X-Value": raw.decode("latin-1")}))
            expect("form", text, client.request(
                "POST", "/form", FORM, f"value={encoded}"))
            kind, body = multipart(("value", text))
            expect("multipart", text, client.request(
                "POST", "/form", {"Content-Type": kind}, body))
            kind, body = multipart(("file", text, "a.txt"))
            expect("upload", text, client.request(
                "POST", "/upload", {"Content-Type": kind}, body))
            plain = quote_from_bytes(raw, safe="")
            cookie = client.get("/cookie", {"Cookie": f"value={plain}"})
            expect("cookie", plain, cookie)
    assert wrong == []


VIEWS = {
    "app.lua": """
        app:post("/page", function(c) c:render("page", { value = c:bind() }) end)
        app:post("/feed", function(c)
            c:render("feed.xml", { value = c:bind() })
        end)""",
    "views/page.html":
        '<p title="<%= value %>" lang=\'<%= value %>\'><%= value %></p>'
        '<script>[<%- json(value) %>]</script>'
        '<b data-json="<%= json(value) %>">end</b>',
    "views/feed.xml": '<a b="<%= value %>"><%= value %></a>',
}


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.seen = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.seen.append("/" + tag)

    def handle_data(self, data):
        if self.seen and isinstance(self.seen[-1], list):
            self.seen[-1][0] += data
        else:
            self.seen.append([data])

    def handle_comment(self, data):
        self.seen.append("comment")

    handle_decl = handle_pi = unknown_decl = handle_comment


def test_strings_in_views(start):
    """Each stays text, wherever a page shows it."""
    node = start(VIEWS)
    samples = strings() + [
        "\">'><script>alert(1)</script>", "</script><script>", "<!--", "]]>",
        "&lt;", "&amp;amp;", "'", '"', "\u2028\u2029", "a=b`"]
    json_type = {"Content-Type": "application/json"}
    with Client(node.address) as client:
        for text in samples:
            page = client.request("POST", "/page", json_type, json.dumps(text))
            seen = Page(page.text).seen
            data = [[text]] if text else []
            assert seen[:2 + len(data)] == [
                ("p", {"title": text, "lang": text}), *data, "/p"], text
            script = seen[3 + len(data)]
            assert json.loads(script[0]) == [text], text
            assert not set(script[0]) & set("<>&\u2028\u2029"), text
            tag, attributes = seen[5 + len(data)]
            assert json.loads(attributes["data-json"]) == text
            assert seen[6 + len(data):] == [["end"], "/b"], text
            if not re.search("[\0-\x08\x0b-\x1f\ufffe\uffff]", text):
                feed = client.request("POST", "/feed", json_type,
                                      json.dumps(text))
                root = ElementTree.fromstring(feed.body)
                assert (root.text or "") == text, text
                assert root.get("b") == re.sub("[\t\n]", " ", text), text


def test_strings_as_targets(node):
    """Raw, in the request line: served or refused, never a crash."""
    for text in strings():
        data = b"GET /" + text.encode().replace(b"\n", b"") + \
            b" HTTP/1.1\r\nHost: x\r\n\r\n"
        for status in talk(node, data):
            assert status in (200, 204, 308, 400, 404, 414, 501, 505), text
    assert node.request("GET", "/hello").status == 200


def test_naughty_header_lines(node):
    for text in strings():
        data = build("GET", "/header").replace(
            b"\r\n\r\n", b"\r\n" + text.encode() + b"\r\n\r\n")
        for status in talk(node, data):
            assert status in (200, 400, 404, 431, 501, 505), text
    assert node.request("GET", "/hello").status == 200
