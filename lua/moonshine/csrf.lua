--- moonshine.csrf: refuses what other sites make a browser send.
---
--- A browser says where a request comes from (Sec-Fetch-Site, Origin). What says
--- nothing, or something else, needs a token: it belongs to a random cookie that
--- is sealed with the node's secret, so the server keeps nothing.
local bit = require "bit"
local ffi = require "ffi"
local context = require "moonshine.context"
local crypto = require "moonshine.crypto"
local encode = require "moonshine.encode"
local fault = require "moonshine.fault"
local secrets = require "moonshine.secrets"
local session = require "moonshine.session"
local token = require "moonshine.token"

local C = ffi.C
local Context, dead = context.methods, context.dead
local out = ffi.new "moon_bytes"
local bxor = bit.bxor
local M = {}

local COOKIE, TOKEN = "csrf cookie", "csrf token" -- purposes of keys
local NONCE = {} -- where a request keeps the cookie that it was given
local SIZE = 32

-- ---- the token ----

local function cookie_name(c)
    return c:scheme() == "https" and "__Host-csrf" or "csrf"
end

local function raw_token(key, nonce)
    return crypto.hmac_sha256(key, nonce)
end

local function xor(a, b)
    local bytes = {}
    for i = 1, SIZE do
        bytes[i] = bxor(a:byte(i), b:byte(i))
    end
    return string.char(unpack(bytes, 1, SIZE))
end

-- The nonce of the request's cookie, if we made that.
local function nonce_of(c)
    local sealed = c:cookie(cookie_name(c))
    return sealed and token.open(COOKIE, sealed)
end

local function give_nonce(c)
    local nonce = encode.base64url(crypto.random(SIZE))
    c:set_cookie(cookie_name(c), token.seal(COOKIE, nonce))
    c:set(NONCE, nonce)
    return nonce
end

-- A cookie that somebody planted before the login is worth nothing after it.
function session.on_renew(c)
    if c:get(NONCE) or c:cookie(cookie_name(c)) then
        give_nonce(c)
    end
end

--- The token to put in a form or a header of an unsafe request. The first time
--- it sets a cookie; each call gives another text for the same token, so that
--- its bytes cannot be guessed from the size of a compressed page.
---@return string
function Context:csrf_token()
    if not self[1] then
        dead(self)
    end
    local nonce = self:get(NONCE) or nonce_of(self)
    if not nonce then
        if C.moon_res_started(self[1]) then
            fault.raise("c:csrf_token: the response has begun, and the cookie belongs in its head")
        end
        nonce = give_nonce(self)
    end
    local mask = crypto.random(SIZE)
    local raw = raw_token(secrets.derive(TOKEN)[1], nonce)
    return encode.base64url(mask .. xor(mask, raw))
end

local function is_valid(c, text)
    local nonce = nonce_of(c)
    local bytes = encode.decode.base64url(text)
    if not nonce or not bytes or #bytes ~= 2 * SIZE then
        return false
    end
    local raw, good = xor(bytes, bytes:sub(SIZE + 1)), false
    for _, key in ipairs(secrets.derive(TOKEN)) do
        good = crypto.equal(raw, raw_token(key, nonce)) or good
    end
    return good
end

-- ---- where a request comes from ----

local default_ports = { http = ":80", https = ":443" }

-- As browsers write it: small letters, without the scheme's own port.
local function normal(origin)
    origin = origin:lower()
    local scheme, host = origin:match("^(%a[%w+.-]*)://([^/%s]+)$")
    local port = default_ports[scheme]
    if port and host:sub(-#port) == port then
        return scheme .. "://" .. host:sub(1, -#port - 1)
    end
    return scheme and origin
end

local function is_trusted(self, c)
    local origin = c:header("Origin")
    origin = origin and normal(origin)
    if origin and self.origins[origin] then
        return true
    end
    local site = c:header("Sec-Fetch-Site")
    if site then
        -- A browser that knows sees through what a proxy makes of Host.
        return site == "same-origin" or site == "none"
    end
    return origin and origin == normal(c:scheme() .. "://" .. c:host()) or false
end

-- ---- the middleware ----

local safe_methods = fault.set "GET HEAD OPTIONS TRACE"

-- Forms among the values of moon_req_body_type.
local URLENCODED, MULTIPART = 2, 3

local function sent_token(self, c)
    local text = c:header(self.header)
    if text then
        return text
    end
    local kind = C.moon_req_body_type(c[1])
    -- A streamed body is the handler's to read.
    if (kind == URLENCODED or kind == MULTIPART) and C.moon_req_body(c[1], out) ~= 0 then
        return c:form(self.field)
    end
    return nil
end

local function skips(self, path)
    for _, pattern in ipairs(self.skip) do
        if pattern == path or (pattern:sub(-1) == "*"
            and path:sub(1, #pattern - 1) == pattern:sub(1, -2)) then
            return true
        end
    end
    return false
end

local Middleware = {}

function Middleware.__call(self, c, proceed)
    if safe_methods[c:method()] or is_trusted(self, c) or skips(self, c:path()) then
        return proceed(c)
    end
    local text = sent_token(self, c)
    if not text then
        c:fail(403, ("this request may come from another site: send the CSRF token in the form "
            .. "field %s or the header %s"):format(self.field, self.header))
    elseif not is_valid(c, text) then
        c:fail(403, "the CSRF token does not belong to this browser, or is too old: load the "
            .. "page again")
    end
    return proceed(c)
end

local known = fault.set "origins skip field header"

local function strings_of(value, what)
    if type(value) == "string" then
        value = { value }
    end
    for _, item in ipairs(fault.want(value or {}, "table", what)) do
        fault.want(item, "string", "each of " .. what)
    end
    return value or {}
end

---@class moonshine.csrf.Options
---@field origins? string|string[] Other origins that may send: "https://admin.example.com".
---@field skip? string|string[] Paths that need no token, or "/prefix*".
---@field field? string Of a form; default "_csrf".
---@field header? string Default "X-CSRF-Token".

--- Middleware that answers 403 to an unsafe request which may come from another
--- site and has no token of c:csrf_token().
---@param options? moonshine.csrf.Options
---@return moonshine.Middleware
function M.new(options)
    options = options or {}
    fault.check_keys(fault.want(options, "table", "csrf: the options"), known, "csrf")
    local self = {
        name = "csrf",
        origins = {},
        skip = strings_of(options.skip, "csrf: skip"),
        field = fault.want(options.field or "_csrf", "string", "csrf: field"),
        header = fault.want(options.header or "X-CSRF-Token", "string", "csrf: header"),
    }
    for _, origin in ipairs(strings_of(options.origins, "csrf: origins")) do
        local text = normal(origin)
        if not text then
            fault.raise('csrf: the origin %q must be like "https://example.com"', origin)
        end
        self.origins[text] = true
    end
    return setmetatable(self, Middleware)
end

return M
