"""What a server must or should refuse (RFC 9110, 9112), row by row: the bytes,
the status, the section that says so. Whole, in two parts and byte by byte the
answer is the same, the connection is closed, and what follows is never taken
for a request."""

import contextlib
import re

import pytest

from support.client import Client, build
from support.node import ROOT

APP = '''
app:any("/", function(c) return c:body() or "" end)
app:get("/smuggled", function(c) return "smuggled" end)
'''
LIMITS = {"request_line_limit": "1k", "header_limit": "2k",
          "header_count": "20", "header_timeout": "5s", "body_timeout": "5s"}
AFTER = build("GET", "/smuggled")
TOKEN = set(b"!#$%&'*+-.^_`|~0123456789"
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def latin(data):
    return data if isinstance(data, bytes) else data.encode("latin-1")


def head(fields="", line="GET / HTTP/1.1", host="Host: x\r\n"):
    return latin(f"{line}\r\n{host}{fields}\r\n")


def post(fields, body="", line="POST / HTTP/1.1"):
    return head(fields, line) + latin(body)


def chunked(body):
    return post("Transfer-Encoding: chunked\r\n", body)


def named(byte):
    return f"0x{byte:02x}"


ROWS = {}  # name: (bytes, status, section)


def rows(section, status, samples):
    for name, data in samples.items():
        key = f"{section.split()[-1]} {name}"
        assert key not in ROWS, key
        ROWS[key] = (latin(data), status, section)


# How long a message is: who disagrees about that can be made to take one
# client's bytes for another's request.

rows("RFC 9112 6.3", 400, {
    "length and coding": post(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    "coding and length": post(
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
    "length 0 and coding": post(
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    "coding between lengths": post(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        "Content-Length: 5\r\n", "0\r\n\r\n"),
    "length and coding in another case": post(
        "content-length: 5\r\nTRANSFER-ENCODING: Chunked\r\n", "0\r\n\r\n"),
    "length and coding in 1.0": post(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n",
        "POST / HTTP/1.0"),
    "two lengths": post("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"),
    "two equal lengths": post(
        "Content-Length: 1\r\nContent-Length: 1\r\n", "a"),
    "list of lengths": post("Content-Length: 1, 2\r\n", "ab"),
    "list of equal lengths": post("Content-Length: 1, 1\r\n", "a"),
})
rows("RFC 9110 8.6", 400, {
    f"length {value!r}": post(f"Content-Length:{value}\r\n", "abc")
    for value in ("", " ", " -1", " +1", " 0x1", " 1.0", " 1e0", " 1 1",
                  " 1;a", " 1,", " ,1", " one", " 1_0", " 1,000", ' "1"',
                  " 1\t2", " \xb2", " 18446744073709551616", " " + "9" * 50)})
rows("RFC 9110 8.6", 400, {
    "length beyond 63 bits": post("Content-Length: 9223372036854775808\r\n")})
rows("RFC 9110 15.5.14", 413, {
    "length beyond the limit": post("Content-Length: 9223372036854775807\r\n"),
    "leading zeros do not help": post("Content-Length: 00099999999\r\n")})
rows("RFC 9112 6.1", 400, {
    f"coding {value!r}": post(f"Transfer-Encoding:{value}\r\n", "0\r\n\r\n")
    for value in ("", " ", " ,", " identity", " gzip", " x", " chunked, gzip",
                  " chunked, chunked", " chunked, identity", " chunked,,x",
                  " xchunked", " chunkedx", " chunked x", " chunked;q=1",
                  ' "chunked"', " chun ked", " chunked\t,\tgzip",
                  " chunked\xa0", " 'chunked'")})
rows("RFC 9112 6.1", 400, {
    "coding \\v": post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
    "coding behind NUL": post("Transfer-Encoding: chunked\0\r\n",
                              "0\r\n\r\n"),
    "coding twice": post("Transfer-Encoding: chunked\r\n"
                         "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    "coding, then another": post("Transfer-Encoding: chunked\r\n"
                                 "Transfer-Encoding: gzip\r\n", "0\r\n\r\n"),
    "coding folded": post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    "coding in 1.0": post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n",
                          "POST / HTTP/1.0"),
})
rows("RFC 9112 6.1", 501, {
    "unknown coding below": post("Transfer-Encoding: gzip, chunked\r\n",
                                 "0\r\n\r\n"),
    "odd coding below": post("Transfer-Encoding: x, chunked\r\n",
                             "0\r\n\r\n"),
})

# Legal, but nobody sends it, and llhttp takes spaces only
rows("RFC 9110 5.5", 400, {
    "tab behind a length": post("Content-Length: 3\t\r\n", "abc"),
    "tab behind a coding": post("Transfer-Encoding: chunked\t\r\n",
                                "0\r\n\r\n"),
})

# Chunks

rows("RFC 9112 7.1", 400, {
    f"chunk size {size!r}": chunked(f"{size}\r\na\r\n0\r\n\r\n")
    for size in ("", "g", "-1", "+1", "0x1", "x1", " 1", "1 ", "1\t", "1.0",
                 "1h", "1,", "\xb2", "0" * 20 + "1", "f" * 16, "1" + "0" * 16,
                 "ffffffffffffffffff", "1\0", "\x001")})
rows("RFC 9112 7.1", 400, {
    "chunk longer than said": chunked("1\r\nabc\r\n0\r\n\r\n"),
    "chunk without CR": chunked("1\r\na\n0\r\n\r\n"),
    "chunk without LF": chunked("1\r\na\r0\r\n\r\n"),
    "chunk ended by CR CR LF": chunked("1\r\na\r\r\n0\r\n\r\n"),
    "size without CR": chunked("1\na\r\n0\r\n\r\n"),
    "size ended by CR": chunked("1\ra\r\n0\r\n\r\n"),
    "last size without CR": chunked("1\r\na\r\n0\n\r\n"),
    "end without CR": chunked("1\r\na\r\n0\r\n\n"),
    "all without CR": chunked("1\na\n0\n\n"),
})
rows("RFC 9112 7.1.1", 400, {
    f"chunk extension {text!r}": chunked(f"1{text}\r\na\r\n0\r\n\r\n")
    for text in (";", ";;", ";=", ";=b", ';a="b', ';a="b"c', ";a b", ";a=b c",
                 ";a\0", ";a=\x01", ';a="\x7f"', ";a\n", ";a\rb", ";a=b;",
                 ";\xff", ";(", ";a=(")})
rows("RFC 9112 7.1.1", 431, {
    "long chunk extension": chunked(f"1;{'a' * 5000}\r\na\r\n0\r\n\r\n"),
    "endless chunk extension": chunked("1;" + "a" * 9000),
    "many chunk extensions": chunked(
        f"1;{'a' * 100}\r\na\r\n" * 50 + "0\r\n\r\n"),
})
rows("RFC 9112 7.1.2", 400, {
    f"trailer {text!r}": chunked(f"1\r\na\r\n0\r\n{text}\r\n")
    for text in ("A\r\n", "A : b\r\n", " A: b\r\n", ": b\r\n", "A b: c\r\n",
                 "A: b\r\n c\r\n", "A: b\n", "A: b\rC: d\r\n", "A: \0\r\n",
                 "A: \x01\r\n", "A(: b\r\n", "A\x80: b\r\n")})
rows("RFC 9110 6.5.1", 400, {
    f"trailer {name}": chunked(f"1\r\na\r\n0\r\n{name}: 1\r\n\r\n")
    for name in ("Content-Length", "Transfer-Encoding", "Host",
                 "content-LENGTH")})
rows("RFC 9110 6.5", 431, {
    "many trailers": chunked("0\r\n" + "".join(
        f"A{n}: b\r\n" for n in range(21)) + "\r\n"),
    "large trailer": chunked(f"0\r\nA: {'b' * 3000}\r\n\r\n"),
    "endless trailer": chunked("0\r\nA: " + "b" * 9000),
    "endless name of a trailer": chunked("0\r\n" + "b" * 9000),
})

# Lines

rows("RFC 9112 2.2", 400, {
    "request line without CR": "GET / HTTP/1.1\nHost: x\r\n\r\n",
    "request line ended by CR": "GET / HTTP/1.1\rHost: x\r\n\r\n",
    "request line ended by CR CR LF": "GET / HTTP/1.1\r\r\nHost: x\r\n\r\n",
    "field without CR": head("A: b\nC: d\r\n"),
    "field ended by CR": head("A: b\rC: d\r\n"),
    "field ended by CR CR LF": head("A: b\r\r\n"),
    "end without CR": "GET / HTTP/1.1\r\nHost: x\r\n\n",
    "end by CR alone": "GET / HTTP/1.1\r\nHost: x\r\n\r" + "GET",
    "all without CR": "GET / HTTP/1.1\nHost: x\n\n",
    "bare CR in a name": head("A\rB: c\r\n"),
    "bare LF in a name": head("A\nB: c\r\n"),
    "bare CR at the end of a value": head("A: b\r \r\n"),
    "bare CR before a value": head("A:\rb\r\n"),
    "bare LF before a value": head("A:\nb\r\n"),
    "bare CR in the target": "GET /\r HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare CR before the request": "\rGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare LF before the request": "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "white space before the first field": "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "tab before the first field": "GET / HTTP/1.1\r\n\tHost: x\r\n\r\n",
    "white space before the request": " GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a line of white space": head(" \r\nA: b\r\n"),
})
rows("RFC 9112 5.2", 400, {
    "folded": head("A: b\r\n c\r\n"),
    "folded by a tab": head("A: b\r\n\tc\r\n"),
    "folded at once": head("A:\r\n b\r\n"),
    "folded, empty": head("A: b\r\n \r\n"),
    "folded Host": "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
    "folded length": post("Content-Length: 1\r\n 0\r\n", "a" * 10),
})
rows("RFC 9112 5.1", 400, {
    "space before the colon": head("A : b\r\n"),
    "tab before the colon": head("A\t: b\r\n"),
    "space before the colon of Host": "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "space before the colon of the length": post("Content-Length : 3\r\n",
                                                 "abc"),
    "space before the colon of the coding": post(
        "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    "no colon": head("abc\r\n"),
    "no name": head(": b\r\n"),
    "nothing but a colon": head(":\r\n"),
})
rows("RFC 9110 5.1", 400, {
    f"name with {named(byte)}": head(f"A{chr(byte)}B: c\r\n")
    for byte in range(256)
    if byte not in TOKEN and byte not in b":\r\n"})
rows("RFC 9110 5.5", 400, {
    f"value with {named(byte)}": head(f"A: b{chr(byte)}c\r\n")
    for byte in [*range(32), 127] if byte not in b"\t"})

# The request line

rows("RFC 9110 9.1", 400, {
    f"method with {named(byte)}": f"G{chr(byte)}T / HTTP/1.1\r\nHost: x\r\n\r\n"
    for byte in range(256) if byte not in TOKEN and byte not in b" "})
rows("RFC 9112 3", 400, {
    "no method": " / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": "GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "empty target": "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "two spaces before the target": "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "two spaces before the version": "GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
    "space behind the version": "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "tab before the version": "GET /\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "more behind the version": "GET / HTTP/1.1 a\r\nHost: x\r\n\r\n",
    "space in the target": "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": "GET /\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
})
rows("RFC 9112 3.2", 400, {
    f"target with {named(byte)}":
        f"GET /a{chr(byte)}b HTTP/1.1\r\nHost: x\r\n\r\n"
    for byte in [*range(32), *range(127, 256)]})
rows("RFC 9112 3.2", 400, {
    f"target {target}": f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"
    for target in (
        "/#", "/a#b", "/?#", "#", "?", "?a", "a", "a/b", "./", "../a",
        "http:", "http:/", "http:/a", "http://", "http:///a", "http://?a",
        "http://#", "http://a#b", "http://a/b#c", "http://:80/", "http://a b/",
        "http://a:b/", "http://a:80:80/", "http://u@a/", "http://u:p@a/",
        "http://[::1/", "http://[]/", "http://[::1]a/", "http://a\\b/",
        "http//a", "http:a", "ftp://a/", "ws://a/",
        "javascript:a", "x", "a:80", "a:", "[::1]:80", "[::1]", "**", "*a",
        "*/", "/ HTTP/1.1")})
rows("RFC 9112 3.2.4", 400, {
    f"* with {method}": f"{method} * HTTP/1.1\r\nHost: x\r\n\r\n"
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE",
                   "options")})
rows("RFC 9112 3.2.3", 501, {
    "CONNECT": "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    "CONNECT without a port": "CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n",
})
rows("RFC 9112 2.3", 505, {
    f"version {version}": f"GET / HTTP/{version}\r\nHost: x\r\n\r\n"
    for version in ("0.9", "0.0", "1.2", "1.9", "2.0", "3.0", "9.9")})
rows("RFC 9112 2.3", 505, {
    "preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"})
rows("RFC 9112 2.3", 400, {
    f"version {text!r}": f"GET / {text}\r\nHost: x\r\n\r\n"
    for text in ("HTTP", "HTTP/", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.10",
                 "HTTP/1.01", "HTTP/01.1", "HTTP/11", "HTTP/1,1", "HTTP/1.a",
                 "HTTP/a.1", "HTTP/-1.1", "HTTP/+1.1", "HTTP /1.1", "HTTP/ 1.1",
                 "http/1.1", "Http/1.1", "HTTPS/1.1", "HTP/1.1", "XHTTP/1.1",
                 "HTTP\\1.1", "HTTP/1.1\0", "HTTP/1.1a", "RTSP/1.0",
                 "ICE/1.0", "HTTP/\xb9.1")})

# Host

rows("RFC 9112 3.2", 400, {
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "no Host beside a host in the target":
        "GET http://x/ HTTP/1.1\r\n\r\n",
    "two Hosts": "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two equal Hosts": "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "two Hosts in 1.0": "GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n",
    "two Hosts apart": "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nhOST: x\r\n\r\n",
})
rows("RFC 9110 7.2", 400, {
    f"Host {host!r}": f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"
    for host in ("a b", "a\tb", "a/b", "a/", "/", "a?b", "a#b", "a@b", "@a",
                 "a, b", "a:b", "a:80:80", "a:80a", "a:-1", "::1",
                 "[::1", "::1]", "[::1]a", "[]", "[a b]", "[::1]:a", "a\\b",
                 'a"b', "<a>", "a|b", "{a}", "a^b", "a`b", "http://a",
                 "a\x80b", "\xe4", "a\0b", "a\x7fb")})

# Limits. Each is a key of the configuration; here they are small.

rows("RFC 9110 15.5.15", 414, {
    "long target": f"GET /{'a' * 1100} HTTP/1.1\r\nHost: x\r\n\r\n",
    "endless target": f"GET /{'a' * 9000}",
    "endless query": f"GET /?{'a' * 9000}",
    "endless method": "A" * 9000,
    "empty lines for ever": "\r\n" * 5000,
})
rows("RFC 6585 5", 431, {
    "long value": head(f"A: {'b' * 2100}\r\n"),
    "long name": head(f"{'a' * 2100}: b\r\n"),
    "endless value": "GET / HTTP/1.1\r\nHost: x\r\nA: " + "b" * 9000,
    "endless name": "GET / HTTP/1.1\r\nHost: x\r\n" + "b" * 9000,
    "endless white space": "GET / HTTP/1.1\r\nHost: x\r\nA:" + " " * 9000,
    "large in all": head(f"A: {'b' * 700}\r\n" * 3),
    "many fields": head("A: b\r\n" * 20),
    "many empty fields": head("A:\r\n" * 20),
    "endless fields": "GET / HTTP/1.1\r\nHost: x\r\n" + "A: b\r\n" * 3000,
})


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP, settings=LIMITS)


def ask(node, pieces, is_head=False):
    """The first answer, and all that came after it."""
    with Client(node.address) as client:
        with contextlib.suppress(OSError):  # it may close before the end
            for piece in pieces:
                client.send(piece)
        response = client.read_response(head=is_head)
        with contextlib.suppress(OSError):
            client.half_close()
        return response, client.read_rest()


@pytest.mark.parametrize("name", ROWS)
def test_refused(node, name):
    data, status, section = ROWS[name]
    every = [[data + AFTER], [data[:len(data) // 2],
                              data[len(data) // 2:] + AFTER]]
    if len(data) < 200:
        every.append([bytes([byte]) for byte in data] + [AFTER])
    for pieces in every:
        response, rest = ask(node, pieces, data.startswith(b"HEAD "))
        assert response.status == status, (section, response)
        assert response.header("Connection") == "close", section
        assert rest == b"", section


# What looks odd but is allowed, so that the rows above prove something.

TAKEN = {
    "empty Host": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "no Host in 1.0": "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "address as Host": "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
    "Host with an empty port": "GET / HTTP/1.1\r\nHost: x:\r\n\r\n",
    "absolute target": "GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute target without a path": "GET http://y HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute target of https": "GET HTTPS://y/?a HTTP/1.1\r\nHost: x\r\n\r\n",
    "* of the server": "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "empty lines before": "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "white space around a value": head("A: \t b \t \r\n"),
    "white space around a length": post("Content-Length: \t 3  \r\n", "abc"),
    "no white space": head("A:b\r\n"),
    "empty value": head("A:\r\n"),
    "bytes above ASCII in a value": head("A: caf\xe9\r\n"),
    "every token byte in a name": head(
        "".join(map(chr, sorted(TOKEN))) + ": b\r\n"),
    "length with leading zeros": post("Content-Length: 0003\r\n", "abc"),
    "coding in another case": post("transfer-encoding: CHUNKED\r\n",
                                   "1\r\na\r\n0\r\n\r\n"),
    "chunk extensions": chunked('1;a;b="c d";e=f\r\na\r\n0;g\r\n\r\n'),
    "size in capitals with a zero": chunked("0A\r\n" + "a" * 10 +
                                            "\r\n0\r\n\r\n"),
    "trailers": chunked("1\r\na\r\n0\r\nA: b\r\nC:\r\n\r\n"),
    "length with GET": post("Content-Length: 3\r\n", "abc", "GET / HTTP/1.1"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(node, name):
    data = latin(TAKEN[name])
    for pieces in ([data + AFTER], [bytes([byte]) for byte in data] + [AFTER]):
        with Client(node.address) as client:
            for piece in pieces:
                client.send(piece)
            assert client.read_response().status in (200, 204)
            assert client.read_response().text == "smuggled"


@pytest.mark.parametrize("path", [
    "/%", "/%a", "/%zz", "/%0g", "/%00", "/a%00b", "/%2", "/a/%", "/%c0%afx"])
def test_paths_that_are_none(node, path):
    """The message is whole, so the connection goes on."""
    with Client(node.address) as client:
        assert client.get(path).status in (400, 404), path
        assert client.get("/smuggled").text == "smuggled"


def test_no_source_turns_a_lenience_on():
    for path in (ROOT / "core").rglob("*.[ch]"):
        assert not re.search(r"llhttp_set_lenient|lenient_flags *[|^]?=[^=]",
                             path.read_text()), path
