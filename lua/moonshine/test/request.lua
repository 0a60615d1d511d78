--- Requests of tests: from options to bytes, and from bytes to a response.
local ffi = require "ffi"
local encode = require "moonshine.encode"
local fault = require "moonshine.fault"
local json = require "moonshine.json"

local C = ffi.C

--- The name that the application is asked under. `app` is the one under test.
local M = { HOST = "app.test", app = nil }

-- Of one response.
local RECEIVE_LIMIT = "256m"

local known = fault.set "headers body json form files ip scheme session timeout"
local schemes = fault.set "http https"

-- Understood by the server of a test process only (node/probe_server.h).
local PEER, SCHEME = "Moonshine-Test-Peer", "Moonshine-Test-Scheme"

-- ---- bodies ----

-- As browsers do (HTML, "multipart/form-data").
local quoted = { ['"'] = "%22", ["\r"] = "%0D", ["\n"] = "%0A" }

local function parameter(text)
    return '"' .. text:gsub('["\r\n]', quoted) .. '"'
end

local function add_field(parts, name, value)
    parts[#parts + 1] = ("Content-Disposition: form-data; name=%s\r\n\r\n%s\r\n"):format(
        parameter(name), tostring(value))
end

local file_keys = fault.set "filename type data"

local function add_file(parts, name, file)
    fault.want(file, "table", "request: files." .. name)
    fault.check_keys(file, file_keys, "request: files." .. name)
    fault.want(file.data, "string", "request: files." .. name .. ".data")
    parts[#parts + 1] = table.concat {
        "Content-Disposition: form-data; name=", parameter(name),
        "; filename=", parameter(file.filename or name), "\r\n",
        "Content-Type: ", file.type or "application/octet-stream", "\r\n\r\n",
        file.data, "\r\n",
    }
end

