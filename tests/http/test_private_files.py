"""What a node keeps on disk is its user's alone: whatever the umask, and
whatever somebody else has put there before."""

import os
import pathlib
import shutil
import socket
import stat
import subprocess

import pytest

from support.admin import Admin
from support.node import BINARY, Node, eventually, write_app

APP = """
app:get("/", function(c)
    c:session():set("n", 1)
    return "ok"
end)
app:post("/spool", function(c)
    moonshine.sleep("50ms")
    return tostring(#c:body())
end)
"""
NOBODY, STRANGER = 65534, 1
needs_root = pytest.mark.skipif(os.getuid() != 0,
                                reason="only root can be several users")


def modes(top):
    """(path, mode) of all that is there, but for links and memory."""
    for folder, _, files in os.walk(top):
        for path in [folder, *(os.path.join(folder, f) for f in files)]:
            yield path, stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_nothing_is_open_to_others(no_umask, start, tmp_path):
    state = tmp_path / "state"
    node = start(APP, run_dir=tmp_path / "run", state_dir=state, settings={
        "log.file": str(tmp_path / "node.log"), "body_buffer": "1k",
        "temp_dir": str(tmp_path)})
    assert node.get("/").text == "ok"
    assert node.request("POST", "/spool", body="x" * 100000).text == "100000"
    assert Admin(node).reload()[0]
    eventually((state / "snapshots/test").exists, "it is kept")
    seen = [*modes(tmp_path / "run"), *modes(state),
            *modes(tmp_path / "node.log")]
    seen.append((tmp_path / "node.log",
                 stat.S_IMODE((tmp_path / "node.log").stat().st_mode)))
    names = {pathlib.Path(path).name for path, _ in seen}
    assert {"pid", "admin.sock", "secret", "sessions"} <= names
    for path, mode in seen:
        # The state directory lets the workers' user through, if that is not
        # who starts them.
        assert mode & 0o066 == 0, (path, oct(mode))


def test_a_log_that_is_there_keeps_its_mode(start, tmp_path):
    path = tmp_path / "node.log"
    path.touch()
    path.chmod(0o640)
    node = start(APP, settings={"log.file": str(path)})
    assert node.get("/").text == "ok"
    eventually(lambda: "access" in path.read_text(), "a line")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_admin_socket_elsewhere(no_umask, start, tmp_path):
    """It was open to all users for a moment after each start."""
    path = tmp_path / "admin.sock"
    seen = set()
    node = start(APP, "--admin", f"unix:{path}", wait=False)
    eventually(path.exists, "the socket")
    seen.add(stat.S_IMODE(path.stat().st_mode))
    node.wait_ready()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# ---- somebody else was there first ----


class Home:
    """A folder in which nobody, a user like others, runs a node."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        path.chmod(0o1777)
        self.app = write_app(path / "app", APP)
        self.binary = path / "moonshine"
        shutil.copy(BINARY, self.binary)
        for parent in (path / "app", *path.parents):
            if parent.stat().st_mode & 0o011 != 0o011:
                parent.chmod(parent.stat().st_mode | 0o011)

    def run(self, **options):
        return Node(self.app, binary=str(self.binary), user="nobody",
                    wait=False, **options)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def made_by(path, owner, mode=0o755):
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


@needs_root
@pytest.mark.parametrize("trap", ["folder", "link", "open"])
def test_a_run_directory_of_another_user(home, trap):
    """Who owns it may replace what is in it by what is theirs."""
    run = home.path / "run"
    if trap == "folder":
        made_by(run, STRANGER, 0o777)
    elif trap == "open":
        made_by(run, NOBODY, 0o777)
    else:
        made_by(home.path / "theirs", NOBODY)
        run.symlink_to(home.path / "theirs")
        os.lchown(run, STRANGER, STRANGER)
    with home.run(run_dir=run, state_dir=home.path / "state") as node:
        node.expect_exit = 1
        assert node.process.wait(20) == 1
        why = "can be written to by everybody" if trap == "open" else \
            "belongs to another user"
        assert f"{run} {why}" in node.log()
        assert [*run.iterdir()] == []


@needs_root
def test_a_command_does_not_talk_to_somebody_else(home):
    """Another user answers where the node would be."""
    folder = made_by(made_by(home.path / "run", STRANGER) / "test", STRANGER)
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(str(folder / "admin.sock"))
        (folder / "admin.sock").chmod(0o666)
        trap.listen(8)
        trap.settimeout(0)
        done = subprocess.run(
            [home.binary, "reload", "--name", "test", "--run-dir",
             home.path / "run"], user="nobody", text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=20)
        assert done.returncode != 0
        assert "belongs to another user" in done.stderr
        with pytest.raises(BlockingIOError):
            trap.accept()


@needs_root
def test_a_state_directory_of_another_user(home, tmp_path):
    """Code that is served when the one on disk fails is kept there: it is not
    taken from a folder that others can fill."""
    state = home.path / "state"
    with home.run(run_dir=home.path / "run", state_dir=state) as node:
        node.wait_ready()
        assert node.get("/").text == "ok"
    for folder, _, files in os.walk(state):
        for path in [folder, *(os.path.join(folder, f) for f in files)]:
            os.chown(path, STRANGER, STRANGER)
            os.chmod(path, 0o777)
    (home.path / "app/app.lua").write_text("error('broken')")
    with home.run(run_dir=home.path / "run2", state_dir=state) as node:
        node.expect_exit = 1
        assert node.process.wait(20) == 1
        assert "broken" in node.log()
        assert f"{state} belongs to another user" in node.log()


@needs_root
def test_a_log_that_is_a_link_of_another_user(home):
    target = home.path / "precious"
    target.write_text("")
    os.chown(target, NOBODY, NOBODY)
    link = home.path / "node.log"
    link.symlink_to(target)
    os.lchown(link, STRANGER, STRANGER)
    with home.run(run_dir=home.path / "run", state_dir=home.path / "state",
                  settings={"log.file": str(link)}) as node:
        node.expect_exit = 1
        assert node.process.wait(20) == 1
        assert "log.file: cannot write to" in node.log()
    assert target.read_text() == ""


def test_one_of_its_own_is_followed(start, tmp_path):
    link = tmp_path / "node.log"
    link.symlink_to(tmp_path / "real.log")
    node = start(APP, settings={"log.file": str(link)})
    assert node.get("/").text == "ok"
    eventually(lambda: "access" in link.read_text(), "a line")
    assert link.is_symlink()
