"""Every session store keeps what core/state/session_store.h promises."""

import os
import pathlib
import stat
import subprocess

import pytest

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
