--- What people from elsewhere call things, and what to write here. Read when a
--- name was not found; the right names need no entry.
local M = {}

--- Names on the context.
M.context = {
    params = 'c:param("id")', args = 'c:query("name")', arg = 'c:query("name")',
    get_param = 'c:param("id")', get_query = 'c:query("name")',
    get_header = 'c:header("Accept")', req = "what you look for is on c itself: c:method()",
    request = "what you look for is on c itself: c:method()",
    res = "what you look for is on c itself: c:set_header(name, value)",
    response = "what you look for is on c itself: c:set_header(name, value)",
    uri = "c:path()", url_path = "c:path()", verb = "c:method()", remote_addr = "c:ip()",
    client_ip = "c:ip()", send = "return the text, or c:text(text)",
    write = "return the text, or c:stream(function(write) ... end)",
    say = "return the text, or c:text(text)", print = "return the text, or c:text(text)",
    string = "return the text, or c:text(text)", data = "c:bytes(data, type)",
    file = 'c:send_file("path")', sendfile = 'c:send_file("path")',
    next = "a middleware gets the rest of the chain: proceed(c)",
    proceed = "a middleware gets the rest of the chain: proceed(c)",
    abort = "c:fail(status, message)", error = "c:fail(status, message)",
    throw = "c:fail(status, message)", exit = "return nil, status",
    code = "c:status(code)", get_body = "c:body()", json_body = "c:bind()",
    bind_json = "c:bind()", post = "c:form(name)", set_status = "c:status(code)",
    get_cookie = "c:cookie(name)", ctx = "c:set(key, value) and c:get(key)",
    vars = "c:set(key, value) and c:get(key)", state = "c:set(key, value) and c:get(key)",
}

--- Fields of the context that people assign.
M.assigned = {
    body = "return the body", headers = "c:set_header(name, value)",
    header = "c:set_header(name, value)", type = 'c:set_header("Content-Type", type)',
    content_type = 'c:set_header("Content-Type", type)', cookie = "c:set_cookie(name, value)",
    cookies = "c:set_cookie(name, value)",
}

local routes = "routes are added to an app: local app = moonshine.app(), then "
    .. 'app:get("/", function(c) ... end)'
local serves = "the command serves: moonshine run; it and config.lua say where to listen"

--- Names on the module.
M.module = {
    new = "moonshine.app()", create = "moonshine.app()", App = "moonshine.app()",
    Application = "moonshine.app()", application = "moonshine.app()", server = "moonshine.app()",
    get = routes, post = routes, put = routes, delete = routes, route = routes, use = routes,
    run = serves, listen = serves, start = serves, serve = serves,
    socket = "moonshine.tcp()", timer = "moonshine.every(interval, fn)",
    timeout = "moonshine.sleep(duration) in a moonshine.spawn", time = "moonshine.now()",
    getenv = "moonshine.env(name)", base64 = "moonshine.encode.base64(text)",
    print = "print(...), or moonshine.log.info(message)",
}

--- Names on an app or a group.
M.app = {
    run = serves, listen = serves, start = serves, serve = serves, bind = serves,
    before_filter = "app:use(function(c, proceed) ... return proceed(c) end)",
    before = "app:use(function(c, proceed) ... return proceed(c) end)",
    after = "app:use(function(c, proceed) ... end), with code behind proceed(c)",
    middleware = "app:use(function(c, proceed) ... return proceed(c) end)",
    all = "app:any(path, handler)", match = "app:any(path, handler)",
    error = "app:on_error(function(c, err) ... end)",
    not_found = "app:on(404, function(c, err) ... end)",
    handle_404 = "app:on(404, function(c, err) ... end)",
    handle_error = "app:on_error(function(c, err) ... end)",
    mount = 'app:group("/prefix", function(group) ... end)',
    include = 'app:group("/prefix", function(group) ... end)',
    router = 'app:group("/prefix", function(group) ... end)',
    files = 'app:static("/prefix", "directory")',
    serve_static = 'app:static("/prefix", "directory")',
}

--- Globals.
M.globals = {
    ngx = "ngx is OpenResty's and not here: a handler gets c (c:query, c:header, c:set_header) "
        .. "and returns the body; moonshine.sleep, moonshine.tcp, moonshine.log do the rest",
    moonshine = 'begin the file with: local moonshine = require "moonshine"',
    app = "app is a local of app.lua: let the module return a function(app), and call that there",
    c = "c is what a handler gets: function(c) ... end",
    cjson = "moonshine.json", json = "moonshine.json", log = "moonshine.log",
    sleep = "moonshine.sleep(duration)", null = "moonshine.json.null, or nil", None = "nil",
    undefined = "nil", self = "a function declared with a colon has it: function M:name() ... end",
    proceed = "a middleware gets it: function(c, proceed) ... end",
    next_handler = "a middleware gets it: function(c, proceed) ... end",
    socket = 'moonshine.tcp(); LuaSocket (require "socket") would block the worker',
    box = "box is Tarantool's and not here", redis = "local r = moonshine.redis()",
    Write = "return the body", GetParam = "c:query(name)", SetHeader = "c:set_header(name, value)",
}

--- Modules by the first part of their name.
M.modules = {
    resty = "it is for OpenResty and needs ngx; for connections there is moonshine.tcp(), for "
        .. "Redis moonshine.redis(), for JSON moonshine.json",
    redis = "moonshine.redis() does that",
    ngx = "it is OpenResty's; for connections there is moonshine.tcp(), for JSON moonshine.json",
    lapis = "Lapis is for OpenResty; here routes are app:get(path, handler)",
    cjson = "moonshine.json does that", dkjson = "moonshine.json does that",
    json = "moonshine.json does that", socket = "LuaSocket blocks the whole worker while it waits; "
        .. "moonshine.tcp() does not",
    http = "there is no HTTP client yet; moonshine.tcp() connects to anything",
    express = "there is no framework to load: local app = moonshine.app()",
    moonshne = 'require "moonshine"',
}

--- Rocks whose name is not that of their module.
M.rocks = {
    lfs = "luafilesystem", pl = "penlight", ssl = "luasec", lpeg = "lpeg", posix = "luaposix",
    socket = "luasocket", mime = "luasocket", zlib = "lua-zlib", yaml = "lyaml",
    cjson = "lua-cjson", luasql = "luasql-sqlite3", lsqlite3 = "lsqlite3",
}

return M
