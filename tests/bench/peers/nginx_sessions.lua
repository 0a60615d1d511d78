-- Sessions in Redis for nginx with Lua, as lean as they can be: the commands that
-- Moonshine sends (HGETALL, then a script that refuses to write what is gone), over
-- a pool of cosockets. The key is the SHA-256 of the id, as Moonshine's is.
local ffi = require "ffi"

ffi.cdef [[
unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);
]]

local ngx = ngx
local crypto = ffi.load "crypto"
local digest = ffi.new "unsigned char[32]"

local SCRIPT = [[
local key, now, fresh = KEYS[1], ARGV[1], ARGV[2]
local m = redis.call('HMGET', key, 'v', 's', 'i', 'x')
if fresh == '1' then redis.call('HSET', key, 'c', now)
elseif not m[1] then return 0 end
redis.call('HSET', key, 's', now, 'i', ARGV[3], 'x', ARGV[4])
redis.call('HSET', key, unpack(ARGV, 5))
redis.call('PEXPIRE', key, ARGV[3])
return redis.call('HINCRBY', key, 'v', 1)]]
local HASH = ("%02x"):rep(20):format(ngx.sha1_bin(SCRIPT):byte(1, 20))
local IDLE_MS, END_MS = 30 * 60 * 1000, 12 * 3600 * 1000

local function key_of(id)
    crypto.SHA256(id, #id, digest)
    return "session:" .. ngx.encode_base64(ffi.string(digest, 32))
end

local function read(socket)
    local line = assert(socket:receive())
    local kind, rest = line:sub(1, 1), line:sub(2)
    if kind == "+" or kind == ":" then
        return rest
    elseif kind == "-" then
        return nil, rest
    elseif kind == "$" then
        local size = tonumber(rest)
        if size < 0 then
            return false
        end
        local value = assert(socket:receive(size))
        assert(socket:receive(2))
        return value
    end
    local list = {}
    for i = 1, tonumber(rest) do
        list[i] = read(socket)
    end
    return list
end

local function command(port, words)
    local out = { "*" .. #words .. "\r\n" }
    for i = 1, #words do
        local word = tostring(words[i])
        out[i + 1] = "$" .. #word .. "\r\n" .. word .. "\r\n"
    end
    local socket = ngx.socket.tcp()
    socket:settimeouts(1000, TIMEOUT, TIMEOUT)
    assert(socket:connect("127.0.0.1", port))
    assert(socket:send(out))
    local reply, why = read(socket)
    assert(socket:setkeepalive(60000, 128))
    return reply, why
end

local M = {}
M.__index = M

function M.create(port)
    local file = assert(io.open("/dev/urandom", "rb"))
    local id = ngx.encode_base64(file:read(32))
    file:close()
    id = id:gsub("[+/=]", { ["+"] = "-", ["/"] = "_", ["="] = "" })
    return setmetatable({ port = port, id = id, key = key_of(id), fresh = "1", values = {} }, M)
end

function M.open(port, id)
    local self = setmetatable({ port = port, key = key_of(id), fresh = "0", values = {} }, M)
    local list = assert(command(port, { "HGETALL", self.key }))
    for i = 1, #list, 2 do
        self.values[list[i]] = list[i + 1]
    end
    return self
end

function M:save(values)
    local now = math.floor(ngx.now() * 1000)
    local words = { "EVALSHA", HASH, 1, self.key, now, self.fresh, IDLE_MS, now + END_MS }
    for name, value in pairs(values) do
        self.values[name] = value
        words[#words + 1] = name
        words[#words + 1] = value
    end
    local reply, why = command(self.port, words)
    if not reply and why:find("^NOSCRIPT") then
        words[1], words[2] = "EVAL", SCRIPT
        reply = assert(command(self.port, words))
    end
    if reply == "0" then
        ngx.exit(503)
    end
end

return M
