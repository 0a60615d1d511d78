--- moonshine.tcp: outbound connections that never block the worker.
---
--- The methods are those of OpenResty's ngx.socket.tcp, except that durations
--- are Moonshine's: seconds, or text such as "250ms".
local ffi = require "ffi"
local fault = require "moonshine.fault"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C, ffi_string, ffi_gc = ffi.C, ffi.string, ffi.gc
local out = ffi.new "moon_bytes"

-- As in vm/abi.h.
local WAIT, MET = 1, 2
local SIZE, LINE, ALL, ANY, UNTIL = 0, 1, 2, 3, 4
local KEEP_SECONDS, KEEP_MAX = 60, 30

--- A socket is a table with its handle in place 1.
---@class moonshine.tcp.Socket
local Socket = fault.close({}, "a socket")
local metatable = { __index = Socket }

function metatable.__tostring()
    return "moonshine.tcp socket"
end

local function handle_of(self, what)
    local handle = getmetatable(self) == metatable and self[1]
    if not handle then
        fault.raise("%s: call it with a colon, as a method of a socket", what)
    end
    return handle
end

local function reason(handle)
    return ffi_string(C.moon_tcp_error(handle))
end

-- Waits if it must; `result`, or nil, message.
local function finish(handle, code, result)
    if code == WAIT then
        wait.suspend()
        code = C.moon_tcp_outcome(handle)
    end
    if code ~= 0 then
        return nil, reason(handle)
    end
    return result
end

local function whole(value, least, what)
    local number = tonumber(value)
    if not number or number % 1 ~= 0 or number < least then
        fault.raise("%s must be a whole number from %d, not %s", what, least, fault.show(value))
    end
    return number
end

-- ---- connecting ----

local connect_options = fault.set "pool pool_size receive_limit"

local function address(host, port)
    fault.want(host, "string", "connect: the host")
    if host:sub(1, 5) == "unix:" then
        return host:sub(6), 0
    end
    local number = tonumber(port)
    if not number or number % 1 ~= 0 or number < 1 or number > 65535 then
        fault.raise("connect: the port must be a number from 1 to 65535, not %s", fault.show(port))
    end
    return host, number
end

