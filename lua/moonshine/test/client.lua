--- A client of the application under test that keeps cookies.
local cookies = require "moonshine.test.cookies"
local fault = require "moonshine.fault"
local request = require "moonshine.test.request"
local session = require "moonshine.test.session"

local M = {}

---@class moonshine.test.Client
---@field headers table<string, string|string[]> sent with each request
---@field ip? string what c:ip() says
---@field scheme? "http"|"https" what c:scheme() says
---@field host string of the Host field
local Client = {}

-- Names that a client has: a typo in one must not set another.
local fields = fault.set "headers ip scheme host"

local metatable = {
    __index = function(_, key)
        local method = Client[key]
        if method == nil and not fields[key] then
            fault.raise("a client has no method '%s'%s", tostring(key), fault.hint(key, Client))
        end
        return method
    end,
    __newindex = function(client, key, value)
        if not fields[key] then
            fault.raise("a client has no field '%s'%s", tostring(key), fault.hint(key, fields))
        end
        rawset(client, key, value)
    end,
}

local function merge(client, options)
    local merged, headers = {}, {}
    for key, value in pairs(options) do
        merged[key] = value
    end
    for name, value in pairs(client.headers) do
        headers[name] = value
    end
    for name, value in pairs(options.headers or {}) do
        headers[request.find(headers, name) or name] = value
    end
    merged.headers = headers
    merged.ip = options.ip or client.ip
    merged.scheme = options.scheme or client.scheme
    return merged
end

-- A session that an option gives it is the client's from then on.
local function keep_session(client, options, host)
    local name, id = session.make(options.session, options.scheme)
    if name then
        client.jar:set(("%s=%s; Path=/%s"):format(name, id,
            options.scheme == "https" and "; Secure" or ""), host, "/")
    end
    options.session = nil
end

--- Sends a request with the cookies that belong to it, and keeps those that the
--- response sets. Redirects are not followed.
---@param method string
---@param path string
---@param options? moonshine.test.Options
---@return moonshine.test.Response
function Client:request(method, path, options)
    fault.want(path, "string", "request: the path")
    options = merge(self, options or {})
    local headers = options.headers
    local named = request.find(headers, "Host")
    local host = tostring(named and headers[named] or self.host)
    if not named then
        headers["Host"] = host
    end
    host = host:lower():gsub(":%d+$", "")
    if options.session ~= nil then
        keep_session(self, options, host)
    end
    local place = path:match("^[^?]*")
    local pairs_of = {}
    for _, cookie in ipairs(self.jar:matching(host, place, options.scheme == "https")) do
        pairs_of[#pairs_of + 1] = cookie.name .. "=" .. cookie.value
    end
    if #pairs_of > 0 and not request.find(headers, "Cookie") then
        headers["Cookie"] = table.concat(pairs_of, "; ")
    end
    local response = request.send(self.app, method, path, options)
    for _, header in ipairs(response.list) do
        if header[1] == "set-cookie" then
            self.jar:set(header[2], host, place)
        end
    end
    return response
end

for _, method in ipairs { "get", "post", "put", "patch", "delete", "head", "options" } do
    Client[method] = function(self, path, options)
        return self:request(method:upper(), path, options)
    end
end

---@class moonshine.test.Client
---@field get fun(self, path: string, options?: moonshine.test.Options): moonshine.test.Response
---@field post fun(self, path: string, options?: moonshine.test.Options): moonshine.test.Response
---@field put fun(self, path: string, options?: moonshine.test.Options): moonshine.test.Response
---@field patch fun(self, path: string, options?: moonshine.test.Options): moonshine.test.Response
---@field delete fun(self, path: string, options?: moonshine.test.Options): moonshine.test.Response
---@field head fun(self, path: string, options?: moonshine.test.Options): moonshine.test.Response
---@field options fun(self, path: string, options?: moonshine.test.Options): moonshine.test.Response

--- The value of a cookie that the client keeps, or nil.
---@param name string
---@return string?
function Client:cookie(name)
    fault.want(name, "string", "cookie: the name")
    local cookie = self.jar:find(name)
    return cookie and cookie.value
end

--- A new client. With scheme = "https" it sends cookies that are Secure.
---@param app moonshine.App
---@param options? {headers?: table, ip?: string, scheme?: string, host?: string}
---@return moonshine.test.Client
function M.new(app, options)
    options = options or {}
    fault.check_keys(options, fields, "client")
    return setmetatable({
        app = app, jar = cookies.jar(), headers = options.headers or {}, ip = options.ip,
        scheme = options.scheme, host = options.host or request.HOST,
    }, metatable)
end

return M
