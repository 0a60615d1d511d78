"""What `moonshine nginx` prints: nginx takes all of it, and bad input is told
apart."""

import itertools
import os
import pwd
import subprocess

import pytest

from support.client import Client
from support.nginx import Nginx, available, check, configuration
from support.node import command

needs_nginx = pytest.mark.skipif(not available(), reason="nginx is missing")

BALANCES = ["round_robin", "least_conn", "random", "ip_hash", "hash:uri",
            "hash:path", "hash:ip", "hash:host", "hash:header:X-User-Id",
            "hash:cookie:session", "hash:query:user"]
UPSTREAMS = {
    "one": "8081",
    "tcp": "127.0.0.1:8081,[::1]:8082*5,:8083",
    "unix": "unix:/run/moonshine/a.sock*3,unix:/run/moonshine/b.sock",
    "many": ",".join(str(port) for port in range(9000, 9120)),
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=test.local", "-keyout", folder / "key.pem",
         "-out", folder / "cert.pem"], check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return f"{folder}/cert.pem,{folder}/key.pem"


@needs_nginx
@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_nginx_takes_every_combination(balance, upstream, certificate,
                                       tmp_path):
    for family, tls, full in itertools.product(
            ("x-forwarded", "rfc7239"), (False, True), (False, True)):
        options = ["--upstream", UPSTREAMS[upstream], "--balance", balance,
                   "--set", f"forwarded={family}"]
        options += ["--tls", certificate] if tls else []
        options += ["--full"] if full else []
        text = configuration(*options)
        assert check(text, tmp_path, full) == "", text
        assert max(map(len, text.splitlines())) <= 100


@needs_nginx
@pytest.mark.parametrize("options", [
    ["--set", "body_limit=none", "--set", "timeout=none"],
    ["--set", "body_limit=0", "--set", "body_buffer=0"],
    ["--set", "body_limit=1t", "--set", "drain_idle=0"],
    ["--set", "request_line_limit=64", "--set", "header_limit=256"],
    ["--set", "request_line_limit=1m", "--set", "header_limit=16m"],
    ["--set", "header_timeout=10ms", "--set", "keepalive_timeout=0"],
    ["--server-name", "a.example,*.b.example", "--name", "shop_2"],
    ["--listen", "8090", "--listen", "[::1]:8090", "--listen",
     "unix:/tmp/front.sock"],
    ["--upstream", "localhost:9000"],
], ids=lambda o: o[1])
def test_nginx_takes_every_setting(options, tmp_path):
    for full in ([], ["--full"]):
        text = configuration("--upstream", "8081,8082", *options, *full)
        assert check(text, tmp_path, full) == "", text


@needs_nginx
def test_two_applications_fit_into_one_nginx(tmp_path):
    text = configuration("--upstream", "8081", "--name", "shop",
                         "--server-name", "shop.example") + \
        configuration("--upstream", "8082", "--name", "blog", "--set",
                      "forwarded=rfc7239", "--server-name", "blog.example")
    assert check(text, tmp_path, False) == ""


def test_limits_follow_the_nodes():
    text = configuration(
        "--upstream", "8081,8082", "--set", "body_limit=20m", "--set",
        "header_limit=64k", "--set", "timeout=2m", "--set", "drain_idle=6s")
    assert "client_max_body_size 20m;" in text
    assert "large_client_header_buffers 8 8k;" in text
    assert "proxy_read_timeout 150s;" in text
    assert "keepalive_timeout 4s;" in text
    # A handler may have run: never sent again.
    for line in text.splitlines():
        if not line.strip().startswith("#"):
            assert "http_50" not in line and "non_idempotent" not in line


def test_a_lone_node_gets_no_passive_checks():
    text = configuration("--upstream", "8081")
    assert "server 127.0.0.1:8081;" in text and "max_fails" not in text
    assert "The only one" in text
    assert configuration("--upstream", "8081,8082").count("max_fails=2") == 2


@pytest.mark.parametrize("options, complaint", [
    ([], "which nodes?"),
    (["--upstream", ""], "not an address"),
    (["--upstream", "8081,,8082"], "not an address"),
    (["--upstream", "8081*0"], "weight that is not 1 to 1000"),
    (["--upstream", "8081*x"], "weight that is not 1 to 1000"),
    (["--upstream", "8081,127.0.0.1:8081"], "given twice"),
    (["--upstream", "0"], "port"),
    (["--upstream", "a b:80"], "a b:80"),
    (["--upstream", "x;y:80"], "x;y:80"),
    (["--upstream", "unix:/a;b"], "no path of a socket"),
    (["--upstream", "unix:/a b"], "no path of a socket"),
    (["--upstream", "unix:/a$x"], "no path of a socket"),
    (["--upstream", "8081", "--balance", "least_con"],
     "did you mean least_conn?"),
    (["--upstream", "8081", "--balance", "hash:"], "no key to hash"),
    (["--upstream", "8081", "--balance", "hash:header:"], "no key to hash"),
    (["--upstream", "8081", "--balance", "hash:header:a;b"],
     "no key to hash"),
    (["--upstream", "8081", "--balance", "hash:cookie:a-b"],
     "no key to hash"),
    (["--upstream", "8081", "--server-name", "a;b"], "no list of hosts"),
    (["--upstream", "8081", "--name", "a-b"], "no name here"),
    (["--upstream", "8081", "--tls", "a.pem"], "CERT,KEY"),
    (["--upstream", "8081", "--tls", "a.pem,b;c"], "CERT,KEY"),
    (["--upstream", "8081", "--set", "body_limit"], "KEY=VALUE"),
    (["--upstream", "8081", "--set", "body_limits=1"], "body_limit"),
    (["--upstream", "8081", "--listen", "x"], "x"),
    (["--upstream", "8081", "word"], "word"),
    (["--upstream", ",".join(str(p) for p in range(1, 300))],
     "more than 256 nodes"),
])
def test_bad_input_is_named(options, complaint):
    done = command("nginx", *options)
    assert done.returncode == 2
    assert complaint in done.stderr, done.stderr
    assert done.stdout == ""


@needs_nginx
@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another")
def test_it_needs_no_root(start):
    node = start('app:get("/", function() return "hello" end)')
    user = pwd.getpwnam("nobody").pw_name
    with Nginx([node.listen], user=user) as nginx:
        with Client(nginx.address) as client:
            assert client.get("/?token=canary").text == "hello"
        assert "emerg" not in nginx.errors()
        # Without the query.
        nginx.wait_access(r'"GET /" 200 .*node=127\.0\.0\.1:')
