"""Sweeps: the k-th call fails, for k = 0, 1, 2 ... until nothing fails any more.

    sweep = Sweep(node, faults)
    sweep.requests(KINDS, FAULTS["memory"], range(0, 1000))
    sweep.outcomes      # Counter of (kind, outcome)

What must hold for each k: the request ends (see kinds.Kind.ask), the next one,
without a fault, is right, and the worker is the same. Only where the allocation
was LuaJIT's own may a worker die (`deaths` keeps which); it is replaced.
"""

import collections
import dataclasses
import errno
import os
import signal

from support.admin import Admin
from support.kinds import Wrong
from support.node import eventually

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
        self.worker = self.find_worker()

    def find_worker(self):
        return self.admin.wait_serving(1)[0]["pid"]

    def renew(self):
        """A worker that has served nothing yet."""
        os.kill(self.worker, signal.SIGKILL)
        self.find_next()

    def find_next(self):
        before = self.worker

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
        if not hit and outcome != "right":
            raise Wrong(f"{kind}: {outcome} without a fault: "
                        f"{self.where(kind, fault, k, rule)}")
        self.outcomes[kind.name, outcome] += hit
        eventually(lambda: kind.ask(self.node) == "right",
                   f"{kind} is right again: "
                   f"{self.where(kind, fault, k, rule)}")
        self.check_worker(kind, fault, k, rule)
        return hit

    def check_worker(self, kind, fault, k, rule):
        if self.admin.workers()[0]["pid"] == self.worker:
            return
        if LUA not in rule.modules():
            raise Wrong(f"the worker died: {self.where(kind, fault, k, rule)}")
        self.deaths.append((kind.name, k, rule.callers()))
        self.find_next()

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
