"""All routes of the demo, and one request in a hundred that goes wrong or is
broken off, for a minute (by hand: --seconds 1800): what a worker holds must be the
same at rest before and after, and flat meanwhile."""

import os
import random
import threading
import time

from fire import site
from fire.ledger import Clients, expect, request
from fire.report import Row, percentile
from support.admin import Admin
from support.client import Client, Closed, build
from support.node import eventually
from support.resident import resident

CLIENTS = 16
MIB = 2 ** 20
FAULTS = [("/panic", 500), ("/spin", 503), ("/hog", 503)]
SESSIONS = [
    ("/counter", request("GET", "/counter"), expect(200, contains=b"count")),
    ("/login", request("POST", "/login", b'{"user":"moon"}',
                       ["Content-Type: application/json"]), expect(200)),
    ("/logout", request("POST", "/logout", b""), expect(204)),
    ("/limited", request("GET", "/limited"), expect(200, 429)),
    ("/limited-cluster", request("GET", "/limited-cluster"),
     expect(200, 429)),
]
# What rests must be the same before and after; more only by so many: what is
# kept in pools depends on how many came at once.
AT_REST = {"fds": 2, "handles": 2, "timers": 2, "tasks": 0, "coroutines": 24,
           "lua_refs": 24}


def broken(address, chance):
    """A client that leaves in the middle, or talks nonsense."""
    parts = [
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
        build("GET", "/sleep?ms=200"), build("GET", "/stream?count=50&ms=5"),
        b"GET / HTTP/1.1\r\nHo", b"\x16\x03\x01\x02nonsense\r\n\r\n",
        build("POST", "/echo", body=b"x" * 300000)[:200000],
    ]
    with Client(address) as client:
        client.send(chance.choice(parts))
        time.sleep(0.02)


class Saboteur:
    """One request in a hundred, of all those in the ledger."""

    def __init__(self, node, ledger, seed):
        self.node, self.ledger = node, ledger
        self.chance = random.Random(seed)
        self.done, self.wrong = 0, []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join(60)

    def run(self):
        while not self.ending.wait(0.01):
            if self.done * 100 <= self.ledger.count["ok"]:
                self.done += 1
                self.one()

    def one(self):
        try:
            if self.chance.random() < 0.5:
                broken(self.node.address, self.chance)
                return
            target, status = self.chance.choice(FAULTS)
            got = self.node.get(target).status
            if got != status:
                self.wrong.append((target, got))
        except (OSError, Closed) as error:
            self.wrong.append(repr(error))


def own_memory(pid):
    """Bytes with no file behind them. The pages of LMDB's are resident, too, and
    more with each session that is begun; the kernel takes them back at will."""
    kinds = resident(pid)
    return kinds["RssAnon"] + kinds["RssShmem"]


def sample(node):
    """What all workers hold together."""
    workers = Admin(node).workers()
    held = {name: sum(w[name] for w in workers) for name in (
        "handles", "timers", "tasks", "coroutines", "lua_refs", "lua_bytes",
        "in_flight", "connections")}
    held["memory"] = sum(own_memory(w["pid"]) for w in workers)
    held["fds"] = sum(len(os.listdir(f"/proc/{w['pid']}/fd")) for w in workers)
    return held


def at_rest(node):
    """Once no connection is left and numbers stand still."""
    before = [None, 0.0]

    def still():
        held = sample(node)
        key = {name: held[name] for name in (*AT_REST, "in_flight",
                                             "connections")}
        if key != before[0]:
            before[:] = key, time.monotonic()
        return held if held["in_flight"] == held["connections"] == 0 and \
            time.monotonic() - before[1] > 2 else None
    return eventually(still, f"it rests: {before}", 60)


def load(node, seconds, seed):
    """Ledger, saboteur, and a sample each half second."""
    samples = []
    with Clients(node.address) as clients:
        with Saboteur(node, clients.ledger, seed) as saboteur:
            clients.add(site.HEALTHY + SESSIONS, CLIENTS, 0.005)
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                time.sleep(0.5)
                samples.append(sample(node))
    return clients.ledger, saboteur, samples


def trend(samples, name, share):
    """Of the last third, over the first one."""
    third = max(1, len(samples) // 3)
    first, last = (percentile([s[name] for s in some], share)
                   for some in (samples[:third], samples[-third:]))
    return first, last


def memory(what, first, last, slack):
    return Row(f"soak: {what}", f"{first / MIB:.1f}, {last / MIB:.1f} MiB",
               f"at most 10 % and {slack} MiB more",
               last <= first * 1.1 + slack * MIB)


def run(options):
    seconds = options.length(60, 6)
    settings = {"keepalive_timeout": "10s"}
    with site.demo(settings=settings) as node:
        load(node, max(5, min(20, seconds / 3)), "warm")
        before = at_rest(node)
        ledger, saboteur, samples = load(node, seconds, options.seed)
        after = at_rest(node)
        status = Admin(node).status()
        sanitized = node.sanitized()
    grown = {name: after[name] - before[name] for name, slack in
             AT_REST.items() if after[name] - before[name] > slack}
    rows = [
        Row(f"soak, {seconds:g} s: failed of {ledger.count['ok']}; faults of "
            f"{saboteur.done} that ended in another way",
            f"{ledger.failed()}; {len(saboteur.wrong)}", "0; 0",
            ledger.failed() == 0 and not saboteur.wrong,
            note=f"{ledger.text()} {ledger.wrong[:5]} {saboteur.wrong[:5]}"),
        Row("soak: workers that died", f"{status['worker_restarts']}", "0",
            status["worker_restarts"] == 0),
        Row("soak: at rest, before and after", ", ".join(
            f"{name} {before[name]} {after[name]}" for name in AT_REST),
            "no more", not grown, note=f"{grown}"),
    ]
    if not sanitized:
        # Memory breathes, with the collector and with each hog: what it comes
        # down to.
        rows += [
            memory("memory of Lua meanwhile, its floor",
                   *trend(samples, "lua_bytes", 0.1), 1),
            memory("memory of the workers meanwhile, its floor",
                   *trend(samples, "memory", 0.1), 8),
            memory("memory of the workers at rest", before["memory"],
                   after["memory"], 8),
        ]
    return rows
