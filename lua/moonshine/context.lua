--- The context `c` of a request. Everything on it is a method.
local ffi = require "ffi"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local hint = require "moonshine.hint"
local respond = require "moonshine.respond"
local stream = require "moonshine.stream"

local C = ffi.C

---@class moonshine.Context
local Context = {}

local M = { methods = Context }

M.metatable = {
    __index = Context,
    __newindex = function(_, key)
        local name = tostring(key)
        local instead = fault.instead("assigned", name)
        if instead then
            fault.raise("c.%s cannot be assigned: %s", name, instead)
        elseif rawget(Context, key) then
            fault.raise("c.%s cannot be assigned, it is a method: %s", name, hint.call_of(name))
        end
        fault.raise("c.%s cannot be assigned; keep it with c:set(%q, value)", name, name)
    end,
    __tostring = function(c)
        return c[1] and "context of " .. c:method() .. " " .. c:path() or "context (ended)"
    end,
    __metatable = nil,
}

hint.methods = Context

setmetatable(Context, {
    __index = function(_, key)
        fault.raise("c has no method '%s'%s", tostring(key),
            fault.hint(key, Context, fault.instead("context", key)))
    end,
})

--- Raises: the request is over, or `c` is not a context.
local function dead(c)
    if type(c) ~= "table" or getmetatable(c) ~= M.metatable then
        fault.raise("%s", hint.colon(fault.where(3) or fault.route_place()))
    end
    fault.raise("c is used after its request ended: take what you need from it before, such as "
        .. "local id = c:param(\"id\")")
end
M.dead = dead

--- The table of what is not plain about this response (see respond.FIELDS).
local function more_of(c)
    local more = c[2]
    if not more then
        if not c[1] then
            dead(c)
        end
        more = {}
        c[2] = more
    end
    return more
end

-- ---- values, log, failure ----

--- Keeps a value for the rest of the request.
---@param key any
---@param value any
function Context:set(key, value)
    if not self[1] then
        dead(self)
    end
    if key == nil or key ~= key then
        fault.raise("c:set: the key must not be %s", tostring(key))
    end
    local values = self[7]
    if not values then
        values = {}
        self[7] = values
    end
    values[key] = value
end

--- A value kept by c:set, or nil.
---@param key any
---@return any
function Context:get(key)
    if not self[1] then
        dead(self)
    end
    local values = self[7]
    if values then
        return values[key]
    end
    return nil
end

--- Raises a wanted failure: the request is answered with this status.
---@param status integer
---@param message? string Shown to the client.
---@param details? table Added to the body.
---@param headers? table<string, string>
function Context:fail(status, message, details, headers)
    if not self[1] then
        dead(self)
    end
    if type(status) ~= "number" or status < 400 or status > 599 or status % 1 ~= 0 then
        fault.raise("c:fail: the status must be from 400 to 599, not %s", tostring(status))
    end
    error(failure.new("fail", status, message and tostring(message), details, headers), 0)
end

--- Writes a line to the log, with the request's id and route.
---@param level "debug"|"info"|"warn"|"error"
---@param message any
---@param fields? table<string, any>
function Context:log(level, message, fields)
    if not self[1] then
        dead(self)
    end
    require("moonshine.log")._write(level, message, fields)
end

-- ---- the response that methods set ----

local function store(c, kind, body, mime, status)
    local more = more_of(c)
    if status ~= nil then
        c:status(status)
    end
    more.kind, more.body, more.mime = kind, body, mime
end

local function text_of(value, what)
    if type(value) == "number" then
        return tostring(value)
    end
    return fault.want(value, "string", what)
end

--- Answers plain text.
---@param text string
---@param status? integer
function Context:text(text, status)
    store(self, "body", text_of(text, "c:text: the body"), "text/plain; charset=utf-8", status)
end

--- Answers HTML.
---@param text string
---@param status? integer
function Context:html(text, status)
    store(self, "body", text_of(text, "c:html: the body"), "text/html; charset=utf-8", status)
end

--- Answers JSON. The value is encoded when the chain is done.
---@param value any
---@param status? integer
function Context:json(value, status)
    store(self, "json", value, nil, status)
end

local views

--- Answers a view of the application: `views/NAME`, `.html` if it has no extension,
--- filled with the data. Its extension decides about the Content-Type.
---@param view string
---@param data? table<string, any> The names that the view may use.
---@param status? integer
function Context:render(view, data, status)
    if not self[1] then
        dead(self)
    end
    views = views or require "moonshine.views"
    local text, mime = views.render(view, data, self, "c:render")
    store(self, "body", text, mime, status)
