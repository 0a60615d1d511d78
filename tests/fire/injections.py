"""20,000 requests that want out of the root or into an answer, at the demo: in
paths, queries, headers, cookies, forms, the host and the request id."""

import itertools
import random
import re
import threading
import urllib.parse

from fire import site
from fire.report import Row
from support.client import Client, Closed, Malformed
from support.node import write_app

CANARY = "canary-6b1f0c"      # lies in files that no request may get
MARK = "moon-7d3a"            # is put into requests
REQUESTS, THREADS = 20000, 4

DOTS = ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "%252e%252e%252f",
        "%c0%ae%c0%ae/", "%c0%ae%c0%ae%c0%af", "....//", "..;/", ".%2e/", "%2e./",
        "..%00/", "..%0d/", "..//", "./../", "%uff0e%uff0e/", "..%ef%bc%8f"]
FILES = ["etc/passwd", "app.lua", "config.lua", "secret.txt", "lib/faults.lua",
         "views/home.html", "spec/demo_spec.lua", "proc/self/environ",
         "app.lua%00.css", "app.lua%20", "secret.txt/."]
PREFIXES = ["/", "/assets/", "/assets//", "/assets/.", "/assets/style.css/",
            "/users/", "//", "/%2e/", "/assets%2f"]
LINES = ["%0d%0aX-Moon: {0}", "%0aX-Moon:%20{0}", "%0d%0a%0d%0a<b>{0}</b>",
         "%E5%98%8A%E5%98%8DX-Moon: {0}", "%u000aX-Moon: {0}", "\\r\\nX-Moon: {0}",
         "%0d%0aSet-Cookie: id={0}", "%23%0d%0aX-Moon:{0}", "%c4%8d%c4%8aX-Moon:{0}"]
RAW_LINES = ["\r\nX-Moon: {0}", "\nX-Moon: {0}", "\rX-Moon: {0}", "\0{0}",
             "\r\n\r\n<script>{0}</script>", "\r\n X-Moon: {0}", "\x0b{0}"]
HTML = ["<script>{0}</script>", "\"><img src=x onerror={0}>", "'><svg onload={0}>",
        "</title><script>{0}</script>", "javascript:{0}//", "<{0}>", "&lt;{0}>",
        "<!--{0}-->", "{0}\"'`<>"]
CODE = ["<%= {0} %>", "<%- {0} %>", "{{{{7*7}}}}{0}", "'; DROP TABLE {0};--",
        "' OR '1'='1 {0}", "]]..os.exit()..[[{0}", "%s%n%x{0}", "${{jndi:ldap://{0}}}",
        "$(id){0}", "`id`{0}", "|cat /etc/passwd {0}", "__index{0}", "-1{0}",
        "1e309", "NaN", "9" * 400, "A" * 3000]
HEADERS = ["X-Request-Id", "User-Agent", "Referer", "Accept", "Origin",
           "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
           "Forwarded", "If-None-Match", "If-Modified-Since", "Range",
           "Content-Type", "Authorization", "Accept-Language", "Sec-Fetch-Site",
           "X-Original-URL", "X-Rewrite-Url", "X-HTTP-Method-Override",
           "Traceparent", "Via", "Cookie"]
TARGETS = ["/", "/hello", "/users/7", "/counter", "/nowhere", "/assets/style.css",
           "/assets/", "/sleep?ms=1", "/stream?count=1&ms=1", "/hello/", "/-/status",
           "/limited", "/-/metrics", "/users"]


def encode(text):
    return urllib.parse.quote(text, safe="%")


