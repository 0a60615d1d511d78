"""What is put under fire: the demo, and an nginx beside it as the anchor."""

import contextlib
import os
import pathlib
import shutil
import tempfile

from fire.ledger import expect, request
from support.nginx import Nginx, available
from support.node import ROOT, Node

DEMO = pathlib.Path(ROOT) / "apps" / "demo"
STYLE = (DEMO / "public" / "style.css").read_bytes()
BODY = os.urandom(3000)

# A machine that is busy with other things makes no node refuse what it could do.
SETTINGS = {"log.access": "off", "shed_lag": "none"}

HEALTHY = [
    ("/", request("GET", "/"), expect(200, contains=b'id="generation"')),
    ("/hello", request("GET", "/hello"), expect(200, body=b"Hello, World!\n")),
    ("/users/7", request("GET", "/users/7"),
     expect(200, contains=b'"id":7')),
    ("/echo", request("POST", "/echo", BODY), expect(200, body=BODY)),
    ("/sleep", request("GET", "/sleep?ms=20"),
     expect(200, body=b"slept 20 ms\n")),
    ("/stream", request("GET", "/stream?count=5&ms=5"),
     expect(200, contains=b"line 5 of generation ")),
    ("/assets", request("GET", "/assets/style.css"), expect(200, body=STYLE)),
    ("404", request("GET", "/nowhere"), expect(404, contains=b"/nowhere")),
    ("405", request("DELETE", "/hello"), expect(405)),
]

# Says which process answers, so that a ledger can tell whose loss was whose.
WORKER = """local app = moonshine.app()
local ffi = require "ffi"
ffi.cdef "int getpid(void);"
local pid = tostring(ffi.C.getpid())
app:use(function(c, proceed)
    c:set_header("X-Worker", pid)
    return proceed(c)
end)
"""


@contextlib.contextmanager
def demo(edit=None, **options):
    """A node with a copy of the demo, whose app.lua `edit` may change."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="moonshine-fire-"))
    try:
        app = home / "demo"
        shutil.copytree(DEMO, app)
        if edit:
            path = app / "app.lua"
            path.write_text(edit(path.read_text()))
        options.setdefault("workers", 2)
        settings = {**SETTINGS, **options.pop("settings", {})}
        with Node(app, settings=settings, **options) as node:
            yield node
    finally:
        shutil.rmtree(home, ignore_errors=True)


def with_worker(source):
    return source.replace("local app = moonshine.app()\n", WORKER, 1)


ANCHOR = """
pid nginx.pid;
error_log error.log;
worker_processes 2;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 100000000;
    server {
        listen 127.0.0.1:@PORT@;
        location / {
            add_header X-Worker $pid;
            return 200 "Hello, World!\\n";
        }
    }
}
"""
HELLO = [("/hello", request("GET", "/hello"),
          expect(200, body=b"Hello, World!\n"))]


def anchor():
    """nginx with two workers that answers /hello, or None without nginx."""
    return Nginx([], text=ANCHOR) if available() else None
