"""A service manager, as far as its protocols go: it opens sockets and passes
them, and hears what a service says to NOTIFY_SOCKET."""

import fcntl
import pathlib
import socket

from support.node import BINARY, eventually

FIRST = 3


class Manager:
    """Keeps all messages, each a dict, with the pid of who sent it."""

    def __init__(self, directory, abstract=False):
        self.path = str(pathlib.Path(directory) / "notify")
        self.name = "@" + self.path if abstract else self.path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.path if abstract else self.path)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.setblocking(False)
        self.messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def environment(self, **more):
        return {"NOTIFY_SOCKET": self.name, **more}

    def hear(self):
        while True:
            try:
                data, extra, _, _ = self.socket.recvmsg(4096, 256)
            except BlockingIOError:
                return self.messages
            message = dict(line.split("=", 1)
                           for line in data.decode().split("\n"))
            for _, kind, value in extra:
                if kind == socket.SCM_CREDENTIALS:
                    message["pid"] = int.from_bytes(value[:4], "little")
            self.messages.append(message)

    def all(self, name):
        """Every value of a name so far."""
        return [m[name] for m in self.hear() if name in m]

    def wait(self, name, count=1, seconds=20.0):
        """The values, once there are so many."""
        return eventually(lambda: len(self.all(name)) >= count and
                          self.all(name), f"{count} {name}", seconds)

    def order(self, *names):
        """(name, pid) of the messages with one of these names."""
        return [(name, m["pid"]) for m in self.hear() for name in names
                if name in m]


def activator(directory, sockets, names=None):
    """A program that starts ours with these sockets from descriptor 3 on;
    give it to a Node with `pass_fds`."""
    moves = "".join(f"{FIRST + i}<&{s.fileno()} "
                    for i, s in enumerate(sockets))
    path = pathlib.Path(directory) / "activator"
    given = f"LISTEN_FDNAMES={':'.join(names)} " if names else ""
    path.write_text(f'#!/bin/bash\n{given}LISTEN_FDS={len(sockets)} '
                    f'LISTEN_PID=$$ exec "{BINARY}" "$@" {moves}\n')
    path.chmod(0o755)
    return str(path)


def listening(address="127.0.0.1"):
    """A socket as a .socket unit has it; numbered so high that moving it to
    where it belongs overwrites none of the others."""
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(address)
    else:
        sock = socket.socket()
        sock.bind((address, 0))
    sock.listen(128)
    high = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 200)
    sock.close()
    return socket.socket(fileno=high)
