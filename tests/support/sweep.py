"""Sweeps: the k-th call fails, for k = 0, 1, 2 ... until nothing fails any more.

    sweep = Sweep(node, faults)
    sweep.requests(KINDS, FAULTS["memory"], range(0, 1000))
    sweep.outcomes      # Counter of (kind, outcome)

What must hold for each k: the request ends (see kinds.Kind.ask), the next one,
without a fault, is right, and the worker is the same. Only where the allocation
was LuaJIT's own may a worker die (`deaths` keeps which), at once or later; it
is replaced.
"""

import collections
import dataclasses
import errno
import os
import re
import signal

from support.admin import Admin
from support.client import Closed
from support.injector import FIRST, Faults, child
from support.kinds import APP, BY_NAME, KINDS, SETTINGS, SITE, Wrong
from support.node import PRELUDE, Node, eventually

# Whoever made one of these calls is the Lua virtual machine: an error in the
# middle of what it does is its own, and not always survived.
LUA = "libluajit-5.1.so.2"


@dataclasses.dataclass(frozen=True)
class Fault:
    calls: tuple
    error: int = errno.ENOMEM
    action: str = "fail"
    kinds: tuple = ()
    path: str = ""
    count: int = 1  # 0: the k-th and all that follow

    def options(self):
        return {"error": self.error, "action": self.action,
                "kinds": self.kinds, "path": self.path, "count": self.count}


INPUT, OUTPUT = ("read", "pread"), ("write", "pwrite", "copy")
FAULTS = {
    "memory": Fault(("alloc", "map")),
    "no memory": Fault(("alloc", "map"), count=0),
    "descriptors": Fault(("open", "socket"), errno.EMFILE),
    "no descriptors": Fault(("open", "socket"), errno.ENFILE, count=0),
    "disk full": Fault(("write", "pwrite", "size"), errno.ENOSPC,
                       kinds=("file",), count=0),
    "disk broken": Fault((*INPUT, "write", "pwrite", "sync", "size", "name"),
                         errno.EIO, kinds=("file",)),
    "reset": Fault(INPUT, errno.ECONNRESET, kinds=("stream",)),
    "pipe": Fault(OUTPUT, errno.EPIPE, kinds=("stream",)),
    "interrupted": Fault((*INPUT, *OUTPUT, "open", "accept", "sync", "size",
                          "poll", "child"), errno.EINTR),
    "again": Fault((*INPUT, *OUTPUT), errno.EAGAIN, kinds=("stream",)),
    "short": Fault((*INPUT, *OUTPUT), action="short",
                   kinds=("stream", "file")),
}


class Sweep:
    def __init__(self, node, faults):
        self.node, self.faults = node, faults
        self.admin = Admin(node)
        self.outcomes = collections.Counter()
        self.deaths = []  # (kind, k, callers)
        self.doubtful = False  # LuaJIT has been refused memory in this worker
        self.worker = self.find_worker()

    def find_worker(self):
        return self.admin.wait_serving(1)[0]["pid"]

    def renew(self):
        """A worker that has served nothing yet."""
        self.worker = self.find_worker()  # an earlier failure may have ended it
        os.kill(self.worker, signal.SIGKILL)
        self.find_next()

    def find_next(self):
        before, self.doubtful = self.worker, False

        def other():
            self.worker = self.find_worker()
            return self.worker != before
        eventually(other, "a new worker")

    def once(self, kind, fault, k):
        """True if a call was hit."""
        with self.faults.during(*fault.calls, who=self.worker, skip=k,
                                **fault.options()) as rule:
            try:
                outcome = kind.ask(self.node)
            except Wrong as error:
                raise Wrong(f"{error}\n{self.where(kind, fault, k, rule)}") \
                    from None
        hit = rule.done > 0
        before = self.doubtful
        self.doubtful |= hit and "alloc" in fault.calls and (
            fault.count == 0 or LUA in rule.modules())
        if not hit and outcome != "right":
            raise Wrong(f"{kind}: {outcome} without a fault: "
                        f"{self.where(kind, fault, k, rule)}")
        self.outcomes[kind.name, outcome] += hit
        eventually(lambda: kind.ask(self.node) == "right",
                   f"{kind} is right again: "
                   f"{self.where(kind, fault, k, rule)}")
        if not self.worker_died(kind, fault, k, rule):
            return hit
        # Of this fault, or of an earlier one? Another worker tells.
        return self.once(kind, fault, k) if before else hit

    def worker_died(self, kind, fault, k, rule):
        if self.admin.workers()[0]["pid"] == self.worker:
            return False
        # Nor is there a way on if libuv cannot watch one more descriptor.
        if not self.doubtful and not (
                fault.count == 0 and "libuv.so.1" in rule.modules()):
            raise Wrong(f"the worker died: {self.where(kind, fault, k, rule)}")
        self.deaths.append((kind.name, k, rule.callers()))
        self.find_next()
        return True

    def where(self, kind, fault, k, rule):
        callers = rule.callers() if rule.done else "not reached"
        return f"{kind}, {fault}, k={k}: {callers}"

    def requests(self, kinds, fault, ks, cold=False):
        """ks: ascending; ends where nothing was hit. cold: each k on a worker
        of its own."""
        for kind in kinds:
            for k in ks:
                if cold:
                    self.renew()
                if not self.once(kind, fault, k):
                    break


