"""A real nginx for tests, with what `moonshine nginx` prints.

    with Nginx([node.listen, ...], "--balance", "least_conn") as nginx:
        Client(nginx.address).get("/")

In a temporary directory, on a free port, as a child that is ended by its pid.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from support.node import command, eventually
from support.servers import Process, free_ports

MODULES = pathlib.Path("/usr/lib/nginx/modules")


def available():
    return shutil.which("nginx") is not None


def has_stream():
    return (MODULES / "ngx_stream_module.so").exists()


def configuration(*options):
    done = command("nginx", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(text, directory, full):
    """nginx -t: its complaints, empty if there are none."""
    directory = pathlib.Path(directory)
    if not full:
        # What a Debian system has around it, but nothing outside.
        temps = "".join(f"{kind}_temp_path {kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = "pid nginx.pid;\nerror_log error.log;\nevents {}\nhttp {\n" + \
            temps + text.replace("/var/log/nginx/", "") + "}\n"
    (directory / "nginx.conf").write_text(text)
    done = subprocess.run(
        ["nginx", "-t", "-q", "-p", directory, "-e", "error.log",
         "-c", "nginx.conf"], stdin=subprocess.DEVNULL, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0 or done.stdout
    # As root it says that `user` is missing, or not to be set, as it is.
    return done.stdout


class Nginx(Process):
    def __init__(self, nodes, *options, text=None, listen=None, edit=None,
                 user=None):
        home = pathlib.Path(tempfile.mkdtemp(prefix="moonshine-nginx-"))
        self.user = user
        self.port = free_ports(1)[0]
        self.address = ("127.0.0.1", self.port)
        listen = listen or f"127.0.0.1:{self.port}"
        if listen.startswith("unix:"):
            self.address = listen[5:]
        if text is None:
            upstream = ",".join(nodes)
            text = configuration("--full", "--upstream", upstream,
                                 "--listen", listen, *options)
        if edit:
            text = edit(text)
        self.text = text.replace("@PORT@", str(self.port))
        (home / "nginx.conf").write_text(self.text)
        # Its workers read sockets in directories that are the tester's.
        own = "daemon off;"
        if user is None and os.getuid() == 0:
            own += " user root;"
        super().__init__(["nginx", "-p", home, "-e", "error.log",
                          "-c", "nginx.conf", "-g", own], home)
        if user is not None:
            home.chmod(0o755)
            shutil.chown(home, user)
            self.line = ["setpriv", f"--reuid={user}", "--clear-groups",
                         *self.line]
        try:
            self.start()
            eventually(self.is_ready, f"nginx listens on {listen}")
        except BaseException:
            self.stop()
            raise

    def is_ready(self):
        assert self.process.poll() is None, self.log() + self.errors()
        family = socket.AF_UNIX if isinstance(self.address, str) \
            else socket.AF_INET
        with socket.socket(family) as probe:
            return probe.connect_ex(self.address) == 0

    def errors(self):
        path = self.home / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def access(self):
        path = self.home / "access.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_access(self, pattern):
        return eventually(lambda: re.search(pattern, self.access()),
                          f"/{pattern}/ in the access log")

    def stop(self):
        # A kill would leave its workers behind.
        if self.running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
