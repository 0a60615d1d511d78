"""moonshine.redis against a real server: values, arguments, several commands at
once, scripts, links of one's own."""

import json

import pytest

from support.node import command, eventually, write_app
from support.servers import Cluster, RedisServer, Sentinels

# `say(...)` makes JSON of what a call returned; the first number says how many
# values these were.
HELP = r"""
local json = moonshine.json
local function say(...)
    local n, list = select("#", ...), { ... }
    for i = 1, n do if list[i] == nil then list[i] = json.null end end
    table.insert(list, 1, n)
    return json.encode(list)
end
local r = moonshine.redis()
"""


@pytest.fixture(scope="module")
def redis():
    with RedisServer() as server:
        yield server


@pytest.fixture
def ask(start, redis):
    """ask(lua): what a handler with that body says; keys are gone before."""
    redis.cli("FLUSHALL")

    def run(body, **options):
        node = start((HELP + 'app:get("/", function(c) ' + body + " end)")
                     .replace("\n", " "),
                     settings={"redis.url": redis.url}, **options)
        response = node.get("/")
        assert response.status == 200, node.log()[-3000:]
        return response.text

    return run


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_values(ask):
    assert lines(ask(r"""
        local out = {}
        local function add(...) out[#out + 1] = say(...) end
        add(r:set("k", "v")) add(r:get("k")) add(r:get("none"))
        add(r:incr("n")) add(r:call("incrby", "n", -3)) add(r:exists("none"))
        add(r:rpush("l", "a", "b")) add(r:lrange("l", 0, -1))
        add(r:lrange("none", 0, -1)) add(r:mget("k", "none"))
        add(r:hset("h", "a", 1, "b", "x")) add(r:hgetall("h"))
        add(r:hgetall("none")) add(r:hget("h", "a"))
        add(r:config("GET", "hash-max-listpack-val*"))
        add(r:eval("return {1, {2, {err = 'ERR no'}}, false}", 0))
        return table.concat(out, "\n")
    """)) == [
        [1, "OK"], [1, "v"], [1, None],
        [1, 1], [1, -2], [1, 0],
        [1, 2], [1, ["a", "b"]],
        [1, []], [1, ["v", False]],
        [1, 2], [1, {"a": "1", "b": "x"}],
        [1, {}], [1, "1"],
        [1, {"hash-max-listpack-value": "64"}],
        [1, [1, [2, {"err": "ERR no"}], False]],
    ]


def test_errors_of_redis_are_results(ask):
    assert lines(ask(r"""
        r:set("k", "v")
        return say(r:lpush("k", 1)) .. "\n" .. say(r:call("NOTHING.LIKE-IT", 1))
    """)) == [
        [3, None, "WRONGTYPE Operation against a key holding the wrong kind of "
                  "value", 502],
        [3, None, "ERR unknown command 'NOTHING.LIKE-IT', with args beginning "
                  "with: '1' ", 502],
    ]


def test_bytes_stay_as_they_are(ask):
    assert ask(r"""
        local all = {}
        for i = 0, 255 do all[#all + 1] = string.char(i) end
        all = table.concat(all):rep(1000)
        r:set("bytes\0\r\n", all)
        return tostring(r:get("bytes\0\r\n") == all and r:get("bytes") == nil)
    """) == "true"


@pytest.mark.parametrize("number, text", [
    ("1", "1"), ("-0.5", "-0.5"), ("0.1", "0.1"), ("2^53", "9007199254740992"),
    ("-2^53", "-9007199254740992"), ("1e15", "1000000000000000"),
    ("1e300", "1e+300"), ("1/3", "0.3333333333333333"), ("0/-1", "0"),
    ("math.huge", "+inf"), ("-math.huge", "-inf"),
])
def test_numbers_are_written_exactly(ask, number, text):
    assert ask(f'r:set("n", {number}) return r:get("n")') == text


