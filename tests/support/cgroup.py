"""A memory cgroup of version 2 or 1, whichever is writable here.

    with MemoryGroup(64 << 20) as group:
        node = Node(APP, pass_fds=(), enter=group)
        group.peak(), group.killed()

Its limit holds for page cache, kernel memory and swap, too, where the kernel
counts them. `unavailable()` says why there is none, or is empty.
"""

import contextlib
import os
import pathlib

ROOT = pathlib.Path("/sys/fs/cgroup")


def parent():
    """Where groups with a memory controller can be made, and its version."""
    if (ROOT / "cgroup.controllers").exists():
        if "memory" in (ROOT / "cgroup.subtree_control").read_text().split():
            return ROOT, 2
        return None, 2
    if (ROOT / "memory/memory.limit_in_bytes").exists() or \
            (ROOT / "memory/cgroup.procs").exists():
        return ROOT / "memory", 1
    return None, 0


def unavailable():
    """Why not; empty if it can be done."""
    folder, version = parent()
    if folder is None:
        return f"no memory controller (cgroup version {version})"
    probe = folder / f"moonshine-probe-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError as failure:
        return f"cannot make a cgroup: {failure.strerror}"
    try:
        names = ("memory.max", "memory.limit_in_bytes")
        if not any((probe / name).exists() for name in names):
            return "a new cgroup has no memory limit"
        return ""
    finally:
        probe.rmdir()


class MemoryGroup:
    def __init__(self, limit_bytes, name="test"):
        self.limit_bytes = limit_bytes
        folder, self.version = parent()
        self.path = folder / f"moonshine-{name}-{os.getpid()}"

    def __enter__(self):
        self.path.mkdir()
        if self.version == 2:
            self.write("memory.max", self.limit_bytes)
            self.write("memory.swap.max", 0)
        else:
            self.write("memory.limit_in_bytes", self.limit_bytes)
            self.write("memory.memsw.limit_in_bytes", self.limit_bytes)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def write(self, name, value):
        with contextlib.suppress(FileNotFoundError):
            (self.path / name).write_text(f"{value}\n")

    def number(self, *names):
        for name in names:
            with contextlib.suppress(OSError):
                return int((self.path / name).read_text())
        return None

    def add(self, pid):
        """That process, and the children that it will have."""
        self.write("cgroup.procs", pid)

    def peak(self):
        """Bytes; None where the kernel does not tell."""
        return self.number("memory.peak", "memory.max_usage_in_bytes")

    def used(self):
        return self.number("memory.current", "memory.usage_in_bytes")

    def killed(self):
        """How many processes the kernel has killed for it."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (self.path / name).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
        return None
