-- Bearer tokens (RFC 6750). config.lua says which token is whose.
local moonshine = require "moonshine"
local crypto = moonshine.crypto

local M = {}

-- By hash, so that looking one up tells nothing about the others.
local users = {}
for token, user in pairs(moonshine.config().tokens) do
    users[crypto.sha256(token)] = user
end

--- Middleware: c:get("user") is the name of whoever calls.
function M.bearer(c, proceed)
    local token = (c:header("Authorization") or ""):match("^[Bb]earer +(%S+)$")
    local user = token and users[crypto.sha256(token)]
    if not user then
        c:fail(401, "send Authorization: Bearer TOKEN", nil,
            { ["WWW-Authenticate"] = 'Bearer realm="todo"' })
    end
    c:set("user", user)
    return proceed(c)
end

return M