def test_integers_beyond_a_double_are_text(ask):
    assert lines(ask(r"""
        r:set("n", "9007199254740992") r:set("m", "-9007199254740993")
        return say(r:incrby("n", 0), r:incr("n"), r:incrby("m", 0))
    """)) == [[3, 9007199254740992, "9007199254740993", "-9007199254740993"]]


# ---- wrong use ----

WRONG = {
    'r:set("a", true)': "redis: SET: argument 2 must be a string or a number, "
                        "not a boolean: say what to store for it",
    'r:set("a", nil)': "redis: SET: argument 2 must be a string or a number, "
                       "not nil: r:del(key) removes a value",
    'r:mset({ a = 1 })': "redis: MSET: argument 1 must be a string or a number,"
                         " not a table: moonshine.json.encode makes text of it",
    'r:set("a", 0/0)': "redis: SET: argument 2 must be a string or a number, "
                       "not nan",
    "r:pipline(function() end)": "argument 1 must be a string or a number, not "
                                 "a function, did you mean 'pipeline'?",
    'r.get("k")': "redis: GET: call it with a colon, as a method of a client",
    'r:call("CONFIG GET", "x")': "the command must be a name such as \"GET\", "
                                 "not 'CONFIG GET'",
    'r:blpop("a", 1)': "redis: BLPOP blocks the link that others use, too; use "
                       "r:dedicated(function(link) link:blpop(...) end)",
    'r:call("xread", "BLOCK", 10, "STREAMS", "a", "$")':
        "redis: XREAD blocks the link that others use, too; use r:dedicated(",
    'r:watch("a")': "redis: WATCH changes the link that others use, too; use "
                    "r:dedicated(",
    "r:select(1)": "redis: SELECT changes the link that others use, too",
    'r:client("REPLY", "OFF")': "redis: CLIENT changes the link that others",
    'r:call("MULTI")': "redis: MULTI cannot be used here: "
                       "r:multi(function(m) ... end) does it",
    'r:call("SUBSCRIBE", "a")': "redis: SUBSCRIBE cannot be used here: "
                                "r:subscribe(channels, fn) does it",
    "r:monitor()": "redis: MONITOR cannot be used here: its answer has no end",
    'r:pipeline(function(p) p:get({}) end)':
        "redis: GET: argument 1 must be a string or a number, not a table",
    'r:pipeline(function(p) p:multi(function() end) end)':
        "redis: multi is a method of the client, not of what pipeline records",
    'r:pipeline(function(p) p:brpop("a", 1) end)':
        "redis: BRPOP blocks the link that others use, too",
    'r:pipeline("GET")': "pipeline: the argument must be a function, not a string",
    'local k; r:pipeline(function(p) k = p end) k:get("a")':
        "redis: GET: what pipeline records ends with its function",
    'r:prepare("return 1")("key")':
        "redis: a script takes lists: script({ key }, { argument }), keys is a "
        "string",
    'r:prepare("return 1")({}, { true })':
        "a script's arguments must be strings or numbers, number 1 is a boolean",
    'r:subscribe("a", print)': "redis: subscribe lasts longer than a request: "
                               "use it in app:on_start, or in a task of "
                               "moonshine.spawn",
    'r:dedicated(function(l) l:blpop("a", 0) end)':
        "redis: BLPOP with a time of 0 waits for ever",
    'r:dedicated(function(l) l:dedicated(print) end)':
        "redis: dedicated is a method of the client, not of a link of its own",
    'local k; r:dedicated(function(l) k = l end) k:get("a")':
        "redis: GET: this link was given back when the function of r:dedicated "
        "returned",
    'r:dedicated(print, { keys = "a" })':
        "redis: dedicated has no option 'keys', did you mean 'key'?",
    'moonshine.redis("rediss://x")': "TLS to Redis is not built in",
    'moonshine.redis("redis://:secret@:x")': "moonshine.redis: ",
    'moonshine.redis({ time_out = 1 })':
        "moonshine.redis has no option 'time_out', did you mean 'timeout'?",
    'moonshine.redis({ timeout = "soon" })':
        "moonshine.redis: timeout must be a duration",
    'moonshine.redis({ max_pending = -1 })':
        "moonshine.redis: max_pending must be a whole number, not -1",
}


