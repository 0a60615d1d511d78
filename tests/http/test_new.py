"""moonshine new: what it writes works as it is, and it changes nothing else."""

import json
import os
import pathlib
import pwd
import resource
import shutil
import subprocess

import pytest

from support.node import BINARY, ROOT, Node, command, environment, eventually

FILES = {
    ".gitignore", ".luacheckrc", ".luarc.json", "README.md", "app.lua",
    "config.lua", "deploy/nginx.conf", "deploy/systemd.conf", "lib/moon.lua",
    "public/moon.svg", "public/style.css", "spec/app_spec.lua",
    "views/error.html", "views/home.html", "views/layout.html",
}


def files(directory):
    return {str(p.relative_to(directory))
            for p in directory.rglob("*") if not p.is_dir()}


def new(directory, *args, **options):
    return command("new", directory, *args, **options)


@pytest.fixture
def shop(tmp_path):
    done = new("shop", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "shop"


def test_files(shop):
    source = ROOT / "apps/new"
    assert files(shop) == FILES == files(source) - {"files.cmake"}
    for name in FILES:
        text = (shop / name).read_text()
        if name != ".luarc.json":
            assert text == (source / name).read_text().replace("@NAME@", "shop")
        assert "@LIBRARY@" not in text
    assert "<h1>shop is up</h1>" in (shop / "views/home.html").read_text()


def test_says_what_to_do_next(tmp_path):
    assert new("shop", cwd=tmp_path).stdout.splitlines() == [
        "made 15 files in shop. Next:",
        "    moonshine run --dev shop   # http://127.0.0.1:8080/, and reloads "
        "when you save",
        "    moonshine test shop        # its tests",
        "    less shop/README.md        # what is where, and how it goes on a "
        "server",
    ]


def test_in_place(tmp_path):
    """In the current directory, where `git init` was before."""
    here = tmp_path / "my-shop"
    (here / ".git").mkdir(parents=True)
    done = new(".", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert "    moonshine test   " in done.stdout
    assert files(here) == FILES
    assert "my-shop is up" in (here / "views/home.html").read_text()
    assert command("check", cwd=here).returncode == 0


def test_checks_and_tests(shop):
    done = command("check", shop)
    assert (done.returncode, done.stdout) == (0, "ok: 4 routes\n"), done.stderr
    done = command("test", shop)
    assert done.returncode == 0, done.stdout
    assert "7 successes / 0 failures / 0 errors" in done.stdout


def test_luacheck(shop):
    if not shutil.which("luacheck"):
        pytest.skip("luacheck is not installed")
    done = subprocess.run(["luacheck", "-q", "."], cwd=shop, text=True,
                          stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stdout


def test_serves_and_reloads_on_save(shop):
    with Node(shop, "--dev") as node:
        page = node.get("/", {"Accept": "text/html"})
        assert page.status == 200 and "<h1>shop is up</h1>" in page.text
        assert node.get("/assets/style.css").status == 200
        assert node.get("/hello/you").text == "Hello, you!\n"
        assert node.get("/api/moon?date=2025-03-14").json()["name"] == \
            "full moon"
        refused = node.get("/api/moon?date=soon",
                           {"Accept": "application/json"})
        assert refused.status == 400 and "date" in refused.text
        lost = node.get("/nowhere", {"Accept": "text/html,*/*;q=0.8"})
        assert lost.status == 404 and "there is no /nowhere" in lost.text
        text = (shop / "app.lua").read_text()
        route = 'app:get("/made", function() return "by hand" end)\n'
        node.rewrite(text.replace("\nreturn app", route + "\nreturn app"))
        eventually(lambda: node.get("/made").text == "by hand", "the route")


def test_bugs_look_like_its_pages_without_dev(shop):
    text = (shop / "app.lua").read_text()
    (shop / "app.lua").write_text(text.replace(
        "\nreturn app", 'app:get("/bug", function() error("x") end)\n'
        "\nreturn app"))
    with Node(shop) as node:
        page = node.get("/bug", {"Accept": "text/html"})
        assert page.status == 500 and "That did not work" in page.text
        assert "app.lua" not in page.text
        bug = node.get("/bug", {"Accept": "application/json"})
        assert bug.status == 500
        assert bug.json()["error"].startswith("a fault of ours, ")


# Refusals: nothing is written, and nothing that was there changes.

@pytest.mark.parametrize("where, message", [
    ("full", 'full is not empty: "a.txt" is in the way; nothing was written'),
    ("full/a.txt", "full/a.txt: is not a directory"),
    ("none/shop", 'there is no directory none/ to make "shop" in'),
    ("none/deep/shop", "there is no directory none/deep/ to make"),
    ("my shop", '"my shop" cannot be the name of an application: take '
                'letters, digits, "_" and "-", at most 64'),
    ("a" * 65, "cannot be the name"), ("caf\u00e9", "cannot be the name"),
    (".hidden", "cannot be the name"), ("shop.d/", "cannot be the name"),
])
def test_refuses(tmp_path, where, message):
    full = tmp_path / "full"
    full.mkdir()
    for name in ("b.txt", "a.txt"):
        (full / name).write_text("mine")
    done = new(where, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""
    assert files(tmp_path) == {"full/a.txt", "full/b.txt"}
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    assert (full / "a.txt").read_text() == "mine"


def test_wrong_use(tmp_path):
    for args in ((), ("a", "b"), ("--force", "a")):
        done = command("new", *args, cwd=tmp_path)
        assert done.returncode == 2, args
        assert "moonshine new: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_time_changes_nothing(shop):
    (shop / "app.lua").write_text("-- mine\n")
    assert new(shop).returncode == 1
    assert (shop / "app.lua").read_text() == "-- mine\n"


def limited():
    """No file may have more than 600 bytes, as if the disk were full."""
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_half_way_leaves_nothing(tmp_path, exists):
    where = tmp_path / "shop"
    if exists:
        where.mkdir()
    done = subprocess.run(
        [BINARY, "new", "shop"], cwd=tmp_path, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, check=False, preexec_fn=limited)
    assert done.returncode == 1
    assert done.stderr == "moonshine new: shop/README.md: File too large\n"
    assert where.exists() == exists
    assert files(tmp_path) == set()


def test_umask(tmp_path):
    before = os.umask(0o027)
    try:
        assert new("shop", cwd=tmp_path).returncode == 0
    finally:
        os.umask(before)
    mode = lambda path: (tmp_path / path).stat().st_mode & 0o777
    assert mode("shop") == mode("shop/lib") == 0o750
    assert mode("shop/app.lua") == 0o640


def test_as_somebody_else(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o011 != 0o011:
            parent.chmod(parent.stat().st_mode | 0o011)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    env = environment({"HOME": str(home)})
    env.pop("MOONSHINE_USER")

    def run(*args):
        return subprocess.run(
            [BINARY, *args], cwd=home, env=env, user="nobody", text=True,
            group=nobody.pw_gid, extra_groups=[], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    assert run("new", "shop").returncode == 0
    assert (home / "shop/app.lua").stat().st_uid == nobody.pw_uid
    for verb in ("check", "test"):
        done = run(verb, "shop")
        assert done.returncode == 0, done.stdout + done.stderr
    denied = tmp_path / "denied"
    denied.mkdir(mode=0o755)
    done = run("new", str(denied))
    assert done.returncode == 1
    assert "Permission denied" in done.stderr and files(denied) == set()


# Where the editor finds Moonshine's functions.

def library(directory):
    return json.loads((directory / ".luarc.json").read_text())[
        "workspace.library"]


def test_library_of_the_build_tree(tmp_path):
    build = pathlib.Path(BINARY).resolve().parents[1]
    if not build.is_relative_to(ROOT):
        pytest.skip("the binary under test is not in this tree")
    assert new("shop", cwd=tmp_path, env={"MOONSHINE_LUA": ""}) \
        .returncode == 0
    assert library(tmp_path / "shop") == [str(ROOT / "lua")]


def test_library_that_was_installed(tmp_path):
    build = pathlib.Path(BINARY).resolve().parents[1]
    if not (build / "cmake_install.cmake").exists():
        pytest.skip("the binary under test is not in a build tree")
    prefix = tmp_path / 'with "quotes"'
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(prefix)],
                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                   check=True)
    binary = str(prefix / "bin/moonshine")
    env = environment({"MOONSHINE_LUA": ""})
    for line in (["new", "shop"], ["check", "shop"], ["test", "shop"]):
        done = subprocess.run([binary, *line], cwd=tmp_path, env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert library(tmp_path / "shop") == [str(prefix / "share/moonshine/lua")]
    assert (prefix / "share/moonshine/lua/moonshine/init.lua").exists()


def test_library_that_is_not_there(tmp_path):
    alone = tmp_path / "a/b/c/d/e/f/moonshine"
    alone.parent.mkdir(parents=True)
    shutil.copy(BINARY, alone)
    done = subprocess.run([str(alone), "new", "shop"], cwd=tmp_path, text=True,
                          env=environment({"MOONSHINE_LUA": ""}),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    assert done.returncode == 0
    assert "name their folder in shop/.luarc.json" in done.stderr
    assert library(tmp_path / "shop") == []


def test_the_first_hour():
    done = subprocess.run(
        [str(ROOT / "tests/first_hour")], text=True,
        env=environment({"MOONSHINE_BIN": BINARY}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert done.stdout.endswith("first_hour: all as it should be\n")
