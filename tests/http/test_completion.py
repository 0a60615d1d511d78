"""`moonshine completion`: what real shells complete with it."""

import fcntl
import os
import pathlib
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time

import pytest

from support import node as support_node
from support.node import command, environment, eventually

BINARY = os.path.abspath(support_node.BINARY)
HELLO = 'app:get("/", function() return "hello" end)'

BASH = '''
set -u
source <("$0" completion bash)
COMP_LINE=$1 COMP_POINT=${#1}
_moonshine "$0"
for one in "${COMPREPLY[@]}"; do printf '%s\\n' "$one"; done
'''


def complete(line, cwd=None, before=""):
    done = subprocess.run(
        ["bash", "--norc", "-c", before + BASH, BINARY, line],
        env=environment(), cwd=cwd, capture_output=True, text=True,
        timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout.split("\n")[:-1]


def commands():
    """Those that the help lists."""
    return re.findall(r"^  ([a-z]+) ", command("--help").stdout, re.M)


def test_commands():
    assert set(complete("moonshine ")) == {*commands(), "help", "--help",
                                           "--version"}
    assert complete("moonshine ro") == ["routes", "route", "rollback"]
    assert complete("moonshine help conf") == ["config"]
    assert complete("moonshine nonsense ") == []


def test_options_are_those_of_the_help():
    for name in commands():
        shown = set(re.findall(r"^  (--[a-z-]+)",
                               command(name, "--help").stdout, re.M))
        assert set(complete(f"moonshine {name} --")) == shown, name


def test_keys_are_those_of_the_help():
    shown = re.findall(r"^  ([a-z_.]+)", command("help", "config").stdout,
                       re.M)
    assert len(shown) > 50
    assert sorted(complete("moonshine run --set ")) == \
        sorted(key + "=" for key in shown)
    assert complete("moonshine check app --set=body_l") == ["body_limit="]
    assert complete("moonshine run --set timeout=") == []
    # Where '=' does not end a word, the reply begins with what is there.
    assert complete("moonshine run --set=body_l",
                    before="COMP_WORDBREAKS=' ';") == ["--set=body_limit="]


def test_files(tmp_path):
    for name in ("app.lua", "notes.txt", "a dir/app.lua"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(complete("moonshine run ", tmp_path)) == ["a dir", "app.lua"]
    assert complete("moonshine run --dev a", tmp_path) == ["a dir", "app.lua"]
    assert complete("moonshine run --config n", tmp_path) == ["notes.txt"]
    assert complete("moonshine run --state-dir ", tmp_path) == ["a dir"]
    assert complete("moonshine run app.lua ", tmp_path) == []
    assert complete("moonshine run --listen ", tmp_path) == []


def test_words_that_repeat(tmp_path):
    for name in ("app.lua", "a_spec.lua", "b_spec.lua"):
        (tmp_path / name).touch()
    specs = ["a_spec.lua", "b_spec.lua"]
    assert complete("moonshine test . a_spec.lua --jobs 2 b", tmp_path) == \
        specs[1:]
    assert sorted(complete("moonshine test . a_spec.lua b_spec.lua ",
                           tmp_path)) == sorted(["app.lua", *specs])
    assert len(command("completion", "bash").stdout) < 20000


def test_the_words_of_route(tmp_path):
    (tmp_path / "app.lua").touch()
    assert complete("moonshine route P", tmp_path) == ["POST", "PUT", "PATCH"]
    assert complete("moonshine route GET ", tmp_path) == []
    assert complete("moonshine route GET / ", tmp_path) == ["app.lua"]
    assert complete("moonshine completion ") == ["bash", "zsh"]


def test_names_of_nodes(start, tmp_path):
    first, second = start(HELLO, name="one"), start(HELLO, name="two")
    for node in (first, second):
        where = node.run_dir
        assert complete(f"moonshine reload --run-dir {where} --name ") == \
            [node.name]
        assert complete(f"moonshine status --run-dir={where} --name=t") == \
            (["two"] if node is second else [])
    (first.run_dir / "$(touch trap)").mkdir()
    done = command("completion", "nodes", "--run-dir", first.run_dir)
    assert (done.returncode, done.stdout) == (0, "one\n")
    done = command("completion", "nodes", "--run-dir", tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("args, hint", [
    ([], "bash or zsh"), (["fish"], "fish"), (["bash", "zsh"], "zsh")])
def test_wrong_use(args, hint):
    done = command("completion", *args)
    assert done.returncode == 2 and hint in done.stderr


class Terminal:
    """A shell somebody types into. What it echoes and completes is text
    with escape sequences, which are taken out."""

    def __init__(self, argv, cwd, env):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            # Wide, so that no line is scrolled or wrapped.
            fcntl.ioctl(0, termios.TIOCSWINSZ,
                        struct.pack("HHHH", 50, 300, 0, 0))
            os.execvpe(argv[0], argv, environment(env))

    def read(self):
        while select.select([self.fd], [], [], 0)[0]:
            try:
                more = os.read(self.fd, 65536)
            except OSError:
                break
            if not more:
                break
            self.text += re.sub(r"\x1b(\[[?0-9;]*[a-zA-Z]|[=>])|[\r\a]", "",
                                more.decode(errors="replace"))
        return self.text

    def type(self, keys, wanted):
        """Types, and waits until the text ends with what is wanted. \\x15
        (Ctrl-U) takes back what was typed."""
        os.write(self.fd, keys.encode())
        eventually(lambda: re.search(wanted, self.read()),
                   f"{wanted!r} after {keys!r}")

    def end(self):
        os.close(self.fd)  # hangs up
        deadline = time.monotonic() + 20
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
            time.sleep(0.01)


@pytest.fixture
def terminal(tmp_path):
    running = []

    def start_shell(*argv, **env):
        if shutil.which(argv[0]) is None:
            pytest.skip(f"there is no {argv[0]}")
        home = tmp_path / "home"
        (home / "bin").mkdir(parents=True)
        (home / "bin/moonshine").symlink_to(BINARY)
        running.append(Terminal(argv, home, {
            "HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}",
            "TERM": "dumb", "PS1": "ready> ", **env}))
        return running[-1]

    yield start_shell
    for it in running:
        it.end()


def test_bash_by_hand(terminal):
    shell = terminal("bash", "--norc", "--noprofile", "-i",
                     INPUTRC="/dev/null")
    shell.type("source <(moonshine completion bash); echo so''urced\n",
               r"sourced\n.*ready> $")
    shell.type("moonshine comp\t", "moonshine completion $")
    shell.type("ba\t", r"completion bash $")
    shell.type("\x15moonshine run --set=body_l\t", r"--set=body_limit=$")
    shell.type("2m --no\t", r"=2m --no-fallback $")


def zsh(terminal, *lines):
    shell = terminal("zsh", "-f", "-i")
    for line in ("autoload -Uz compinit", "compinit -D -u", "unsetopt beep",
                 *lines):
        shell.type(line + "; PS1='re''ady> '; print do''ne\n",
                   r"done\n.*ready> $")
        shell.text = ""
    return shell


@pytest.mark.parametrize("way", ["sourced", "in fpath"])
def test_zsh_by_hand(terminal, tmp_path, start, way):
    node = start(HELLO, name="sun-and-moon")
    if way == "sourced":
        lines = ["source <(moonshine completion zsh)"]
    else:
        folder = tmp_path / "functions"
        folder.mkdir()
        (folder / "_moonshine").write_text(command("completion", "zsh").stdout)
        lines = [f"fpath=({folder} $fpath)", "compinit -D -u"]
    shell = zsh(terminal, *lines)
    shell.type("moonshine rol\t", "moonshine rollback $")
    shell.type(f"--run-dir {node.run_dir} --name \t", "--name sun-and-moon $")
    shell.type("\x15moonshine run --set=body_l\t", "--set=body_limit=$")
    shell.type("2m --no-\t", "=2m --no-fallback $")
    shell.type("\x15moonshine route PAT\t", "route PATCH $")
    shell.type("\x15moonshine status --\t", "requests")
    assert "the requests in flight instead" in shell.text


def test_installed(tmp_path):
    build = pathlib.Path(BINARY).parents[1]
    if not (build / "cmake_install.cmake").exists():
        pytest.skip("the binary under test is not in a build tree")
    subprocess.run(["cmake", "--install", str(build), "--prefix",
                    str(tmp_path)], stdout=subprocess.DEVNULL, check=True)
    for shell, path in (("bash", "bash-completion/completions/moonshine"),
                        ("zsh", "zsh/site-functions/_moonshine")):
        assert (tmp_path / "share" / path).read_text() == \
            command("completion", shell).stdout
