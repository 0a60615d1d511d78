"""Network namespaces: a place for a node, with cables that can be pulled.

Needs root, and `ip` (iproute2).
"""

import os
import shutil
import subprocess

from support.node import BINARY


def ip(*words):
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL,
                   capture_output=True)


def possible():
    if os.getuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        ip("netns", "add", f"moon-probe-{os.getpid()}")
        ip("netns", "del", f"moon-probe-{os.getpid()}")
    except subprocess.CalledProcessError:
        return False
    return True


class Place:
    """A namespace with a cable to nginx (10.77.N.*) and to Redis (10.78.N.*);
    the other ends are here. `number` is from 1 to 254; who uses one at the same
    time needs another."""

    def __init__(self, number, stack):
        self.number = number
        self.name = f"moon{os.getpid() % 10000}-{number}"
        ip("netns", "add", self.name)
        stack.callback(ip, "netns", "del", self.name)
        for kind in (77, 78):
            ours, theirs = self.cable(kind), f"t{kind}-{number}"
            ip("link", "add", ours, "type", "veth", "peer", "name", theirs,
               "netns", self.name)
            ip("addr", "add", f"10.{kind}.{number}.1/24", "dev", ours)
            ip("link", "set", ours, "up")
            self.inside("addr", "add", f"10.{kind}.{number}.2/24",
                        "dev", theirs)
            stack.callback(ip, "link", "del", ours)
            self.inside("link", "set", theirs, "up")
        self.inside("link", "set", "lo", "up")

    def cable(self, kind):
        return f"m{os.getpid() % 10000}-{kind}-{self.number}"

    def inside(self, *words):
        ip("-n", self.name, *words)

    # At the other end: here the route stays, as with a real cable.
    def pull(self, kind):
        self.inside("link", "set", f"t{kind}-{self.number}", "down")

    def plug(self, kind):
        self.inside("link", "set", f"t{kind}-{self.number}", "up")

    def program(self, home):
        path = home / f"in-{self.number}"
        path.write_text(f'#!/bin/sh\nexec ip netns exec {self.name} '
                        f'"{BINARY}" "$@"\n')
        path.chmod(0o755)
        return str(path)
