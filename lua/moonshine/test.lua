--- What app:check is given: requests to the app that is being checked.
---
--- They travel over a socket to the probe's own server, so parser, router,
--- stages and limits are those of production. Nothing is mocked.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local json = require "moonshine.json"
local encode = require "moonshine.encode"

local C = ffi.C

---@class moonshine.test
local M = {}

local known = fault.set "headers body json form timeout"

---@class moonshine.test.Response
---@field status integer
---@field headers table<string, string> names in lower case
---@field body string
local Response = {}
Response.__index = Response

--- The body as JSON; raises if it is none.
function Response:json()
    local value, message = json.decode(self.body)
    if message then
        error("the body is not JSON: " .. message .. ": " .. self.body, 2)
    end
    return value
end

local function request_text(method, path, options)
    local headers, body = { ["Host"] = "check.invalid", ["Connection"] = "close" }, options.body
    if options.json ~= nil then
        headers["Content-Type"] = "application/json"
        body = json.encode(options.json)
    elseif options.form then
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = encode.query(options.form)
    end
    for name, value in pairs(options.headers or {}) do
        headers[name] = tostring(value)
    end
    if body then
        headers["Content-Length"] = tostring(#body)
    end
    local lines = { ("%s %s HTTP/1.1"):format(method, path) }
    for name, value in pairs(headers) do
        lines[#lines + 1] = name .. ": " .. value
    end
    return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

local function unchunk(text)
    local parts, at = {}, 1
    while true do
        local size, data = text:match("^(%x+)[^\r\n]*\r\n()", at)
        size = tonumber(size or "0", 16)
        if size == 0 then
            return table.concat(parts)
        end
        parts[#parts + 1] = text:sub(data, data + size - 1)
        at = data + size + 2
    end
end

local function parse(text)
    local head, body = text:match("^(.-\r\n)\r\n(.*)$")
    while head and head:match("^HTTP/1%.1 1%d%d ") do -- interim responses
        head, body = body:match("^(.-\r\n)\r\n(.*)$")
    end
    local status = head and head:match("^HTTP/1%.1 (%d%d%d) ")
    if not status then
        return nil, "the server closed the connection without an answer"
    end
    local headers = {}
    for name, value in head:gmatch("\r\n([^:\r\n]+): ([^\r\n]*)") do
        name = name:lower()
        headers[name] = headers[name] and headers[name] .. ", " .. value or value
    end
    if headers["transfer-encoding"] == "chunked" then
        body = unchunk(body)
    end
    return setmetatable({ status = tonumber(status), headers = headers, body = body }, Response)
end

--- Sends one request to the app and returns the response.
---@param app moonshine.App the app that is being checked
---@param method string "GET"
---@param path string "/users/7?full=1"
---@param options? { headers?: table, body?: string, json?: any, form?: table, timeout?: number }
---@return moonshine.test.Response
function M.request(app, method, path, options)
    options = options or {}
    fault.want(app, "table", "request: the first argument, the app,")
    fault.want(method, "string", "request: the method")
    fault.want(path, "string", "request: the path")
    fault.check_keys(options, known, "request")
    local name = C.moon_vm_check_socket()
    if name == nil then
        fault.raise("request: only inside app:check")
    end
    local sock = require("moonshine.tcp").new()
    sock:settimeout(options.timeout or "10s")
    local function try(...)
        local ok, message = ...
        if ok == nil then
            sock:close()
            error(("%s %s: %s"):format(method, path, tostring(message)), 0)
        end
        return ok
    end
    try(sock:connect("unix:" .. ffi.string(name)))
    try(sock:send(request_text(method, path, options)))
    local text = try(sock:receive("*a"))
    sock:close()
    return try(parse(text))
end

return M
