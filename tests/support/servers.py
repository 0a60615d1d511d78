"""Real servers for tests: Redis alone, behind sentinels, as a cluster;
memcached.

    with RedisServer() as redis:
        redis.url, redis.port, redis.cli("SET", "a", "1")

Each runs in a temporary directory, on a free port (or a unix socket), as a
child that is ended by its pid. "Ready" is polled for, with a deadline.
"""

import getpass
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

READY_SECONDS = 30.0


def poll(check, what, seconds=READY_SECONDS):
    """Until check() gives something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count, beside=0):
    """Ports below the range from which the kernel gives out others, so that no
    connection takes one that a stopped server wants again. With `beside`, the
    ports that far above are free too (the bus of a cluster)."""
    ports = []
    while len(ports) < count:
        port = random.randrange(11000, 21000)
        if port not in ports and is_free(port) and \
                (not beside or is_free(port + beside)):
            ports.append(port)
    return ports


class Process:
    """A server that runs as a child of the test."""

    def __init__(self, line, home, log="log"):
        self.line, self.home = [str(word) for word in line], pathlib.Path(home)
        self.log_path = self.home / log
        self.process = None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.line, cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        return self

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """As a crash: no last words."""
        if self.running():
            self.process.kill()  # also one that is stopped
            self.process.wait()

    def pause(self):
        """Still there, but silent."""
        self.signal(signal.SIGSTOP)
        stat = pathlib.Path(f"/proc/{self.pid}/stat")
        poll(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T",
             "it stops")

    def resume(self):
        self.signal(signal.SIGCONT)

    def log(self):
        return self.log_path.read_text(errors="replace")


class RedisServer(Process):
    """One redis-server; options as in its configuration file."""

    def __init__(self, port=None, unix=None, password=None, home=None,
                 start=True, config=(), **options):
        self.own_home = home is None
        home = home or tempfile.mkdtemp(prefix="moonshine-redis-")
        self.port = 0 if unix else port or free_ports(1)[0]
        self.unix, self.password = unix, password
        lines = [f"port {self.port}", "bind 127.0.0.1", 'save ""',
                 "daemonize no", "enable-debug-command yes",
                 "repl-diskless-sync-delay 0", "loglevel notice", *config]
        if unix:
            lines.append(f"unixsocket {unix}")
        if password:
            lines += [f"requirepass {password}", f"masterauth {password}"]
        for name, value in options.items():
            lines.append(f"{name.replace('_', '-')} {value}")
        path = pathlib.Path(home) / f"redis-{self.port}.conf"
        path.write_text("\n".join(lines) + "\n")
        super().__init__(["redis-server", path], home, f"log-{self.port}")
        if start:
            try:
                self.start().wait_ready()
            except BaseException:
                self.stop()
                raise

    @property
    def url(self):
        user = f":{self.password}@" if self.password else ""
        return f"redis+unix://{user}{self.unix}" if self.unix \
            else f"redis://{user}127.0.0.1:{self.port}"

    def cli_line(self, *words):
        line = ["redis-cli", "--no-auth-warning"]
        line += ["-s", self.unix] if self.unix else ["-p", str(self.port)]
        if self.password:
            line += ["-a", self.password]
        return line + [str(word) for word in words]

    def cli(self, *words, check=True, seconds=30):
        """The answer as redis-cli prints it."""
        done = subprocess.run(
            self.cli_line(*words), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=seconds, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"redis-cli {words}: {done.stdout}")
        return done.stdout.strip()

    def info(self, field):
        for line in self.cli("INFO").splitlines():
            name, _, value = line.strip().partition(":")
            if name == field:
                return value
        return None

    def is_ready(self):
        if not self.running():
            raise AssertionError("redis-server ended:\n" + self.log()[-2000:])
        return self.cli("PING", check=False) == "PONG"

    def wait_ready(self):
        poll(self.is_ready, "redis-server answers")
        return self

    def restart(self):
        self.kill()
        self.start()
        return self.wait_ready()

    def stop(self):
        self.kill()
        if self.own_home:
            shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class MemcachedServer(Process):
    """One memcached; options as on its command line."""

    def __init__(self, port=None, options=()):
        home = tempfile.mkdtemp(prefix="moonshine-memcached-")
        self.port = port or free_ports(1)[0]
        super().__init__(
            ["memcached", "-l", "127.0.0.1", "-p", self.port, "-U", "0",
             "-u", getpass.getuser(), *options], home)
        self.start()
        self.wait_ready()

    @property
    def url(self):
        return f"memcached://127.0.0.1:{self.port}"

    def ask(self, line):
        """The first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.settimeout(10)
            sock.sendall(line.encode() + b"\r\n")
            return sock.makefile().readline().strip()

    def is_ready(self):
        if not self.running():
            raise AssertionError("memcached ended:\n" + self.log())
        try:
            return self.ask("mn") == "MN"
        except OSError:
            return False

    def wait_ready(self):
        poll(self.is_ready, "memcached answers")
        return self

    def restart(self):
        self.kill()
        self.start()
        return self.wait_ready()

    def stop(self):
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Group:
    """Several servers that share a directory."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="moonshine-redis-")
        self.members = []

    def add(self, server):
        self.members.append(server)
        return server

    def stop(self):
        for server in self.members:
            server.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Sentinels(Group):
    """One master, two replicas, three sentinels that watch them."""

    def __init__(self, password=None, sentinel_password=None, down_ms=800):
        super().__init__()
        try:
            ports = free_ports(6)
            self.servers = [
                self.add(RedisServer(
                    port=port, password=password, home=self.home,
                    config=[f"replicaof 127.0.0.1 {ports[0]}"] if i else [],
                    replica_priority=100 - i))
                for i, port in enumerate(ports[:3])]
            self.sentinel_ports = ports[3:]
            self.sentinels = [
                self.add(self.make_sentinel(port, ports[0], password,
                                            sentinel_password, down_ms))
                for port in self.sentinel_ports]
            self.sentinel_password = sentinel_password
            poll(self.is_settled, "sentinels know each other")
        except BaseException:
            self.stop()
            raise

    def make_sentinel(self, port, master, password, own_password, down_ms):
        lines = [f"port {port}", "bind 127.0.0.1", "daemonize no",
                 f"sentinel monitor mymaster 127.0.0.1 {master} 2",
                 f"sentinel down-after-milliseconds mymaster {down_ms}",
                 "sentinel failover-timeout mymaster 1000"]
        if password:
            lines.append(f"sentinel auth-pass mymaster {password}")
        if own_password:
            lines.append(f"requirepass {own_password}")
        path = pathlib.Path(self.home) / f"sentinel-{port}.conf"
        path.write_text("\n".join(lines) + "\n")
        sentinel = Process(["redis-sentinel", path], self.home, f"log-{port}")
        return sentinel.start()

    def ask(self, port, *words):
        line = ["redis-cli", "--no-auth-warning", "-p", str(port)]
        if self.sentinel_password:
            line += ["-a", self.sentinel_password]
        return subprocess.run(
            [*line, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=30,
            check=False).stdout

    def is_settled(self):
        for port in self.sentinel_ports:
            fields = self.ask(port, "SENTINEL", "MASTER", "mymaster").split()
            facts = dict(zip(fields[::2], fields[1::2]))
            if facts.get("num-slaves") != "2" or \
                    facts.get("num-other-sentinels") != "2" or \
                    facts.get("flags") != "master":
                return False
        return all(server.info("master_link_status") == "up"
                   for server in self.servers[1:])

    def master_port(self):
        """As a sentinel that runs says; 0 if none does."""
        for sentinel, port in zip(self.sentinels, self.sentinel_ports):
            if sentinel.running():
                answer = self.ask(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME",
                                  "mymaster").split()
                return int(answer[1]) if len(answer) == 2 else 0
        return 0

    def master(self):
        port = self.master_port()
        return next(s for s in self.servers if s.port == port)

    def url(self, user="", db=""):
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{user}{hosts}/mymaster{db}"


class Cluster(Group):
    """Three masters with a replica each, made by redis-cli --cluster create."""

    def __init__(self, password=None, node_timeout=1500):
        super().__init__()
        try:
            ports = free_ports(6, beside=10000)
            self.servers = [
                self.add(RedisServer(
                    port=port, password=password, home=self.home, start=False,
                    cluster_enabled="yes", cluster_node_timeout=node_timeout,
                    cluster_config_file=f"nodes-{port}.conf",
                    cluster_require_full_coverage="no"))
                for port in ports]
            for server in self.servers:
                server.start()
            for server in self.servers:
                server.wait_ready()
            self.manage("--cluster", "create",
                        *[f"127.0.0.1:{port}" for port in ports],
                        "--cluster-replicas", "1", "--cluster-yes")
            poll(self.is_settled, "the cluster is whole")
        except BaseException:
            self.stop()
            raise

    def manage(self, *words, seconds=60):
        return self.servers[0].cli(*words, seconds=seconds)

    def is_settled(self):
        for server in self.servers:
            info = server.cli("CLUSTER", "INFO", check=False)
            if "cluster_state:ok" not in info or \
                    "cluster_known_nodes:6" not in info:
                return False
        return sum(server.info("master_link_status") == "up"
                   for server in self.servers) == 3

    def nodes(self, by=None):
        """{port: (id, flags, [slot ranges])} as one node sees them."""
        by = by or next(s for s in self.servers if s.running())
        seen = {}
        for line in by.cli("CLUSTER", "NODES").splitlines():
            words = line.split()
            port = int(words[1].partition("@")[0].rpartition(":")[2])
            seen[port] = (words[0], words[2].split(","), words[8:])
        return seen

    def masters(self):
        return [server for server in self.servers
                if server.running() and "master" in
                self.nodes(server)[server.port][1]]

    def url(self, user=""):
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in self.servers[:2])
        return f"redis+cluster://{user}{hosts}"
