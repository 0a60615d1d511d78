"""A raw HTTP/1.1 client for tests: sends exactly the bytes it is given.

Blocking, one connection per Client, every wait has a deadline. It checks what
a server may get wrong (framing, duplicate lengths) instead of forgiving it.
"""

import json
import os
import socket
import time

# All deadlines of the tests are this many times as far.
SLOW = int(os.environ.get("MOONSHINE_SLOW", "1"))
DEADLINE = 20.0 * SLOW


class Malformed(AssertionError):
    """The server sent something that is not HTTP."""


class Closed(Exception):
    """The server closed before the response was whole."""


class Response:
    def __init__(self, version, status, reason, headers):
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.trailers = []
        self.body = b""

    def __repr__(self):
        return f"<Response {self.status} {self.headers} {self.body[:200]!r}>"

    def all(self, name):
        """Every value of a header, in order."""
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name, default=None):
        """The value of a header that must not repeat."""
        values = self.all(name)
        assert len(values) < 2, f"{name} repeats: {values}"
        return values[0] if values else default

    @property
    def text(self):
        return self.body.decode("utf-8")

    def json(self):
        return json.loads(self.body)


def connect(address, timeout=DEADLINE, source=None):
    """address: (host, port) or the path of a unix socket. source: the address
    of this machine to come from, as in 127.9.8.7."""
    family = socket.AF_INET
    if isinstance(address, str):
        family = socket.AF_UNIX
    elif ":" in address[0]:
        family = socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        if source is not None:
            sock.bind((source, 0))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Client:
    def __init__(self, address, timeout=DEADLINE, source=None):
        self.sock = connect(address, timeout, source)
        self.timeout = timeout
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def request(self, method, target, headers=None, body=None, **options):
        """Sends one request and reads its response."""
        self.send(build(method, target, headers, body, **options))
        return self.read_response(head=method == "HEAD")

    def get(self, target, headers=None):
        return self.request("GET", target, headers)

    def fill(self):
        """Reads more; False when the server has closed."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.pending += data
        return bool(data)

    def take_until(self, mark):
        deadline = time.monotonic() + self.timeout
        while mark not in self.pending:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {mark!r} in {self.pending[:200]!r}")
            if not self.fill():
                raise Closed(f"after {self.pending[:200]!r}")
        taken, self.pending = self.pending.split(mark, 1)
        return taken

    def take(self, size):
        deadline = time.monotonic() + self.timeout
        while len(self.pending) < size:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.pending)} of {size} bytes")
            if not self.fill():
                raise Closed(f"{len(self.pending)} of {size} bytes")
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def read_rest(self):
        """Everything up to the end of the connection."""
        while self.fill():
            pass
        rest, self.pending = self.pending, b""
        return rest

    def read_head(self):
        lines = self.take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1."):
            raise Malformed(lines[0])
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip() or not name:
                raise Malformed(line)
            headers.append((name, value.strip()))
        reason = parts[2] if len(parts) > 2 else ""
        return Response(parts[0], int(parts[1]), reason, headers)

    def read_response(self, head=False):
        """One final response; interim ones (1xx) are in its `interim`."""
        interim = []
        response = self.read_head()
        while response.status < 200:
            interim.append(response)
            response = self.read_head()
        response.interim = interim
        chunked = response.header("Transfer-Encoding")
        length = response.header("Content-Length")
        if chunked is not None and length is not None:
            raise Malformed("both Content-Length and Transfer-Encoding")
        if head or response.status in (204, 304):
            return response
        if chunked is not None:
            if chunked.lower() != "chunked":
                raise Malformed(f"Transfer-Encoding: {chunked}")
            response.body = b"".join(self.read_chunks(response))
        elif length is not None:
            response.body = self.take(int(length))
        else:
            response.body = self.read_rest()
        return response

    def read_chunks(self, response=None):
        """Yields chunks as they arrive, until the last one."""
        while True:
            size = int(self.take_until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                break
            yield self.take(size)
            if self.take(2) != b"\r\n":
                raise Malformed("chunk without its end")
        while True:
            line = self.take_until(b"\r\n").decode("latin-1")
            if not line:
                return
            name, _, value = line.partition(":")
            if response is not None:
                response.trailers.append((name, value.strip()))

    def closed(self):
        """True once the server has closed; fails on unexpected bytes."""
        if self.pending:
            return False
        try:
            more = self.fill()
        except TimeoutError:
            return False
        assert not more, f"unexpected: {self.pending[:200]!r}"
        return True


def build(method, target, headers=None, body=None, version="HTTP/1.1",
          host="test.local"):
    """The bytes of one request. headers: a dict or a list of pairs."""
    pairs = list(headers.items() if isinstance(headers, dict)
                 else headers or [])
    names = {name.lower() for name, _ in pairs}
    if isinstance(body, str):
        body = body.encode()
    elif body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        if "content-type" not in names:
            pairs.append(("Content-Type", "application/json"))
    if host and "host" not in names:
        pairs.insert(0, ("Host", host))
    if body is not None and not names & {"content-length",
                                         "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} {version}"]
    lines += [f"{name}: {value}" for name, value in pairs]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def chunks(*parts, trailers=""):
    """A chunked body made of these parts."""
    out = b""
    for part in parts:
        out += f"{len(part):x}\r\n".encode() + part + b"\r\n"
    return out + b"0\r\n" + trailers.encode() + b"\r\n"
