-- What tests/bench/run asks of nginx with Lua; loaded once, by init_by_lua.
-- A Content-Length is set by hand where a body is one string, since nginx sends
-- chunks otherwise, which costs it more.
local cjson = require "cjson.safe"
local sessions = require "bench_sessions"

local ngx = ngx
local M = {}

local function send(kind, body)
    ngx.header["Content-Type"] = kind
    ngx.header["Content-Length"] = #body
    ngx.print(body)
end

function M.text()
    send("text/plain", "Hello, World!")
end

-- Three middleware around a handler, put together once.
local served = 0

local function served_by(proceed)
    ngx.header["X-Served-By"] = "bench"
    return proceed()
end

local function require_key(proceed)
    if ngx.var.http_x_key ~= "moon" then
        return ngx.exit(401)
    end
    return proceed()
end

local function count(proceed)
    proceed()
    served = served + 1
end

local function chain(handler, middleware)
    for i = #middleware, 1, -1 do
        local outer, inner = middleware[i], handler
        handler = function() return outer(inner) end
    end
    return handler
end

M.user = chain(function()
    send("application/json", cjson.encode { id = ngx.var[1], name = "Anna" })
end, { served_by, require_key, count })

function M.echo()
    ngx.req.read_body()
    local value = cjson.decode(ngx.req.get_body_data())
    if value == nil then
        return ngx.exit(400)
    end
    send("application/json", cjson.encode(value))
end

local big = ("x"):rep(65536)

function M.big()
    send("text/plain", big)
end

function M.login(port)
    local session = sessions.create(port)
    session:save { user = "anna" }
    ngx.header["Set-Cookie"] = "sid=" .. session.id .. "; Path=/; HttpOnly; SameSite=Lax"
    send("text/plain", "welcome")
end

function M.session(port)
    local session = sessions.open(port, ngx.var.cookie_sid)
    session:save { count = tostring((tonumber(session.values.count) or 0) + 1) }
    send("text/plain", session.values.user)
end

function M.count(port)
    send("text/plain", sessions.open(port, ngx.var.cookie_sid).values.count)
end

function M.version()
    send("text/plain", "VERSION")
end

return M
