"""What nobody is told: clients nothing of the code and of what went wrong, logs
and commands no password or secret of the configuration, and nothing that lets
somebody pass for a user."""

import re

import pytest

from support.admin import Admin
from support.client import Client
from support.node import command, write_app
from support.servers import free_ports

# ---- clients ----

APP = """
local canary_local = "canary-of-the-code"
app:get("/error", function(c) error("canary in a message " .. canary_local) end)
app:get("/nil", function(c) local nothing; return nothing.canary end)
app:get("/table", function(c) error({ canary = canary_local }) end)
app:get("/result", function(c) return function() end end)
app:get("/loop", function(c) while true do end end, { cpu_limit = "30ms" })
app:get("/slow", function(c) moonshine.sleep("60s") end, { timeout = "50ms" })
app:get("/memory", function(c)
    local canary = {}
    while true do canary[#canary + 1] = ("canary"):rep(1e6) .. #canary end
end)
app:get("/late", function(c) moonshine.sleep(0) error(canary_local) end)
app:get("/file", function(c) c:send_file("../canary") end)
app:get("/redis", function(c)
    return select(2, moonshine.redis("redis://u:canary@127.0.0.1:1"):get("k"))
end)
app:post("/session", function(c) c:session():set("canary", 1) return "" end)
"""
PATHS = ["/error", "/nil", "/table", "/result", "/loop", "/slow", "/memory",
         "/late", "/file", "/nowhere", "/session", "/%zz"]


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*"])
def test_an_error_tells_clients_nothing(start, accept):
    node = start({"app.lua": APP, "views/x.html": "canary"}, settings={
        "memory_limit": "64m", "request_memory": "16m", "log.level": "debug"})
    secrets = {"Accept": accept, "Cookie": "id=sk-canary; a=sk-canary",
               "Authorization": "Bearer sk-canary", "X-Api-Key": "sk-canary",
               "Proxy-Authorization": "Basic sk-canary"}
    for path in PATHS:
        answer = node.get(path + "?token=sk-canary", secrets)
        assert answer.status >= 400, path
        head = str(answer.headers)
        for text in (answer.text, head):
            assert not re.search(r"canary|\.lua|traceback|stack|/home|/tmp|"
                                 r"function|LuaJIT", text), (path, text)
        assert answer.header("Server") is None
    assert "sk-canary" not in node.log()
    assert "app.lua:3: canary in a message" in node.log()


def test_ids_of_sessions_are_in_no_log(start):
    node = start("""
        app:post("/begin", function(c)
            c:session():set("a", 1)
            c:session():renew()
            moonshine.log.info("session " .. tostring(c:session():id_hash()))
            return ""
        end)
        app:get("/fails", function(c) c:session():get("a") error("x") end)
        app:get("/end", function(c) c:session():destroy() return "" end)
    """, settings={"log.level": "debug"})
    with Client(node.address) as client:
        answer = client.request("POST", "/begin")
        cookie = answer.header("Set-Cookie").split(";")[0]
        for path in ("/fails", "/end", "/fails"):
            client.get(path, {"Cookie": cookie})
    told = [node.log(), Admin(node).ask("GET", "/-/status").text,
            Admin(node).ask("GET", "/-/metrics").text]
    for text in told:
        assert cookie.removeprefix("id=") not in text


# ---- the configuration ----

PASSWORD = "canary-Pa55word"
URLS = ["redis://u:{}@127.0.0.1:port/0", "foo://:{}@x", "redis://u:{}@",
        "redis://u:{}@h:1/x", "memcached://u:{}@h:1", "rediss://:{}@h:1",
        "redis+sentinel://u:{}@h1:26379,h2/mymaster/zz",
        "redis+cluster://u:{}@h1:xx", "redis+unix://u:{}@/nowhere?db=x",
        "//u:{}@h", "u:{}@h:6379", "redis:/u:{}@h", "redis://u:{}%zz@h",
        "redis://u:{}/x@h:1/0", "redis://:{}#@h:1", " redis://u:{}@h:1"]


@pytest.mark.parametrize("key", ["session.url", "redis.url", "limits.url",
                                 "cluster.url"])
def test_a_password_in_a_wrong_url(tmp_path, key):
    app = write_app(tmp_path / "app", 'app:get("/", function() end)')
    group, name = key.split(".")
    for url in URLS:
        url = url.format(PASSWORD)
        write_app(tmp_path / "app",
                  {"config.lua": f'{group} = {{ {name} = "{url}" }}'})
        for done in (
                command("check", app),
                command("check", app, "--set", f"{key}={url}"),
                command("check", app, env={
                    f"MOONSHINE_{group}_{name}".upper(): url})):
            assert PASSWORD not in done.stdout + done.stderr, url


@pytest.mark.parametrize("config", [
    'secrets = {{ new = "{}" ', 'secrets = "{}"', 'secrets = {{ "{}" }}',
    'session = "redis://:{}@h"',
    'redis = "redis://:{}@h:1"',
    'local password = "{}" error("x")', 'secrets = {{ new = "{}" .. nil }}',
    'secrets = {{ new = "{}", old = 1 }} listen = "nowhere"'])
def test_a_secret_in_a_wrong_configuration(tmp_path, config):
    app = write_app(tmp_path / "app", {
        "app.lua": 'app:get("/", function() end)',
        "config.lua": config.format(PASSWORD)})
    done = command("check", app)
    assert done.returncode == 1
    assert PASSWORD not in done.stdout + done.stderr


def test_a_running_node_tells_no_secret(start):
    """Its stores are down, which it has much to say about."""
    port = free_ports(1)[0]
    url = f"redis://user:{PASSWORD}@127.0.0.1:{port}/0"
    node = start({"app.lua": """
        local other = moonshine.redis()
        app:get("/", function(c) c:session():set("a", 1) return "" end)
        app:get("/redis", function() return { other:get("k") } end)
        app:get("/limit", moonshine.limit.token_bucket { rate = 1, per = "1s",
            scope = "cluster" }, function() return "" end)
        app:get("/shown", function() return tostring(other) end)
    """, "config.lua": f"""
        redis = {{ url = "{url}" }}
        secrets = {{ new = "{PASSWORD}-and-16-more", old = "{PASSWORD}-older-one" }}
        admin_token = "{PASSWORD}-token"
        log = {{ level = "debug" }}
    """}, workers=2)
    for path in ("/", "/redis", "/limit", "/shown"):
        assert PASSWORD not in node.get(path).text
    node.rewrite({"app.lua": "error('x')"})
    assert not Admin(node).reload()[0]
    node.wait_log("session store does not answer")
    admin = Admin(node)
    told = [node.command(*line).stdout for line in (
        ["status"], ["status", "--json"], ["status", "--requests"])]
    told += [admin.ask("GET", f"/-/{name}").text
             for name in ("status", "metrics", "requests", "ready")]
    told += [command("routes", node.app).stdout, node.log()]
    for pid in [node.pid, *node.children()]:
        for name in ("cmdline", "environ", "comm"):
            with open(f"/proc/{pid}/{name}", encoding="latin-1") as file:
                told.append(file.read())
    for text in told:
        assert PASSWORD not in text
    assert f"127.0.0.1:{port}" in node.log()
