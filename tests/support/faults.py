"""A proxy that makes trouble: between a client and a server, TCP or unix.

    with Proxy(("127.0.0.1", server.port)) as proxy:
        proxy.port, proxy.mode = ..., "freeze"

Its mode holds for what passes from then on:

    pass     forwards
    delay    forwards after `seconds`
    freeze   forwards nothing and closes nothing (a host that is gone)
    deaf     forwards the answers only: questions are lost
    mute     forwards the questions only: answers are lost
    garble   replaces the first byte of the next answer that begins a piece
    trickle  forwards answers a byte at a time
    say      answers each question itself, with `line`; for connections that
             begin in this mode

`cut()` closes all connections, with `after` bytes of the next answer;
`refuse()` closes the listening socket until `accept()`.
"""

import contextlib
import os
import pathlib
import re
import selectors
import socket
import tempfile
import threading
import time

from support.servers import free_ports

PIECE = 65536
QUESTION = re.compile(rb"\*\d+\r\n")  # how a command begins


class Pair:
    """A client and the server it is led to."""

    def __init__(self, client, server):
        self.sockets = {client: server, server: client}
        self.client, self.server = client, server
        self.queues = {client: [], server: []}  # what is to be sent to each

    def close(self):
        for sock in self.sockets:
            sock.close()


class Proxy:
    def __init__(self, target, unix=False):
        self.target = target
        self.home = tempfile.mkdtemp(prefix="moonshine-proxy-") if unix else None
        self.path = f"{self.home}/socket" if unix else None
        self.port = 0 if unix else free_ports(1)[0]
        self.seconds = 0.1
        self.mode = "pass"
        self.line = b"-ERR no\r\n"
        self.cut_after = None
        self.accepted = 0  # and led on
        self.tried = 0
        self.pairs = {}
        self.listener = None
        self.selector = selectors.DefaultSelector()
        self.ended = False
        self.lock = threading.Lock()
        self.wake_in, self.wake_out = socket.socketpair()
        self.wake_in.setblocking(False)
        self.selector.register(self.wake_in, selectors.EVENT_READ)
        self.accept()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    # ---- what a test calls ----

    def accept(self):
        with self.lock:
            if self.listener is not None:
                return
            if self.path:
                pathlib.Path(self.path).unlink(missing_ok=True)
                self.listener = socket.socket(socket.AF_UNIX)
                self.listener.bind(self.path)
            else:
                self.listener = socket.socket()
                self.listener.setsockopt(socket.SOL_SOCKET,
                                         socket.SO_REUSEADDR, 1)
                self.listener.bind(("127.0.0.1", self.port))
            self.listener.listen(128)
            self.listener.setblocking(False)
            self.selector.register(self.listener, selectors.EVENT_READ)

    def refuse(self):
        with self.lock:
            self.close_listener()
            self.close_pairs()

    def cut(self, after=None, then=None):
        """At once, or behind that many bytes of the next answer; `then` is the
        mode for those who come next."""
        with self.lock:
            if after is None:
                self.close_pairs()
            else:
                self.cut_after = after
            self.mode = then or self.mode
        self.wake_out.send(b"x")

    def stop(self):
        self.ended = True
        self.wake_out.send(b"x")
        self.thread.join()
        with self.lock:
            self.close_listener()
            self.close_pairs()
        self.selector.close()
        self.wake_in.close()
        self.wake_out.close()
        if self.home:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            os.rmdir(self.home)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # ---- the thread ----

    def close_listener(self):
        if self.listener is not None:
            self.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None

    def close_pairs(self):
        for pair in set(self.pairs.values()):
            self.close_pair(pair)

    def close_pair(self, pair):
        for sock in pair.sockets:
            if self.pairs.pop(sock, None) is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self.selector.unregister(sock)
        pair.close()

    def open_pair(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        self.tried += 1
        server = socket.socket(socket.AF_UNIX) \
            if isinstance(self.target, str) else socket.socket()
        try:
            server.connect(self.target)
        except OSError:
            client.close()
            server.close()
            return
        pair = Pair(client, server)
        self.accepted += 1
        for sock in pair.sockets:
            sock.setblocking(False)
            self.pairs[sock] = pair
            self.selector.register(sock, selectors.EVENT_READ)

    def forward(self, sock):
        pair = self.pairs[sock]
        try:
            data = sock.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close_pair(pair)
            return
        answer = sock is pair.server
        mode = self.mode
        if mode == "freeze" or mode == ("mute" if answer else "deaf"):
            return  # read, so that the sender sees nothing of it, and lost
        if mode == "say":
            if not answer:
                said = self.line * len(QUESTION.findall(data))
                pair.queues[sock].append((time.monotonic(), said))
            return
        if mode == "garble" and answer and data[:1] in b"+-:$*":
            self.mode = "pass"
            data = b"\x7f" + data[1:]
        due = time.monotonic() + (self.seconds if mode == "delay" else 0)
        cut = answer and self.cut_after is not None
        if cut:
            data, self.cut_after = data[:self.cut_after], None
        queue = pair.queues[pair.sockets[sock]]
        if mode == "trickle" and answer:
            queue += [(due, data[i:i + 1]) for i in range(len(data))]
        else:
            queue.append((due, data))
        if cut:
            queue.append((due, None))

    def send_due(self):
        """Sends what is due; when to look again."""
        now, again = time.monotonic(), 1.0
        for pair in set(self.pairs.values()):
            for sock, queue in pair.queues.items():
                while queue and sock in self.pairs:
                    due, data = queue[0]
                    if due > now:
                        again = min(again, due - now)
                        break
                    if data is None:
                        self.close_pair(pair)
                        break
                    try:
                        sent = sock.send(data)
                    except BlockingIOError:
                        again = min(again, 0.002)
                        break
                    except OSError:
                        self.close_pair(pair)
                        break
                    if sent < len(data):
                        queue[0] = (due, data[sent:])
                    else:
                        queue.pop(0)
        return again

    def run(self):
        again = 1.0
        while not self.ended:
            events = self.selector.select(again)
            with self.lock:
                for key, _ in events:
                    if key.fileobj is self.wake_in:
                        with contextlib.suppress(BlockingIOError):
                            self.wake_in.recv(4096)
                    elif key.fileobj is self.listener:
                        self.open_pair()
                    elif key.fileobj in self.pairs:
                        self.forward(key.fileobj)
                again = self.send_due()
