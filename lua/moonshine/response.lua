--- Methods of the context that set status, headers and cookies.
local ffi = require "ffi"
local context = require "moonshine.context"
local fault = require "moonshine.fault"

local C, ffi_string = ffi.C, ffi.string
local Context, dead = context.methods, context.dead
local out = ffi.new "moon_bytes"

--- Sets the status, or returns what it is so far: what the inner part of the
--- chain returned, else what was set, else 200.
---@param code? integer
---@return integer?
function Context:status(code)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if code == nil then
        local set = C.moon_res_get_status(handle)
        return self[5] or (set ~= 0 and set or 200)
    end
    if type(code) ~= "number" or code < 200 or code > 999 or code % 1 ~= 0 then
        fault.raise("c:status: the status must be from 200 to 999, not %s", tostring(code))
    end
    C.moon_res_set_status(handle, code)
end

local function refuse(code, name, what)
    if code == -10 then
        fault.raise("%s: the response is out already", what)
    elseif code == -1 then
        error("out of memory", 0)
    elseif code == -13 then
        fault.raise("%s: the headers take more than 64 KiB together", what)
    end
    fault.raise("%s: the header %q cannot be set so: it belongs to the server, or name or value "
        .. "has a byte that is not allowed", what, tostring(name))
end
context.refuse = refuse

local function value_of(value, what)
    local kind = type(value)
    if kind == "string" then
        return value
    elseif kind == "number" then
        return tostring(value)
    end
    fault.raise("%s: the value must be a string, not a %s", what, kind)
end

--- Replaces a header; nil removes it.
---@param name string
---@param value string|number|nil
function Context:set_header(name, value)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if type(name) ~= "string" then
        fault.raise("c:set_header: the name must be a string, not a %s", type(name))
    end
    local code
    if value == nil then
        code = C.moon_res_set(handle, name, #name, nil, 0)
    else
        value = value_of(value, "c:set_header")
        code = C.moon_res_set(handle, name, #name, value, #value)
    end
    if code ~= 0 then
        refuse(code, name, "c:set_header")
    end
end

--- Adds one more header of that name.
---@param name string
---@param value string|number
function Context:add_header(name, value)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    fault.want(name, "string", "c:add_header: the name")
    value = value_of(value, "c:add_header")
    local code = C.moon_res_add(handle, name, #name, value, #value)
    if code ~= 0 then
        refuse(code, name, "c:add_header")
    end
end

--- A header of the response as set so far.
---@param name string
---@return string?
function Context:response_header(name)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    fault.want(name, "string", "c:response_header: the name")
    if C.moon_res_get(handle, name, #name, 0, out) then
        return (ffi_string(out.ptr, out.len))
    end
    return nil
end

local cookie_options = fault.set "max_age path domain secure http_only same_site"
local same_sites = { strict = "Strict", lax = "Lax", none = "None" }
local texts = ffi.new "moon_bytes[5]"

-- A pointer alone keeps no string from being collected.
local kept = {} -- luacheck: ignore 241

local function fill(index, text)
    texts[index].ptr, texts[index].len = text, #text
    kept[index] = text
end

---@class moonshine.CookieOptions
---@field max_age? number|string Without it, until the browser closes.
---@field path? string
---@field domain? string
---@field secure? boolean
---@field http_only? boolean
---@field same_site? "strict"|"lax"|"none"

--- Sets a cookie. Defaults: Path=/, HttpOnly, SameSite=Lax, Secure with https.
--- A nil value removes it.
---@param name string
---@param value string|nil
---@param options? moonshine.CookieOptions
function Context:set_cookie(name, value, options)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    fault.want(name, "string", "c:set_cookie: the name")
    options = options or {}
    fault.check_keys(options, cookie_options, "c:set_cookie")
    local max_age = -1
    if value == nil then
        value, max_age = "", 0
    elseif options.max_age ~= nil then
        max_age = math.floor(require("moonshine.units").seconds(options.max_age, "max_age"))
    end
    value = value_of(value, "c:set_cookie")
    local same_site = same_sites[tostring(options.same_site or "lax"):lower()]
    if not same_site then
        fault.raise('c:set_cookie: same_site must be "strict", "lax" or "none"')
    end
    local path, domain = options.path or "/", options.domain or ""
    fill(0, name)
    fill(1, value)
    fill(2, path)
    fill(3, domain)
    fill(4, same_site)
    local secure = options.secure
    if secure == nil then
        secure = self:scheme() == "https"
    end
    local code = C.moon_res_cookie(handle, texts, max_age, secure, options.http_only ~= false, out)
    if code == -3 then
        fault.raise("c:set_cookie: %s", ffi_string(out.ptr, out.len))
    elseif code ~= 0 then
        refuse(code, "Set-Cookie", "c:set_cookie")
    end
end

return Context