def test_wrong_use_raises_with_the_callers_line(ask):
    body = "local out = {} "
    for source in WRONG:
        body += f"out[#out + 1] = tostring(select(2, pcall(function() " \
                f"{source} end))) "
    said = ask(body + 'return table.concat(out, "\\n")').splitlines()
    assert len(said) == len(WRONG)
    for line, (source, want) in zip(said, WRONG.items()):
        assert line.startswith("app.lua:1: "), (source, line)
        assert want in line, (source, line)
        assert "secret" not in line


def test_while_loading_nothing_waits(tmp_path, redis):
    app = write_app(tmp_path, HELP + 'r:get("a")')
    done = command("check", app, "--set", f"redis.url={redis.url}")
    assert done.returncode == 1
    assert "redis: GET: not while loading: use app:on_start" in done.stderr


def test_without_a_url_the_error_names_the_key(tmp_path):
    done = command("check", write_app(tmp_path, "moonshine.redis()"))
    assert done.returncode == 1
    assert "app.lua:1: moonshine.redis: no URL; set redis.url, in config.lua: " \
        'redis = { url = "redis://127.0.0.1:6379" }' in done.stderr


def test_the_keys_of_the_configuration_are_of_use(tmp_path, redis):
    app = write_app(tmp_path, HELP)
    done = command("check", app, "--set", f"redis.url={redis.url}",
                   "--set", "redis.timeout=1s",
                   "--set", "redis.connect_timeout=1s")
    assert done.returncode == 0 and "no use" not in done.stderr, done.stderr


# ---- several at once ----

def test_pipeline(ask):
    assert lines(ask(r"""
        local p = r:pipeline(function(p)
            p:set("k", "v"):get("k"):get("none")
            p:lpush("k", 1)
            p:hset("h", "f", 2.5):hgetall("h"):call("time")
        end)
        p[7] = #p[7]
        return say(p) .. "\n" .. say(r:pipeline(function() end))
    """)) == [
        [1, ["OK", "v", False, {"err": "WRONGTYPE Operation against a key "
                                "holding the wrong kind of value"},
             1, {"f": "2.5"}, 2]],
        [1, []],
    ]


def test_a_large_pipeline(ask):
    assert ask(r"""
        local list = r:pipeline(function(p)
            for i = 1, 5000 do p:incrby("n", i) end
        end)
        return #list .. " " .. list[5000]
    """) == f"5000 {5000 * 5001 // 2}"


def test_multi_is_all_or_nothing(ask):
    done, refused, n = lines(ask(r"""
        local done = say(r:multi(function(m) m:incr("n"):hset("h", "a", 1):hgetall("h") end))
        local refused = say(r:multi(function(m) m:incr("n"):incr() end))
        return done .. "\n" .. refused .. "\n" .. say(r:get("n"))
    """))
    assert done == [1, [1, 1, {"a": "1"}]]
    assert refused[1] is None and refused[3] == 502
    assert "wrong number of arguments for 'incr'" in refused[2]
    assert n == [1, "1"]


def test_watch(ask):
    assert lines(ask(r"""
        r:set("n", 1)
        local function add(disturb)
            return r:dedicated(function(link)
                link:watch("n")
                local n = link:get("n")
                if disturb then r:set("n", 100) end
                return link:multi(function(m) m:set("n", n + 1) end)
            end)
        end
        return say(add()) .. "\n" .. say(add(true)) .. "\n" .. say(r:get("n"))
    """)) == [
        [1, ["OK"]],
        [3, None, "a key that was watched has changed", 409],
        [1, "100"],
    ]


# ---- scripts ----

SCRIPT = r"""
    local s = r:prepare("return {KEYS[1], ARGV[1], redis.call('INCRBY', KEYS[1], ARGV[1])}")
"""