end

--- Answers bytes of a content type.
---@param data string
---@param mime? string Default application/octet-stream.
function Context:bytes(data, mime)
    mime = mime or "application/octet-stream"
    fault.want(mime, "string", "c:bytes: the content type")
    if mime:find("[%z\1-\31\127]") then
        fault.raise("c:bytes: the content type has a byte that is not allowed")
    end
    store(self, "body", text_of(data, "c:bytes: the body"), mime)
end

local safe_methods = { GET = true, HEAD = true }

--- Redirects: 303 after an unsafe method, else 302.
---@param url string
---@param status? integer
function Context:redirect(url, status)
    fault.want(url, "string", "c:redirect: the URL")
    if status == nil then
        status = safe_methods[self:method()] and 302 or 303
    elseif type(status) ~= "number" or status < 300 or status > 399 then
        fault.raise("c:redirect: the status must be from 300 to 399, not %s", tostring(status))
    end
    self:set_header("Location", (url:gsub("[^%w%-%._~:/%?#%[%]@!%$&'%(%)%*%+,;=%%]", function(ch)
        return ("%%%02X"):format(ch:byte())
    end)))
    store(self, "body", "", "", status)
end

local file_options = fault.set "root download max_age"

--- Answers a file, with ETag and Range, never from outside `root` (default: the
--- application's directory).
---@param path string
---@param options? {root?: string, download?: boolean|string, max_age?: number|string}
function Context:send_file(path, options)
    fault.want(path, "string", "c:send_file: the path")
    options = options or {}
    fault.check_keys(options, file_options, "c:send_file")
    local root = options.root or (path:sub(1, 1) == "/" and "/" or ".")
    if root:sub(1, 1) ~= "/" then
        root = M.app_dir .. "/" .. root
    end
    local max_age = -1
    if options.max_age ~= nil then
        max_age = math.floor(require("moonshine.units").seconds(options.max_age, "max_age"))
    end
    if options.download then
        local name = options.download
        name = type(name) == "string" and name or path:match("[^/]*$")
        self:set_header("Content-Disposition", M.disposition(name))
    end
    store(self, "file", { path = path:gsub("^/+", ""), root = root, max_age = max_age })
end

--- A Content-Disposition value (RFC 6266) for a download.
function M.disposition(name)
    local plain = name:gsub('[%c"\\\128-\255]', "_")
    if plain == name then
        return ('attachment; filename="%s"'):format(plain)
    end
    local coded = name:gsub("[^%w%-%._~]", function(ch)
        return ("%%%02X"):format(ch:byte())
    end)
    return ("attachment; filename=\"%s\"; filename*=UTF-8''%s"):format(plain, coded)
end

--- Answers in pieces: fn(write) runs after the chain of middleware. write(value)
--- returns true, or nil and "closed" or "stopping". What it takes is a matter of the
--- format: a text; "csv": a list, one row; "ndjson": any value, one line of JSON;
--- "events": a text or { event, data, id, retry, comment }.
---@param fn fun(write: fun(value: any): boolean?, string?)
---@param format? "csv"|"ndjson"|"events"|string Or a content type, for texts.
function Context:stream(fn, format)
    fault.want(fn, "function", "c:stream: the argument")
    format = stream.format(format)
    store(self, "stream")
    self[2].stream, self[2].format = fn, format
end

-- ---- afterwards ----

--- Runs fn at the end of the request, whatever its outcome.
---@param fn fun()
function Context:defer(fn)
    fault.want(fn, "function", "c:defer: the argument")
    local more = more_of(self)
    more.defer = more.defer or {}
    table.insert(more.defer, fn)
end

--- Runs fn once the response is out. Not when the request failed.
---@param fn fun()
function Context:after(fn)
    fault.want(fn, "function", "c:after: the argument")
    local more = more_of(self)
    more.after = more.after or {}
    table.insert(more.after, fn)
end

--- The path of a named route, with the parameters and the query filled in.
---@param name string
---@param params? table<string, string|number>
---@param query? table<string, any>
---@return string
function Context:url(name, params, query)
    if not self[1] then
        dead(self)
    end
    return require("moonshine.url").build(M.names, name, params, query)
end

M.more_of = more_of
M.C = C
M.respond = respond
return M
