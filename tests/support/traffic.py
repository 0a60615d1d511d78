"""Visitors of a site who check every answer.

    with Traffic(address, seen=path) as traffic:
        ...
    assert not traffic.failures

Each keeps one connection and one session. In turn they read a page, count in
their session (each time exactly one more than the last), and send an order that
the application writes into the file `seen`: once, whatever happens. The
application is SITE.
"""

import collections
import json
import threading
import time

from support.client import Client, Closed

SITE = r"""
local seen = assert(moonshine.env("SEEN"))
app:get("/", function() return "page VERSION" end)
app:get("/count", function(c)
    return { n = c:session():update(function(view)
        view:set("n", (view:get("n") or 0) + 1)
        return view:get("n")
    end), node = moonshine.node() }
end)
app:post("/orders", function(c)
    local order = c:bind { id = "string" }
    local file = assert(io.open(seen, "a"))
    file:write(order.id, "\n")
    file:close()
    moonshine.sleep(0.002)
    return { id = order.id, node = moonshine.node() }
end)
"""


class Traffic:
    def __init__(self, address, seen, clients=6, pause=0.002):
        self.address = address
        self.seen = seen
        self.pause = pause
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.answers = 0
        self.versions = collections.Counter()
        self.nodes = collections.Counter()
        self.orders = []
        self.failures = []
        self.times = []  # (when, seconds) of each answer
        self.threads = [threading.Thread(target=self.run, args=(i,))
                        for i in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def wait(self, answers):
        """Until so many more have come."""
        goal, until = self.answers + answers, time.monotonic() + 60
        while self.answers < goal:
            assert time.monotonic() < until, self.failures[-5:]
            time.sleep(0.01)

    def twice(self):
        """Orders that were run more than once, and those that never were."""
        ran = collections.Counter(self.seen.read_text().split())
        return ([order for order, count in ran.items() if count > 1],
                [order for order in self.orders if order not in ran])

    def run(self, number):
        visitor = Visitor(self, number)
        while not self.stopping.wait(self.pause):
            visitor.step()
        visitor.close()


class Visitor:
    def __init__(self, traffic, number):
        self.traffic = traffic
        self.number = number
        self.client = None
        self.cookie = None
        self.count = 0
        self.steps = 0

    def close(self):
        if self.client:
            self.client.close()
            self.client = None

    def step(self):
        step = (self.page, self.add, self.order)[self.steps % 3]
        self.steps += 1
        began = time.monotonic()
        try:
            self.client = self.client or Client(self.traffic.address)
            wrong = step()
        except (OSError, Closed) as error:
            self.close()
            wrong = f"{step.__name__}: {error!r}"
        with self.traffic.lock:
            self.traffic.answers += 1
            self.traffic.times.append((began, time.monotonic() - began))
            if wrong:
                self.traffic.failures.append(wrong)

    def ask(self, method, target, body=None):
        headers = {}
        if self.cookie:
            headers["Cookie"] = self.cookie
        if body:
            headers["Content-Type"] = "application/json"
        answer = self.client.request(method, target, headers, body)
        if answer.header("Connection", "").lower() == "close":
            self.close()
        for line in answer.all("Set-Cookie"):
            self.cookie = line.split(";")[0]
        return answer

    def page(self):
        answer = self.ask("GET", "/")
        if answer.status != 200 or not answer.text.startswith("page "):
            return f"page: {answer} {answer.text[:100]}"
        with self.traffic.lock:
            self.traffic.versions[answer.text[5:]] += 1
        return None

    def add(self):
        answer = self.ask("GET", "/count")
        if answer.status != 200:
            return f"count: {answer} {answer.text[:100]}"
        found = answer.json()
        with self.traffic.lock:
            self.traffic.nodes[found["node"]] += 1
        expected, self.count = self.count + 1, found["n"]
        return None if found["n"] == expected else \
            f"count: {found['n']} instead of {expected}"

    def order(self):
        name = f"{self.number}-{self.steps}"
        answer = self.ask("POST", "/orders",
                          json.dumps({"id": name}).encode())
        if answer.status != 200 or answer.json()["id"] != name:
            return f"order: {answer} {answer.text[:100]}"
        with self.traffic.lock:
            self.traffic.orders.append(name)
        return None