def test_scripts_go_by_their_hash(ask, redis):
    redis.cli("CONFIG", "RESETSTAT")
    assert lines(ask(SCRIPT + r"""
        local out = { say(s({ "n" }, { 2 })), say(s({ "n" }, { "3" })) }
        r:script("FLUSH")
        out[3] = say(s({ "n" }, { 4 }))
        out[4] = say(r:prepare("return redis.error_reply('ERR so')")())
        return table.concat(out, "\n")
    """)) == [[1, ["n", "2", 2]], [1, ["n", "3", 5]], [1, ["n", "4", 9]],
              [3, None, "ERR so", 502]]
    assert "cmdstat_evalsha:" in redis.cli("INFO", "commandstats")


def test_the_number_of_scripts_is_bounded(ask):
    assert "this code has prepared 1000 other scripts" in ask(r"""
        local ok, why
        for i = 1, 1001 do
            ok, why = pcall(r.prepare, r, "return " .. i)
        end
        return why
    """)


def test_the_number_of_clients_is_bounded(ask):
    assert "this code has 64 clients with other URLs or options" in ask(r"""
        local ok, why
        for i = 1, 70 do
            ok, why = pcall(moonshine.redis, "redis://127.0.0.1:" .. i)
        end
        return why
    """)


# ---- links of one's own ----

LINKS = HELP + r"""
app:get("/pop", function(c)
    return say(r:dedicated(function(link) return link:blpop("q", 20) end))
end)
app:get("/ping", function() return r:ping() end)
app:get("/raise", function()
    r:dedicated(function(link) link:watch("a") error("on purpose") end)
end)
app:get("/select", function()
    return say(r:dedicated(function(link) link:select(3) link:set("in", "3") end))
end)
app:get("/in", function()
    return say(r:dedicated(function(link) return link:get("in") end))
end)
app:get("/named", function()
    return say(r:dedicated(function(link) link:client("SETNAME", "mine") end))
end)
app:get("/push", function(c)
    moonshine.sleep("20ms")
    return say(r:rpush("q", "x"))
end)
app:get("/timeout", function(c)
    return say(r:dedicated(function(link) return link:blpop("never", 30) end))
end, { timeout = "100ms" })
app:get("/short", function()
    return say(r:dedicated(function(link) return link:blpop("never", 0.6) end))
end)
"""


def clients(redis):
    """{id: fields} of those that are not redis-cli."""
    found = {}
    for line in redis.cli("CLIENT", "LIST").splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split())
        if fields["cmd"] != "client|list":
            found[int(fields["id"])] = fields
    return found


@pytest.fixture
def node(start, redis):
    redis.cli("FLUSHALL")
    return start(LINKS, settings={"redis.url": redis.url})


def test_a_blocking_command_blocks_nobody_else(node):
    client = node.connect()
    client.send(b"GET /pop HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(20):
        assert node.get("/ping").text == "PONG"
    assert node.get("/push").text == "[1,1]"
    assert client.read_response().json() == [1, ["q", "x"]]


def test_it_may_take_longer_than_other_commands(node):
    """redis.timeout is 250 ms; the command itself says 600."""
    assert node.get("/short").json() == [1, None]


def test_links_are_used_again_and_clean(node, redis):
    node.get("/select")
    assert node.get("/in").json() == [1, None]
    assert redis.cli("-n", "3", "GET", "in") == "3"
    assert node.get("/raise").status == 500
    for _ in range(20):
        assert node.get("/in").json() == [1, None]
    eventually(lambda: all(c["db"] == "0" for c in clients(redis).values()),
               "no link is left in another database")
    # The shared one, and a few: one that was just given back proves first that
    # it is clean. Those of other tests may be about to close.
    eventually(lambda: len(clients(redis)) <= 5, "23 uses share few links")


def test_a_link_with_a_changed_state_is_closed(node, redis):
    node.get("/named")
    eventually(lambda: all(c["name"] == "test"
                           for c in clients(redis).values()), "it is closed")


def test_a_request_that_ends_closes_its_link(node, redis):
    assert node.get("/timeout").status == 503
    client = node.connect()
    client.send(b"GET /pop HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: any(c["cmd"] == "blpop"
                           for c in clients(redis).values()), "it waits")
    client.close()
    eventually(lambda: not any(c["cmd"] == "blpop"
                               for c in clients(redis).values()), "it left")
    # Nobody takes what is pushed now.
    assert node.get("/push").text == "[1,1]"
    assert redis.cli("LLEN", "q") == "1"


