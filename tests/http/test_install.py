"""`cmake --install`: what lies there works without the source tree."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from support.node import BINARY, ROOT, Node, write_app
from support.upgrade import upgrade


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    build = pathlib.Path(BINARY).parents[1]
    if not (build / "cmake_install.cmake").exists():
        pytest.skip("the binary under test is not in a build tree")
    where = tmp_path_factory.mktemp("prefix")
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(where)],
                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                   check=True)
    return where


def test_files(prefix):
    assert os.access(prefix / "bin/moonshine", os.X_OK)
    assert (prefix / "share/moonshine/lua/moonshine/init.lua").exists()
    assert (prefix / "share/moonshine/examples/demo/app.lua").exists()
    assert (prefix / "share/doc/moonshine/README.md").exists()
    assert list(prefix.rglob("*.a")) == []


def test_installed_node_serves(prefix):
    binary = str(prefix / "bin/moonshine")
    with Node('app:get("/", function() return "installed" end)',
              binary=binary) as node:
        assert node.get("/").text == "installed"


def test_installed_binary_needs_nothing_of_the_tree(prefix, tmp_path):
    """Not even the path of the checkout is in it, but for debug sections."""
    copy = tmp_path / "moonshine"
    shutil.copy(prefix / "bin/moonshine", copy)
    subprocess.run(["strip", str(copy)], check=True)
    if "asan" not in BINARY:
        assert str(ROOT).encode() not in copy.read_bytes()


def test_unit_file(prefix):
    text = (prefix / "lib/systemd/system/moonshine@.service").read_text()
    assert f"ExecStart={prefix}/bin/moonshine " in text
    for line in ("KillMode=mixed", "Type=notify", "RuntimeDirectory=",
                 "StateDirectory=", "WatchdogSec=",
                 f"ExecReload={prefix}/bin/moonshine reload "):
        assert line in text, line


def test_units_as_systemd_reads_them(prefix):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    units = prefix / "lib/systemd/system"

    def analyze(*args):
        done = subprocess.run(
            ["systemd-analyze", *args], cwd=units, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning",
                              "SYSTEMD_UNIT_PATH": f"{units}:"})
        assert done.returncode == 0, done.stdout
        return done.stdout
    said = analyze("verify", "moonshine@shop.service", "moonshine@shop.socket")
    # Of other units of this host nothing is our business.
    assert "moonshine@" not in said, said
    # At most 1.4 on a scale up to 10 (which is open to everything).
    analyze("security", "--offline=yes", "--threshold=14", "--no-pager",
            "./moonshine@.service")


def test_the_filter_of_the_unit_lets_us_work(prefix, tmp_path):
    """No system call that a node makes, with a reload and an upgrade, is one
    that the unit forbids."""
    for tool in ("strace", "systemd-analyze"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if "asan" in BINARY:
        pytest.skip("the sanitizer makes calls of its own")
    text = (prefix / "lib/systemd/system/moonshine@.service").read_text()
    wanted, refused = re.findall(r"^SystemCallFilter=(~?@\S+)$", text, re.M)
    groups, name = {}, None
    for line in subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager"],
            stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n"):
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if line.startswith("@"):
            name = line.split()[0]
            groups[name] = []
        elif name and line.startswith("    ") and "#" not in line:
            groups[name].append(line.strip())

    def calls(group):
        return {call for entry in groups[group] for call in
                (calls(entry) if entry.startswith("@") else [entry])}
    allowed = calls(wanted) - calls(refused.removeprefix("~"))
    assert len(allowed) > 200
    trace = tmp_path / "trace"
    tracer = tmp_path / "traced"
    tracer.write_text(f'#!/bin/sh\nexec strace -D -f -qq -o "{trace}" '
                      f'"{prefix}/bin/moonshine" "$@"\n')
    tracer.chmod(0o755)
    node = Node("""
        app:get("/", function(c)
            c:session():set("n", 1)
            return "ok"
        end)""", binary=str(tracer))
    with node:
        assert node.get("/").text == "ok"
        assert node.command("reload").returncode == 0
        assert node.get("/").text == "ok"
        upgrade(node)
        assert node.get("/").text == "ok"
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.M))
    assert {"execve", "memfd_create", "accept4"} <= used
    assert not used - allowed


def test_unit_folders(prefix, tmp_path):
    """As under the unit: a run directory of root's, in it a folder of the
    user's, and a user who is nobody."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    run = tmp_path / "run"
    for folder, owner in ((run, 0), (run / "shop", 65534),
                          (tmp_path / "state", 65534)):
        folder.mkdir(mode=0o755)
        os.chown(folder, owner, -1)
    for parent in (tmp_path, prefix, *tmp_path.parents):
        if parent.stat().st_mode & 0o011 != 0o011:
            parent.chmod(parent.stat().st_mode | 0o011)
    app = write_app(tmp_path / "app", 'app:get("/", function() return "x" end)')
    node = Node(app, name="shop", run_dir=run, state_dir=tmp_path / "state",
                user="nobody", binary=str(prefix / "bin/moonshine"))
    with node:
        assert node.get("/").text == "x"
        done = node.command("reload")
        assert (done.returncode, "generation 2" in done.stdout) == (0, True)
        status = pathlib.Path(f"/proc/{node.pid}/status").read_text()
        assert "Uid:\t65534" in status