# ---- a node's life ----

WHO = (FIRST, child(1), child(2))  # at the start: master, probe, worker


def gives_up(node):
    """A start that failed said why, and was no crash."""
    log = node.log()
    assert node.process.returncode == 1, log[-3000:]
    said = re.findall(r"(?:cannot start|moonshine run|test: [^\n]*): +(\S.*)",
                      log)
    assert said, f"it does not say why:\n{log[-3000:]}"
    node.expect_exit = 1
    return "exits: " + re.sub(r"\d+", "N", said[-1])


def works(node, kinds=KINDS):
    for kind in kinds:
        eventually(lambda kind=kind: kind.ask(node) == "right",
                   f"{kind} is right")


def started(node, rule):
    """How the start ended."""
    def over():
        if node.process.poll() is not None:
            return "ended"
        try:
            return node.get("/-/ready").status == 200 and "ready"
        except (OSError, Closed):
            return None
    if eventually(over, "it is ready, or ends", 40) == "ended":
        return gives_up(node)
    rule.disarm()
    works(node, [BY_NAME[n] for n in ("plain", "session", "upload")])
    return "ready, with another worker" \
        if "before it was ready" in node.log() else "ready"


def libraries_own(rule):
    """A crash inside a library that asked for memory: LuaJIT or the unwinder
    it uses, the name service, or libuv, which aborts."""
    return rule.modules() & {LUA, "libgcc_s.so.1"} or \
        list(rule.modules())[:1] == [] or \
        next(rule.frames(), ("",))[0] == "libc.so.6" or \
        "libuv.so.1" in [module for module, _ in list(rule.frames())[:3]]


def survivable(faults, who):
    """lua_newstate crashes if it has no memory, and may do so in processes that
    load code: that is not for a sanitizer to report."""
    env = faults.env
    if WHO[who] != FIRST:
        env["ASAN_OPTIONS"] += ":handle_segv=0"
    return env


def starts(fault, who, ks):
    """The k-th call of the master, the probe or the first worker fails."""
    ends = collections.Counter()
    with Faults() as faults:
        for k in ks:
            faults.reset()
            rule = faults.arm(*fault.calls, who=WHO[who], skip=k, early=True,
                              **fault.options())
            node = Node(SITE, settings=SETTINGS, env=survivable(faults, who),
                        wait=False)
            try:
                ends[started(node, rule)] += rule.done > 0
                node.stop()
            except AssertionError as error:
                node.kill()
                if not libraries_own(rule):
                    raise Wrong(f"start, k={k}: {rule.callers()}: {error}") \
                        from None
                ends["dies in a library: " + rule.callers(4)] += 1
            if not rule.done:
                break
    return ends


def reloads(fault, who, ks):
    """The same during a reload: of the master, the new probe, the worker."""
    ends = collections.Counter()
    with Faults() as faults, \
            Node(SITE, settings=SETTINGS,
                 env=survivable(faults, who)) as node:
        sweep = Sweep(node, faults)
        for k in ks:
            version = f'app:get("/version", function() return "{k}" end)'
            node.rewrite({"app.lua": PRELUDE + APP + version + "\nreturn app"})
            pid = (node.pid, child(faults.forks + 1), sweep.worker)[who]
            with faults.during(*fault.calls, who=pid, skip=k,
                               **fault.options()) as rule:
                ok, text = reload(sweep, node)
            hit = rule.done > 0
            try:
                ends[reloaded(sweep, k, ok, text)] += hit
            except AssertionError as error:
                raise Wrong(f"reload, k={k}: {ok}, {text}: {rule.callers()}: "
                            f"{error}") from None
            if not hit:
                assert ok, text
                break
    return ends


def reload(sweep, node):
    """The question or the answer may be what failed: then whether it happened
    is not known."""
    try:
        return sweep.admin.reload()
    except (OSError, Closed, ValueError) as error:
        assert node.process.poll() is None, f"the master died:\n{node.log()}"
        return None, repr(error)


def reloaded(sweep, k, ok, text):
    """All of the new code, or all of the old."""
    sweep.worker = sweep.find_worker()
    if ok is None:  # once more, then
        eventually(lambda: sweep.admin.reload()[0], "it can be reloaded")
    if ok in (True, None):
        eventually(lambda: sweep.node.get("/version").text == str(k),
                   "the new code serves")
    else:
        assert text, "it does not say why"
        answer = sweep.node.get("/version")
        assert answer.status == 404 or answer.text != str(k), answer
    works(sweep.node, [BY_NAME[n] for n in ("plain", "session", "view")])
    return {True: "is live", None: "is not answered"}.get(ok) or "is refused: " + re.sub(r"\d+", "N", text)
