"""Every session store keeps what core/state/session_store.h promises."""

import os
import pathlib
import stat
import subprocess

import pytest

from support.servers import (Cluster, MemcachedServer, RedisServer, Sentinels)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get(
    "MOONSHINE_BIN", ROOT / "build/release/core/moonshine"))
PROGRAM = BIN.parents[1] / "tests/session_conformance"
CASES = 23
SECONDS = 100


def conform(url):
    """Runs the suite on a store; a failure shows the cases that failed."""
    done = subprocess.run([PROGRAM, url], capture_output=True, text=True,
                          timeout=SECONDS, check=False)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if not line.startswith(("ok ", "1.."))]
    assert not failed, "\n".join(failed) + "\n" + done.stderr
    assert lines and lines[-1] == f"1..{CASES}", done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


@pytest.fixture(name="kept")
def fixture_kept(tmp_path):
    directory = tmp_path / "state"
    yield directory
    names = {path.name for path in directory.iterdir()}
    assert names == {"sessions.mdb", "sessions.mdb-lock", "sessions.mdb-guard"}
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_lmdb(kept):
    conform(f"lmdb:{kept}")
    conform(f"lmdb:{kept}")  # and beside what is there already


def test_memory():
    conform("memory:")


@pytest.mark.parametrize("how", ["tcp", "unix", "password"])
def test_redis(how, tmp_path):
    unix = str(tmp_path / "redis.sock") if how == "unix" else None
    password = "s3 cret/@" if how == "password" else None
    with RedisServer(unix=unix) as server:
        if password is None:
            conform(server.url)
            conform(server.url)
            return
        server.cli("ACL", "SETUSER", "app", "on", f">{password}", "~moon:*",
                   "+@all")
        conform("redis://app:s3%20cret%2F%40@" + server.url[8:] + "/3")
        assert server.info("db0") is None and server.info("db3") is not None


def test_redis_behind_sentinels():
    with Sentinels() as sentinels:
        conform(sentinels.url())


def test_redis_cluster():
    with Cluster() as cluster:
        conform(cluster.url())
        used = [server for server in cluster.masters()
                if server.info("db0") is not None or
                int(server.info("total_commands_processed")) > 1000]
        assert len(used) == 3


def test_memcached():
    with MemcachedServer(options=["-I", "4m"]) as server:
        conform(server.url)
        conform(server.url)


def test_several_memcached():
    with MemcachedServer(options=["-I", "4m"]) as one, \
            MemcachedServer(options=["-I", "4m"]) as two:
        conform(f"memcached://127.0.0.1:{one.port},127.0.0.1:{two.port}/")
