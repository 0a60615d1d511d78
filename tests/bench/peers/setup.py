"""What the peers need, below build/bench; nothing of it is installed there.

nginx's Lua module and what belongs to it are unpacked from Debian packages
(vendor/packages-bench.txt): installed, their LuaJIT would replace ours.
Fastify and its plugins come from npm, in the versions that npm/ locks. Go and
Gin are installed by vendor/install --test.
"""

import filecmp
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
UNPACKED = ROOT / "build/bench"
LIBRARIES = UNPACKED / "usr/lib/x86_64-linux-gnu"
NPM = UNPACKED / "npm"
GIN = UNPACKED / "gin"


class Missing(Exception):
    """A peer cannot be had here, and why."""


def listed():
    lines = (ROOT / "vendor/packages-bench.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def unpack():
    """The packages' files, below UNPACKED."""
    done, packages = UNPACKED / "done", listed()
    if done.exists() and done.read_text().split() == packages:
        return
    debs = UNPACKED / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "-q", "download", *packages], cwd=debs,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                       check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing("apt-get download failed: " + str(getattr(
            error, "stderr", error)).strip().splitlines()[-1]) from None
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", deb, UNPACKED], check=True)
    done.write_text("\n".join(packages) + "\n")


def unpacked_version(package):
    """Of a package that unpack() unpacked."""
    deb = next((UNPACKED / "debs").glob(f"{package}_*.deb"))
    return subprocess.run(["dpkg-deb", "-f", deb, "Version"],
                          stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


def package_version(package):
    """Of an installed Debian package; "" if it is not."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        check=False).stdout.split()
    return done[1] if done[:1] == ["installed"] else ""


def npm_modules():
    """node_modules of npm/package-lock.json, below NPM."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise Missing("node and npm are not installed")
    major = int(subprocess.run(["node", "--version"], stdout=subprocess.PIPE,
                               text=True, check=True).stdout[1:].split(".")[0])
    if major < 20:
        raise Missing(f"Fastify 5 needs node 20; this is {major}")
    done, lock = NPM / "done.json", HERE / "npm/package-lock.json"
    if done.exists() and filecmp.cmp(done, lock, shallow=False):
        return
    NPM.mkdir(parents=True, exist_ok=True)
    for path in (HERE / "npm").iterdir():
        shutil.copy(path, NPM)
    try:
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit",
                        "--no-fund", "--loglevel=error"], cwd=NPM, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except subprocess.CalledProcessError as error:
        raise Missing(f"npm ci failed: {error.stderr.decode()[:300]}") \
            from None
    shutil.copy(lock, done)


def gin():
    """Compiles gin.go to GIN, with Debian's libraries only."""
    if not shutil.which("go"):
        raise Missing("Go is not installed (golang-go)")
    if not package_version("golang-github-gin-gonic-gin-dev"):
        raise Missing("golang-github-gin-gonic-gin-dev is not installed")
    source = HERE / "gin.go"
    if GIN.exists() and GIN.stat().st_mtime > source.stat().st_mtime:
        return
    UNPACKED.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode",
           "GOCACHE": str(UNPACKED / "go-cache")}
    done = subprocess.run(["go", "build", "-o", GIN, source], env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"go build failed: {done.stdout[:300]}")
