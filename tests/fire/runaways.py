"""Runaway handlers, one request in a thousand: an endless compiled loop, a pattern
that takes a minute, recursion without an end, strings of a gigabyte. All on one
worker; what the other one notices."""

import itertools
import multiprocessing
import pathlib
import threading
import time

from fire.ledger import Clients, expect, request
from fire.probe import Probe, connect
from fire.report import Row, percentile
from fire.site import SETTINGS
from support.admin import Admin
from support.client import Closed, build
from support.node import Node, eventually

MEMORY_MIB = 128
# Time of a processor that KINDS take: until cpu_limit, or until the master ends
# one long C call.
BURNS = (0.25, 0.75, 0, 0, 0.1)
BESIDE_MIB = 32  # what a worker is without Lua, and what fragments keep
KINDS = {  # the route, and what it may end with; None: killed with its worker
    "/loop": (503,), "/pattern": (None,), "/recursion": (500, 503),
    "/string": (503,), "/doubling": (503,),
}
APP = """
app:use(function(c, proceed)
    c:set_header("X-Worker", tostring(moonshine.worker().id))
    return proceed(c)
end)
app:get("/ok", function() return "ok" end)
app:get("/loop", function()
    local n = 0
    while true do n = (n + 1) % 1000 end
end)
app:get("/pattern", function()
    return tostring(("a"):rep(800):find(".-.-.-b"))
end)
app:get("/recursion", function()
    local function deep(n) return 1 + deep(n + 1) end
    return tostring(deep(0))
end)
app:get("/string", function() return ("x"):rep(2 ^ 30) end)
app:get("/doubling", function()
    local s = "x"
    while true do s = s .. s end
end)
"""


class Runaways:
    """Asks for one after the other on worker 1, each second, while it is on."""

    def __init__(self, node):
        self.node = node
        self.took = {kind: [] for kind in KINDS}
        self.strange = []
        self.peak_kib = 0
        self.on = threading.Event()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.on.set()
        self.thread.join(30)
        assert not self.thread.is_alive(), "the last runaway is stopped"

    def run(self):
        for kind in itertools.cycle(KINDS):
            self.on.wait()
            if self.ending.is_set():
                return
            began = time.monotonic()
            self.one(kind)
            self.ending.wait(max(0, began + 1 - time.monotonic()))

    def one(self, kind):
        client = connect(self.node.address, build("GET", "/ok"), "1")
        with client:
            began = time.monotonic()
            status = None
            try:
                client.send(build("GET", kind))
                status = client.read_response().status
            except (OSError, Closed):
                pass
            self.took[kind].append(time.monotonic() - began)
        if status not in KINDS[kind]:
            self.strange.append((kind, status))
        self.peak_kib = max([self.peak_kib, *map(peak, self.node.children())])


def peak(pid):
    """The most it ever had resident, KiB."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines()
                 if line.startswith("VmHWM:")), 0)


def burn(seconds):
    used = time.process_time()
    while time.process_time() - used < seconds:
        pass


def burning():
    """How long the longest burst takes here and now."""
    process = multiprocessing.Process(target=burn, args=(max(BURNS),))
    began = time.monotonic()
    process.start()
    process.join()
    return time.monotonic() - began


def stranger():
    """A process that has nothing to do with the node, and takes as much of the
    processors as the runaways do."""
    for seconds in itertools.cycle(BURNS):
        burn(seconds)
        time.sleep(1 - seconds)


def beside_stranger(probe, seconds):
    process = multiprocessing.Process(target=stranger, daemon=True)
    process.start()
    try:
        return probe.window(seconds)
    finally:
        process.kill()
        process.join()


def watch(node, probe, rounds, seconds):
    """What the other worker's answers took while nothing else ran, beside a
    stranger, and meanwhile, in turn; and the runaways."""
    calm, strange, meanwhile = [], [], []
    with Runaways(node) as runaways:
        for _ in range(rounds):
            calm += probe.window(seconds)
            strange += beside_stranger(probe, seconds)
            runaways.on.set()
            meanwhile += probe.window(seconds)
            runaways.on.clear()
            # What runs still is stopped by then, and its worker is back.
            Admin(node).wait_serving(2)
        eventually(lambda: all(runaways.took.values()) or
                   runaways.on.set(), "each kind had its turn", 60)
    return (calm, strange, meanwhile), runaways


def run(options):
    rounds, seconds = options.pick(4, 1), options.length(60, 9) / 12
    settings = {"memory_limit": f"{MEMORY_MIB}m", **SETTINGS}
    with Node(APP, workers=2, settings=settings) as node:
        with Probe(node.address, "/ok", worker="2") as probe, \
                Clients(node.address) as clients:
            clients.add([("/ok", request("GET", "/ok"),
                          expect(200, body=b"ok"))], 16, 0.016)
            clients.progress(100)
            burnt = burning()
            windows, runaways = watch(node, probe, rounds, seconds)
        sanitized = node.sanitized()
        stops = [sum(w[name] for w in Admin(node).workers())
                 for name in ("cpu_stops", "memory_stops")]
    ledger = clients.ledger
    others = [loss for loss in ledger.losses if loss.worker == "2"]
    slowest = {kind: max(took) for kind, took in runaways.took.items()}
    count = sum(map(len, runaways.took.values()))
    calm, strange, during = (percentile(some, 0.99) * 1e3
                             for some in windows)
    peak_mib = runaways.peak_kib / 1024
    return [
        Row(f"{count} runaways: stopped", ", ".join(
            f"{kind[1:]} {took:.2f}" for kind, took in slowest.items()) + " s",
            "<= 2 s", max(slowest.values()) <= 2,
            f"{max(BURNS)} s of a processor took {burnt:.2f} s",
            exact=False),
        Row("runaways: ends that should not be; stops for CPU and memory",
            f"{len(runaways.strange)}; {stops[0]} and {stops[1]}", "0",
            not runaways.strange, note=f"{runaways.strange[:5]}"),
        Row("runaways: p99 on the other worker",
            f"{during:.2f} ms, {during / calm:.2f} times", "<= 2 times",
            during <= 2 * calm, f"calm {calm:.2f}, beside a stranger that "
            f"burns as much {strange:.2f} ms", exact=False),
        Row("runaways: others lost on the other worker; refused, wrong",
            f"{len(others)}; {ledger.count['refused']}, "
            f"{ledger.count['wrong']} of {ledger.count['ok']}", "0",
            not others and ledger.count["refused"] +
            ledger.count["wrong"] == 0, note=f"{ledger.wrong[:5]}"),
        # What AddressSanitizer keeps is not the server's.
        Row("runaways: the most a worker had resident",
            f"{peak_mib:.0f} MiB", f"<= {MEMORY_MIB} + {BESIDE_MIB} MiB",
            sanitized or peak_mib <= MEMORY_MIB + BESIDE_MIB),
    ]