class Maker:
    """Requests, by chance; `mark` tells each from the others."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.kinds = itertools.cycle([
            self.traversal, self.path, self.query, self.header, self.raw_header,
            self.cookie, self.form, self.json, self.multipart, self.host,
            self.request_id, self.echo, self.method])

    def bytes(self, method, target, headers=(), body=None, host="demo.test"):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + (body or b"")

    def text(self, *lists):
        return self.chance.choice(self.chance.choice(lists)).format(MARK)

    def target(self):
        return self.chance.choice(TARGETS)

    def next(self):
        return next(self.kinds)()

    # ---- the kinds ----

    def traversal(self):
        dots = "".join(self.chance.choices(DOTS, k=self.chance.randint(1, 7))) \
            if self.chance.random() < 0.5 else \
            self.chance.choice(DOTS) * self.chance.randint(1, 8)
        form = self.chance.choice(["", "http://demo.test"])
        return self.bytes("GET", form + self.chance.choice(PREFIXES) + dots +
                          self.chance.choice(FILES))

    def path(self):
        return self.bytes("GET", self.chance.choice(PREFIXES) +
                          encode(self.text(HTML, LINES, CODE)) +
                          self.chance.choice(["", "/", "?a=1"]))

    def query(self):
        name, value = encode(self.text(HTML, CODE, LINES)), \
            encode(self.text(HTML, LINES, CODE, FILES))
        where = self.chance.choice(["/sleep?ms=", "/stream?ms=1&count=", "/?q=",
                                    "/users/7?", "/hello/?next=", "/nowhere?"])
        return self.bytes("GET", f"{where}{value}&{name}={value}")

    def header(self):
        return self.bytes("GET", self.target(), [
            f"{self.chance.choice(HEADERS)}: {self.text(HTML, LINES, CODE)}"
            for _ in range(self.chance.randint(1, 3))])

    def raw_header(self):
        name = self.chance.choice(HEADERS)
        return self.bytes("GET", self.target(),
                          [f"{name}: a{self.text(RAW_LINES)}"])

    def cookie(self):
        return self.bytes("GET", self.chance.choice(["/counter", "/"]), [
            f"Cookie: id={self.text(HTML, LINES, CODE, DOTS)}; "
            f"{self.text(HTML)}={self.text(CODE)}"])

    def form(self):
        body = f"user={encode(self.text(HTML, LINES, CODE))}&a={MARK}".encode()
        return self.bytes("POST", self.chance.choice(["/login", "/echo"]),
                          ["Content-Type: application/x-www-form-urlencoded"],
                          body)

    def json(self):
        text = self.text(HTML, LINES, CODE).replace("\\", "\\\\") \
            .replace('"', '\\"')
        return self.bytes("POST", "/login", ["Content-Type: application/json"],
                          f'{{"user":"{text}"}}'.encode())

    def multipart(self):
        body = (f'--x\r\nContent-Disposition: form-data; name="user"; filename='
                f'"{self.text(HTML, FILES, DOTS)}"\r\n\r\n{MARK}\r\n--x--\r\n')
        return self.bytes("POST", self.chance.choice(["/login", "/echo"]),
                          ["Content-Type: multipart/form-data; boundary=x"],
                          body.encode())

    def host(self):
        return self.bytes("GET", self.target(),
                          host=self.text(HTML, LINES, CODE, RAW_LINES))

    def request_id(self):
        return self.bytes("GET", self.target(), [
            f"X-Request-Id: {self.text(HTML, LINES, CODE)}"])

    def echo(self):
        kind = self.chance.choice(["text/html", "text/html; charset=utf-7",
                                   "image/svg+xml", self.text(HTML, LINES)])
        return self.bytes("POST", "/echo", [f"Content-Type: {kind}"],
                          self.text(HTML).encode())

    def method(self):
        return self.bytes(
            self.chance.choice(["TRACE", "CONNECT", "PUT", "PROPFIND", "OPTIONS",
                                f"<{MARK}>", "GET\tX"]), self.target())


# Text of files that no answer may have.
SECRETS = [CANARY.encode(), b"root:x:0:", b"local moonshine = require",
           b"return {\n    listen", b"MOONSHINE_", b"layout(\"layout\""]
SCRIPTED = re.compile(rb"text/html|xhtml|svg|xml", re.IGNORECASE)


def judge(answer):
    """What is wrong with an answer, or None."""
    if answer.status >= 500 and answer.status != 501:  # of methods
        return "5xx", str(answer.status)
    for secret in SECRETS:
        if secret in answer.body:
            return "leak", repr(secret)
    for name, value in answer.headers:
        if name.lower() == "x-moon" or "<" in value or \
                (name.lower() == "set-cookie" and MARK in value):
            return "header", f"{name}: {value}"
    kind = answer.header("Content-Type", "")
    mark = MARK.encode()
    if SCRIPTED.search(kind.encode("latin-1")) and any(
            text.format(MARK).encode() in answer.body
            for text in HTML if "<" in text):
        return "html", repr(answer.body[:200])
    if b"X-Moon: " + mark in answer.body.split(b"\r\n"):
        return "header", "a head in a body"
    return None


class Attack:
    def __init__(self, node, count, seed):
        self.node, self.count = node, count
        self.answers, self.refused, self.closed = 0, 0, 0
        self.found = {"leak": [], "5xx": [], "header": [], "html": [],
                      "malformed": []}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True,
                                         args=(Maker(f"{seed}-{i}"),))
                        for i in range(THREADS)]

    def all(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        return self

    def run(self, maker):
        client = None
        for _ in range(self.count // THREADS):
            data = maker.next()
            client = client or Client(self.node.address)
            if not self.one(client, data):
                client.close()
                client = None

    def one(self, client, data):
        """False when the connection can be used no more."""
        try:
            client.send(data)
            answer = client.read_response()
        except (OSError, Closed):
            with self.lock:
                self.closed += 1
            return False
        except (Malformed, AssertionError, ValueError) as error:
            self.note("malformed", data, str(error))
            return False
        wrong = judge(answer)
        if wrong:
            self.note(wrong[0], data, wrong[1])
        with self.lock:
            self.answers += 1
            self.refused += 400 <= answer.status < 500
        # A raw line feed may have made two requests of one.
        return answer.header("Connection", "").lower() != "close" and \
            b"\r\n\r\n<" not in data and answer.status != 400

    def note(self, kind, data, why):
        with self.lock:
            self.found[kind].append((data[:300], why))


def run(options):
    count = options.pick(REQUESTS, 2000)
    settings = {"trusted_proxies": "127.0.0.1/32"}  # else half is ignored
    with site.demo(settings=settings) as node:
        write_app(node.app, {"secret.txt": CANARY, "public/../.env": CANARY})
        attack = Attack(node, count, options.seed).all()
        alive = node.get("/hello").status == 200
        log = node.log()
    found = attack.found
    shown = {kind: len(some) for kind, some in found.items()}
    first = {kind: some[:3] for kind, some in found.items() if some}
    return [
        Row(f"{count} injections: leaks from outside the root; 5xx",
            f"{shown['leak']}; {shown['5xx']} ({attack.refused} refused, "
            f"{attack.closed} closed)", "0; 0",
            shown["leak"] == shown["5xx"] == 0 and alive and
            attack.answers > count / 2, note=f"{first}"),
        Row("injections: reflected header fields, broken heads",
            f"{shown['header']}, {shown['malformed']}", "0",
            shown["header"] == shown["malformed"] == 0, note=f"{first}"),
        Row("injections: HTML that comes back as it is",
            f"{shown['html']}", "0", shown["html"] == 0, note=f"{first}"),
        Row("injections: lines of others in the log",
            f"{len(re.findall(r'^X-Moon', log, re.MULTILINE))}", "0",
            not re.search(r"^X-Moon", log, re.MULTILINE)),
    ]
