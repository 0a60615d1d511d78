-- A small HTTP/1.1 client over moonshine.tcp: GET, keep-alive, deadlines, and
-- bodies in pieces. While it waits, the worker serves others.
local moonshine = require "moonshine"

local M = {}

local function split(url)
    local host, port, path = url:match("^http://([^/:]+):?(%d*)(/?.*)$")
    assert(host, "not an http:// URL: " .. url)
    return host, port == "" and 80 or tonumber(port), path == "" and "/" or path
end

-- Sends the request and reads the head: socket, status, headers; or nil, message.
local function begin(url, options)
    local host, port, path = split(url)
    local lines = { "GET " .. path .. " HTTP/1.1", "Host: " .. host }
    for name, value in pairs(options.headers or {}) do
        lines[#lines + 1] = name .. ": " .. value
    end
    local sock = moonshine.tcp()
    sock:settimeout(options.timeout or "5s")
    local ok, message = sock:connect(host, port)
    if ok then
        ok, message = sock:send(table.concat(lines, "\r\n") .. "\r\n\r\n")
    end
    local line
    if ok then
        line, message = sock:receive()
    end
    local status = line and line:match("^HTTP/1%.1 (%d%d%d)")
    if not status then
        return nil, message or "this is not HTTP"
    end
    local headers = {}
    repeat
        line, message = sock:receive()
        local name, value = (line or ""):match("^([^:]+):%s*(.-)%s*$")
        if name then
            headers[name:lower()] = value
        end
    until not line or line:match("^\r?$")
    return line and sock, line and tonumber(status) or message, headers
end

-- The next piece of a body in chunks; nil at its end, nil, message if it was cut off.
local function next_chunk(sock)
    local line, message = sock:receive()
    local size = line and tonumber(line:match("^%x+") or "", 16)
    if not size then
        return nil, message or "the body is malformed"
    end
    local piece = size > 0 and sock:receive(size) or nil
    sock:receive() -- the line's end
    return piece
end

local function read_body(sock, headers)
    if headers["transfer-encoding"] ~= "chunked" then
        return sock:receive(tonumber(headers["content-length"] or 0))
    end
    local parts = {}
    for piece in next_chunk, sock do
        parts[#parts + 1] = piece
    end
    return table.concat(parts)
end

--- Gets a whole answer: { status, headers, body }; or nil, message.
function M.get(url, options)
    local sock, status, headers = begin(url, options or {})
    if not sock then
        return nil, status
    end
    local body, message = read_body(sock, headers)
    if not body then
        return nil, message
    end
    sock:setkeepalive("10s", 32)
    return { status = status, headers = headers, body = body }
end

--- Opens an answer whose pieces are read as they come: { pieces, close }.
function M.open(url, options)
    local sock, status, headers = begin(url, options or {})
    if not sock then
        return nil, status
    elseif status ~= 200 or headers["transfer-encoding"] ~= "chunked" then
        sock:close()
        return nil, "status " .. status
    end
    sock:settimeout("60s")
    return {
        pieces = function() return (next_chunk(sock)) end,
        close = function() sock:close() end,
    }
end

return M
