"""`cmake --install`: what lies there works without the source tree."""

import os
import pathlib
import shutil
import subprocess

import pytest

from support.node import BINARY, ROOT, Node


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
    for line in ("KillMode=mixed", "Type=exec", "RuntimeDirectory=",
                 "StateDirectory=", "ExecReload="):
        assert line in text, line