# ---- sentinels and clusters ----

ROUTES = r"""
    local out, bad = {}, {}
    local function add(key, ...)
        local value, why = ...
        if value == nil and why then bad[#bad + 1] = key .. ": " .. why end
    end
    local sum = r:prepare("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    for i = 1, 50 do
        local k = "key" .. i
        add(k, r:set(k, i)) add(k, r:get(k)) add(k, sum({ k }, { 1 }))
        add(k, r:eval("return redis.call('GET', KEYS[1])", 1, k))
        add(k, r:xadd("s" .. k, "*", "a", 1))
        add(k, r:xread("COUNT", 1, "STREAMS", "s" .. k, "0"))
        add(k, r:xgroup("CREATE", "s" .. k, "g", "0"))
        add(k, r:object("ENCODING", k)) add(k, r:memory("USAGE", k))
        add(k, r:bitop("NOT", k, k))
        add(k, r:zadd("z" .. k, 1, "m")) add(k, r:zunion(1, "z" .. k))
        add(k, r:zunionstore("z" .. k, 1, "z" .. k))
        add(k, r:lpush("l" .. k, 1)) add(k, r:lmpop(1, "l" .. k, "LEFT"))
        add(k, r:multi(function(m) m:set(k, i) m:incr(k) end))
        add(k, r:dedicated(function(l) return l:blpop("l" .. k, 0.001) end, { key = "l" .. k }))
    end
    out[1] = say(r:multi(function(m) m:set("a", 1) m:set("b", 1) end))
    out[2] = table.concat(bad, "; ")
    return table.concat(out, "\n")
"""


@pytest.mark.seconds(240)
def test_a_cluster_finds_the_key_of_each_command(start):
    with Cluster() as cluster:
        node = start((HELP + 'app:get("/", function(c) ' + ROUTES + " end)")
                     .replace("\n", " "),
                     settings={"redis.url": cluster.url(),
                               "redis.timeout": "5s", "timeout": "60s"})
        refused, bad = (node.get("/").text + "\n").split("\n")[:2]
        assert bad == ""
        count, _, message, code = json.loads(refused)
        assert (count, code) == (3, 400)
        assert message.startswith("redis+cluster://"), message
        node.stop()


def test_behind_sentinels(start):
    with Sentinels(password="geheim") as sentinels:
        node = start(LINKS, settings={"redis.url": sentinels.url(":geheim@"),
                                      "redis.timeout": "5s"})
        assert node.get("/push").text == "[1,1]"
        assert node.get("/pop").json() == [1, ["q", "x"]]
        node.stop()


# ---- other commands ----

def test_check_and_test_use_it_too(tmp_path, redis):
    redis.cli("FLUSHALL")
    app = write_app(tmp_path, {
        "app.lua": HELP + r"""
            app:on_start(function() assert(r:incr("started")) end)
            app:check(function() assert(r:get("started") == "1") end)
            app:get("/n", function() return r:incr("n") .. "" end)""",
        "spec/n_spec.lua": r"""
            local t = require "moonshine.test"
            local app = require "app"
            it("counts", function()
                assert(t.request(app, "GET", "/n").body == "1")
                t.advance("1h")
                assert(t.request(app, "GET", "/n").body == "2")
            end)""",
    })
    done = command("check", app, "--set", f"redis.url={redis.url}")
    assert done.returncode == 0, done.stderr
    done = command("test", app, env={"MOONSHINE_REDIS_URL": redis.url})
    assert done.returncode == 0, done.stdout + done.stderr
    assert redis.cli("GET", "n") == "2"
    eventually(lambda: not clients(redis), "their links are closed")