--- Connects to a host and port, or to a unix socket: "unix:/path". An idle
--- connection to the same place (or of the same pool) is used if there is one.
---@param host string
---@param port? integer|string
---@param options? {pool?: string, pool_size?: integer, receive_limit?: integer|string}
---@return 1|nil ok
---@return string? message "timeout", "connection refused", "host not found", ...
function Socket:connect(host, port, options)
    local handle = handle_of(self, "connect")
    if type(port) == "table" then
        port, options = nil, port
    end
    local place, number = address(host, port)
    options = options or {}
    fault.check_keys(options, connect_options, "connect")
    local name = options.pool or (number == 0 and host or place .. ":" .. number)
    fault.want(name, "string", "connect: the pool's name")
    if options.receive_limit then
        C.moon_tcp_set_limit(handle, units.bytes(options.receive_limit, "connect: receive_limit"))
    end
    self[2] = options.pool_size and whole(options.pool_size, 1, "connect: pool_size") or false
    wait.check("connect")
    return finish(handle, C.moon_tcp_connect(handle, place, #place, number, name, #name), 1)
end

-- ---- sending ----

local function flatten(data, parts)
    for i = 1, #data do
        local kind = type(data[i])
        if kind == "table" then
            flatten(data[i], parts)
        elseif kind == "string" or kind == "number" then
            parts[#parts + 1] = data[i]
        else
            fault.raise("send: a list of strings must not contain a %s", kind)
        end
    end
    return parts
end

--- Sends all of it: a string, a number, or a list of these, lists inside too.
---@param data string|number|table
---@return integer|nil bytes How many were sent.
---@return string? message
function Socket:send(data)
    local handle = handle_of(self, "send")
    local kind = type(data)
    if kind == "table" then
        data = table.concat(flatten(data, {}))
    elseif kind == "number" then
        data = tostring(data)
    elseif kind ~= "string" then
        fault.raise("send takes a string or a list of strings, not %s", fault.kind(data))
    end
    wait.check("send")
    return finish(handle, C.moon_tcp_send(handle, data, #data), #data)
end

-- ---- receiving ----

local met_pattern = false -- of the last receive

-- The bytes, or nil, message, the bytes that came before.
local function receive(handle, what, kind, size, pattern)
    wait.check(what)
    local code = C.moon_tcp_receive(handle, kind, size, pattern, #pattern, out)
    if code == WAIT then
        wait.suspend()
        code = C.moon_tcp_received(handle, out)
    end
    local bytes = ffi_string(out.ptr, out.len)
    if code < 0 then
        return nil, reason(handle), bytes
    end
    met_pattern = code == MET
    return bytes
end

-- As OpenResty: a line ends with a line feed, and carriage returns are ignored.
local function without_returns(line)
    return line and line:find("\r", 1, true) and line:gsub("\r", "") or line
end

--- Receives a number of bytes, a line ("*l", the default; without its end), or
--- all up to the peer's close ("*a").
---@param what? integer|string
---@return string|nil data
---@return string? message "timeout", "closed", "too long", ...
---@return string? partial What came before the failure.
function Socket:receive(what)
    local handle = handle_of(self, "receive")
    if what == nil or what == "*l" then
        local line, message, partial = receive(handle, "receive", LINE, 0, "")
        if line then
            return (without_returns(line))
        end
        return nil, message, (without_returns(partial))
    end
    if what == "*a" then
        return receive(handle, "receive", ALL, 0, "")
    end
    if not tonumber(what) then
        fault.raise('receive takes a number of bytes, "*l" or "*a", not %s', fault.show(what))
    end
    return receive(handle, "receive", SIZE, whole(what, 0, "receive: the number of bytes"), "")
end

--- Receives what is there, at least one byte and at most `max`.
---@param max integer
---@return string|nil data
---@return string? message
---@return string? partial Always empty.
function Socket:receiveany(max)
    local handle = handle_of(self, "receiveany")
    local size = whole(max, 1, "receiveany: the number of bytes")
    return receive(handle, "receiveany", ANY, size, "")
end

--- A function that receives up to a text: all before it, or (called with a
--- number) pieces of at most that many bytes, then nil once it was met. The
--- next call looks for the text again.
---@param pattern string Plain text, not a Lua pattern.
---@param options? {inclusive?: boolean} True: the text is part of the data.
---@return fun(size?: integer): string?, string?, string?
function Socket:receiveuntil(pattern, options)
    local handle = handle_of(self, "receiveuntil")
    fault.want(pattern, "string", "receiveuntil: the pattern")
    if pattern == "" then
        fault.raise("receiveuntil: the pattern must not be empty")
    end
    options = options or {}
    fault.check_keys(options, { inclusive = true }, "receiveuntil")
    local tail = options.inclusive and pattern or ""
    local met = false
    return function(size)
        if met then
            met = false
            return nil
        end
        local limit = size and whole(size, 1, "the size of a piece") or math.huge
        local data, message, partial = receive(handle, "receiveuntil", UNTIL, limit, pattern)
        if not data then
            return nil, message, partial
        end
        if not met_pattern then
            return data
        end
        data = data .. tail
        if size and data == "" then
            return nil
        end
        met = size ~= nil
        return data
    end
end

-- ---- settings ----

local function milliseconds(value, what)
    return value == nil and -1 or units.milliseconds(value, what)
end

--- How long connect, each send and each receive may take; nil: 10 s to connect,
--- 60 s for the others.
---@param connect? number|string
---@param send? number|string
---@param read? number|string
function Socket:settimeouts(connect, send, read)
    C.moon_tcp_set_timeouts(handle_of(self, "settimeouts"),
        milliseconds(connect, "settimeouts: connect"),
        milliseconds(send, "settimeouts: send"), milliseconds(read, "settimeouts: read"))
end

--- One time for all three.
---@param duration? number|string
function Socket:settimeout(duration)
    self:settimeouts(duration, duration, duration)
end

-- ---- keeping and closing ----

--- Gives the connection to the worker's pool instead of closing it.
---@param max_idle? number|string At most an hour (also 0); default 60 s.
---@param pool_size? integer How many idle ones the pool holds; default 30.
---@return 1|nil ok
---@return string? message
function Socket:setkeepalive(max_idle, pool_size)
    local handle = handle_of(self, "setkeepalive")
    local ms = units.milliseconds(max_idle or KEEP_SECONDS, "setkeepalive: the time")
    local max = whole(pool_size or self[2] or KEEP_MAX, 1, "setkeepalive: the pool's size")
    return finish(handle, C.moon_tcp_set_keepalive(handle, ms, math.min(max, 2 ^ 31)), 1)
end

--- How often the connection came out of the pool; nil, "closed" without one.
---@return integer|nil
---@return string?
function Socket:getreusedtimes()
    local times = C.moon_tcp_reused(handle_of(self, "getreusedtimes"))
    if times < 0 then
        return nil, "closed"
    end
    return times
end

---@return 1|nil ok
---@return string? message
function Socket:close()
    local handle = handle_of(self, "close")
    return finish(handle, C.moon_tcp_close(handle), 1)
end

local M = {}

--- A socket that is not connected yet.
---@return moonshine.tcp.Socket
function M.new()
    local handle = C.moon_tcp_new()
    if handle == nil then
        error("out of memory")
    end
    return setmetatable({ ffi_gc(handle, C.moon_tcp_free), false }, metatable)
end

return M
