"""Makes calls of a running node fail (the preloaded library is faults/).

    with Faults() as faults:
        node = start(APP, env=faults.env)
        rule = faults.arm("alloc", who=worker_pid, skip=7)
        node.get("/")            # its eighth allocation gives NULL
        rule.disarm()
        rule.done, rule.callers()

Rules hold for all processes of the node, or those of `who`; see faults.h for
what the words mean.
"""

import contextlib
import errno
import mmap
import os
import pathlib
import struct
import subprocess
import tempfile

from support.node import BINARY

LIBRARY = pathlib.Path(os.environ.get(
    "MOONSHINE_FAULTS",
    pathlib.Path(BINARY).parents[1] / "tests/libmoonfaults.so"))

LEAKS = pathlib.Path(__file__).with_name("faults") / "leaks.txt"

CALLS = ("alloc", "map", "open", "socket", "accept", "connect", "read",
         "write", "pread", "pwrite", "copy", "sync", "size", "poll", "name",
         "fork", "thread", "child")
THINGS = {"stream": 1, "packet": 2, "file": 4, "other": 8}
ACTIONS = ("fail", "short", "kill", "kill_after", "stop", "delay")
ANYBODY, FIRST, CHILDREN = 0, -1, -2

RULES, FRAMES = 16, 24
HEAD = struct.Struct("=IIq")
ORDER = struct.Struct("=IIIIiiQQQ128s")  # as the test writes it
RESULT = struct.Struct("=QQII")
FRAME = struct.Struct("=24sQ")
RULE_BYTES = ORDER.size + RESULT.size + FRAMES * FRAME.size


def child(number):
    """The nth process that was forked, from 1."""
    return -100 - number


class Rule:
    def __init__(self, table, index):
        self.table, self.at = table, HEAD.size + index * RULE_BYTES
        self.count = 0

    @property
    def armed(self):
        return self.table[self.at] != 0

    def arm(self, calls, kinds, action, error, who, skip, every, count, path):
        self.count = count
        order = ORDER.pack(0, calls, kinds, ACTIONS.index(action), error, who,
                           skip, every, count, path.encode())
        clean = bytes(RESULT.size)
        self.table[self.at:self.at + len(order) + len(clean)] = order + clean
        self.table[self.at] = 1

    def disarm(self):
        self.table[self.at] = 0

    def result(self):
        return RESULT.unpack_from(self.table, self.at + ORDER.size)

    @property
    def seen(self):
        """Calls that fit."""
        return self.result()[0]

    @property
    def done(self):
        """Calls that were hit."""
        taken = self.result()[1]
        return min(taken, self.count) if self.count else taken

    @property
    def pid(self):
        """Whose call was hit last."""
        return self.result()[2]

    def frames(self):
        """(module, offset) of the callers of the last hit, innermost first."""
        at = self.at + ORDER.size + RESULT.size
        for i in range(self.result()[3]):
            name, offset = FRAME.unpack_from(self.table, at + i * FRAME.size)
            yield name.split(b"\0")[0].decode(), offset

    def modules(self):
        return {module for module, _ in self.frames()}

    def callers(self, most=12):
        """The same, with names, for a message: slow."""
        frames = list(self.frames())[:most]
        ours = [hex(offset - 1) for module, offset in frames
                if module == "moonshine"]
        names = iter(subprocess.run(
            ["addr2line", "-f", "-s", "-e", BINARY, *ours], check=False,
            stdout=subprocess.PIPE, text=True).stdout.split("\n")) \
            if ours else iter(())
        words = []
        for module, _ in frames:
            if module == "moonshine":
                name = next(names, "?")
                words.append(f"{name} ({next(names, '?')})")
            else:
                words.append(module.split(".so")[0])
        return " < ".join(words)


class Faults:
    def __init__(self):
        handle, self.path = tempfile.mkstemp(prefix="moonshine-faults-")
        size = HEAD.size + RULES * RULE_BYTES
        os.ftruncate(handle, size)
        os.chmod(self.path, 0o666)  # workers may run as somebody else
        self.table = mmap.mmap(handle, size)
        os.close(handle)
        self.rules = [Rule(self.table, i) for i in range(RULES)]

    @property
    def env(self):
        asan = os.environ.get("ASAN_OPTIONS",
                              "detect_leaks=1:exitcode=99")
        return {"LD_PRELOAD": str(LIBRARY), "FAULTS_FILE": self.path,
                "LSAN_OPTIONS": f"print_suppressions=0:suppressions={LEAKS}",
                "ASAN_OPTIONS": f"{asan}:verify_asan_link_order=0:"
                                "allocator_may_return_null=1"}

    def arm(self, *calls, who=ANYBODY, action="fail", error=errno.ENOMEM,
            skip=0, every=0, count=1, path="", kinds=(), early=False):
        """A new rule; `calls` are of CALLS. For "delay" the error is a time in
        milliseconds. count=0: until it is disarmed. early: before the node is
        started."""
        assert early or HEAD.unpack_from(self.table, 0)[0], \
            "nobody has loaded the library"
        rule = next(r for r in self.rules if not r.armed)
        rule.arm(sum(1 << CALLS.index(c) for c in calls),
                 sum(THINGS[k] for k in kinds), action, error, who, skip,
                 every, count, path)
        return rule

    @contextlib.contextmanager
    def during(self, *calls, **options):
        rule = self.arm(*calls, **options)
        try:
            yield rule
        finally:
            rule.disarm()

    @property
    def forks(self):
        return HEAD.unpack_from(self.table, 0)[1]

    def step(self, seconds):
        """Sets the wall clock of all processes so far from the real one."""
        struct.pack_into("=q", self.table, 8, int(seconds * 1e9))

    def reset(self):
        """For another node."""
        self.table[:] = bytes(len(self.table))

    def close(self):
        self.table.close()
        os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