-- Calls add(name, value) for each value of a map of values and lists, by name.
local function each(map, is_list, add)
    local names = {}
    for name in pairs(map) do
        names[#names + 1] = name
    end
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    for _, name in ipairs(names) do
        local value = map[name]
        for _, one in ipairs(is_list(value) and value or { value }) do
            add(tostring(name), one)
        end
    end
end

local function multipart(form, files)
    local parts = {}
    each(form, function(value) return type(value) == "table" end, function(name, value)
        add_field(parts, name, value)
    end)
    each(files, function(value) return type(value) == "table" and value[1] ~= nil end,
        function(name, value)
            add_file(parts, name, value)
        end)
    local random = ffi.new("char[12]")
    C.moon_lua_random(random, 12)
    local boundary = "moonshine-" .. encode.hex(ffi.string(random, 12))
    local line = "--" .. boundary
    local body = #parts > 0 and line .. "\r\n" .. table.concat(parts, line .. "\r\n") or ""
    return body .. line .. "--\r\n", "multipart/form-data; boundary=" .. boundary
end

local function body_of(options)
    local kinds = {}
    for _, name in ipairs { "body", "json", options.files and "files" or "form" } do
        if options[name] ~= nil then
            kinds[#kinds + 1] = name
        end
    end
    if #kinds > 1 then
        fault.raise("request: %s and %s exclude each other", kinds[1], kinds[2])
    end
    if options.files then
        fault.want(options.files, "table", "request: files")
        return multipart(options.form or {}, options.files)
    elseif options.form then
        fault.want(options.form, "table", "request: form")
        return encode.query(options.form), "application/x-www-form-urlencoded"
    elseif options.json ~= nil then
        return json.encode(options.json), "application/json"
    end
    return options.body and tostring(options.body)
end

-- ---- the request ----

--- The key of a header, in whatever case it is written.
function M.find(headers, name)
    for key in pairs(headers) do
        if key:lower() == name:lower() then
            return key
        end
    end
end

local function default(headers, name, value)
    if value ~= nil and not M.find(headers, name) then
        headers[name] = value
    end
end

local function add_header(lines, name, value)
    value = tostring(value)
    if not name:find("^[%w!#%$%%&'%*%+%-%.%^_`|~]+$") or value:find("[%z\r\n]") then
        fault.raise("request: the header %q cannot be sent: name or value has a byte that is "
            .. "not allowed", name)
    end
    lines[#lines + 1] = name .. ": " .. value
end

local function text_of(method, path, options)
    local headers = {}
    for name, value in pairs(options.headers or {}) do
        headers[tostring(name)] = value
    end
    local body, kind = body_of(options)
    default(headers, "Host", M.HOST)
    default(headers, "Content-Type", kind)
    if not M.find(headers, "Transfer-Encoding") then
        default(headers, "Content-Length", body and #body)
    end
    headers[M.find(headers, "Connection") or "Connection"] = "close"
    headers[PEER] = options.ip
    headers[SCHEME] = options.scheme
    local lines = { ("%s %s HTTP/1.1"):format(method, path) }
    each(headers, function(value) return type(value) == "table" end, function(name, value)
        add_header(lines, name, value)
    end)
    return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

local function check(app, method, path, options)
    fault.want(app, "table", "request: the first argument, the app,")
    fault.want(method, "string", "request: the method")
    fault.want(path, "string", "request: the path")
    fault.check_keys(options, known, "request")
    if C.moon_vm_check_socket() == nil then
        fault.raise("request: only inside app:check and moonshine test")
    elseif M.app and app ~= M.app then
        fault.raise("request: the first argument is not the app under test")
    elseif not method:find("^%u+$") then
        fault.raise('request: the method must be one such as "GET", not %q', method)
    elseif path:find("[%z\1-\32\127]") or not path:find("^[/%*]") then
        fault.raise('request: the path must be one such as "/a?b=1", without spaces, not %q',
            path)
    elseif options.scheme and not schemes[options.scheme] then
        fault.raise('request: the scheme must be "http" or "https"')
    elseif options.ip and not tostring(options.ip):find("^[%x:%.]+$") then
        fault.raise("request: the ip must be an address, not %q", tostring(options.ip))
    end
end

-- Options that have the cookie of the session that `options` asks for.
local function with_session(options)
    local name, id = require("moonshine.test.session").make(options.session, options.scheme)
    local changed, headers = {}, {}
    for key, value in pairs(options) do
        changed[key] = value
    end
    for key, value in pairs(options.headers or {}) do
        headers[key] = value
    end
    local key = M.find(headers, "Cookie") or "Cookie"
    if name then
        headers[key] = (headers[key] and headers[key] .. "; " or "") .. name .. "=" .. id
    end
    changed.headers = headers
    return changed
end

-- ---- the response ----

-- The body of chunked bytes; nil if they end too early.
local function unchunk(text)
    local parts, at = {}, 1
    while true do
        local size, data = text:match("^(%x+)[^\r\n]*\r\n()", at)
        if not size then
            return nil
        end
        size = tonumber(size, 16)
        if size == 0 then
            return table.concat(parts)
        elseif data + size + 1 > #text then
            return nil
        end
        parts[#parts + 1] = text:sub(data, data + size - 1)
        at = data + size + 2
    end
end

--- status, headers by name in lower case, body, and a list of {name, value}; or
--- nil and what is wrong.
---@param text string all that came
---@param method string
function M.parse(text, method)
    local head, body = text:match("^(.-\r\n)\r\n(.*)$")
    while head and head:match("^HTTP/1%.1 1%d%d ") do -- interim responses
        head, body = body:match("^(.-\r\n)\r\n(.*)$")
    end
    local status = head and tonumber(head:match("^HTTP/1%.1 (%d%d%d) "))
    if not status then
        return nil, "the server closed the connection without an answer"
    end
    local headers, list = {}, {}
    for name, value in head:gmatch("\r\n([^:\r\n]+): ([^\r\n]*)") do
        list[#list + 1] = { name:lower(), value }
        name = name:lower()
        headers[name] = headers[name] and headers[name] .. ", " .. value or value
    end
    local length = tonumber(headers["content-length"])
    if method == "HEAD" or status == 204 or status == 304 then
        body = ""
    elseif headers["transfer-encoding"] == "chunked" then
        local whole = unchunk(body)
        if not whole then
            return nil, ("the response ended in the middle of its body, after %d bytes"):format(
                #body)
        end
        body = whole
    elseif length and #body < length then
        return nil, ("the response ended after %d bytes of %d"):format(#body, length)
    end
    return { status = status, headers = headers, body = body, list = list }
end

---@class moonshine.test.Response
---@field status integer
---@field headers table<string, string> names in lower case; several of one name by comma
---@field body string
local Response = {}
Response.__index = Response

--- The body as JSON; raises if it is none.
---@return any
function Response:json()
    local value, message = json.decode(self.body)
    if message then
        fault.raise("the body is not JSON: %s: %s", message, self.body)
    end
    return value
end

--- A header, or nil.
---@param name string in any case
---@return string?
function Response:header(name)
    return self.headers[fault.want(name, "string", "header: the name"):lower()]
end

--- The cookies that the response sets, by name.
---@return table<string, moonshine.test.Cookie>
function Response:cookies()
    local map = {}
    for _, header in ipairs(self.list) do
        local cookie = header[1] == "set-cookie"
            and require("moonshine.test.cookies").parse(header[2])
        if cookie then
            map[cookie.name] = cookie
        end
    end
    return map
end

--- Sends a request to the process's own server; raises if no response comes.
function M.send(app, method, path, options)
    check(app, method, path, options)
    if options.session ~= nil then
        options = with_session(options)
    end
    local text = text_of(method, path, options)
    local sock = require("moonshine.tcp").new()
    sock:settimeout(options.timeout or "10s")
    local function try(...)
        local ok, message = ...
        if ok == nil then
            sock:close()
            fault.raise("%s %s: %s", method, path, tostring(message))
        end
        return ok
    end
    try(sock:connect("unix:" .. ffi.string(C.moon_vm_check_socket()),
        { receive_limit = RECEIVE_LIMIT }))
    -- A request that is refused early may not be read to its end.
    local sent, reason = sock:send(text)
    local answer, message, partial = sock:receive("*a")
    sock:close()
    if not answer and partial == "" then
        try(nil, not sent and reason or message)
    end
    return setmetatable(try(M.parse(answer or partial, method)), Response)
end

return M
