--- What an app and its groups have in common: routes, middleware, hooks.
---
--- While app.lua runs everything is only recorded, with the line that asked for
--- it; moonshine.freeze turns it into C tables once the app is known to be whole.
local fault = require "moonshine.fault"
local naming = require "moonshine.naming"
local stages = require "moonshine.stages"
local units = require "moonshine.units"

---@alias moonshine.Handler fun(c: moonshine.Context): any, integer?, table<string, any>?
---@alias moonshine.Middleware fun(c: moonshine.Context, proceed: function): any, integer?

-- Each takes a path, middleware, the handler, and options.
---@class moonshine.Scope
---@field get fun(self: moonshine.Scope, path: string, ...: any)
---@field post fun(self: moonshine.Scope, path: string, ...: any)
---@field put fun(self: moonshine.Scope, path: string, ...: any)
---@field patch fun(self: moonshine.Scope, path: string, ...: any)
---@field delete fun(self: moonshine.Scope, path: string, ...: any)
---@field head fun(self: moonshine.Scope, path: string, ...: any)
---@field options fun(self: moonshine.Scope, path: string, ...: any)
---@field cors fun(self: moonshine.Scope, options: table)
---@field security_headers fun(self: moonshine.Scope, options?: table|false)
---@field access_log fun(self: moonshine.Scope, options?: table|false)
---@field request_id fun(self: moonshine.Scope, options?: table|false)
local Scope = {}
Scope.__index = Scope

local M = { Scope = Scope }

local methods = { "get", "post", "put", "patch", "delete", "head", "options" }
local known_methods = fault.set "GET POST PUT PATCH DELETE HEAD OPTIONS"
local route_options = fault.set [[name timeout cpu_limit body_limit body session
    cancel_on_disconnect stream_timeout quarantine input]]
local body_modes = { buffer = 0, file = 1, stream = 2 }
local session_modes = fault.set "auto required optional"
local QUARANTINE_ON, QUARANTINE_OFF = 1, 2 -- MOON_QUARANTINE_...

local function is_callable(value)
    if type(value) == "function" then
        return true
    end
    local meta = type(value) == "table" and getmetatable(value)
    return meta and type(meta.__call) == "function" or false
end

local function is_options(value)
    return type(value) == "table" and getmetatable(value) == nil
end

--- A middleware as a function, from a function or an object that can be called.
local function middleware_of(value, what)
    if not is_callable(value) then
        local why = ""
        if type(value) == "string" and value:sub(1, 1) == "/" then
            why = (": for a prefix, app:group(%q, middleware, function(group) ... end)")
                :format(value)
        elseif value == nil then
            why = ": is it defined above this line, and given without ()?"
        elseif type(value) == "table" then
            why = ": options come behind the handler; an object needs a metatable with __call"
        end
        fault.raise("%s must be a function(c, proceed), not %s%s", what, fault.kind(value), why)
    end
    local entry = { name = naming.describe(value), place = naming.place(value), object = value }
    entry.fn = type(value) == "function" and value or function(c, proceed)
        return value(c, proceed)
    end
    return entry
end

--- An app or a group; `parent` is nil for the app.
function M.init(scope, parent, prefix)
    scope.parent = parent or false
    scope.root = parent and parent.root or scope
    scope.prefix = (parent and parent.prefix or "") .. prefix
    scope.middleware = {}
    scope.hooks = {}
    scope.settings = {}
    local scopes = scope.root.scopes
    scope.number = #scopes
    scopes[#scopes + 1] = scope
    return scope
end

-- `what` is how it is called.
local function check_open(scope, what)
    if type(scope) ~= "table" or not rawget(scope, "root") then
        fault.raise("call it with a colon: app:%s", what)
    elseif scope.root.frozen then
        fault.raise("routes are fixed once the app is loaded")
    end
end

-- Middleware from the app to here, as of now.
local function inherited(scope, list)
    if scope.parent then
        inherited(scope.parent, list)
    end
    for _, entry in ipairs(scope.middleware) do
        list[#list + 1] = entry
    end
    return list
end

--- Adds middleware to what is registered after this line.
---@param ... fun(c: moonshine.Context, proceed: function)
function Scope:use(...)
    check_open(self, "use(middleware)")
    if select("#", ...) == 0 then
        fault.raise("use() takes middleware: functions (c, proceed), given without ()")
    end
    for i = 1, select("#", ...) do
        table.insert(self.middleware, middleware_of((select(i, ...)), "middleware"))
    end
end

local function check_pattern(pattern)
    if type(pattern) ~= "string" then
        fault.raise("the path must be a string, not %s", fault.kind(pattern))
    elseif pattern:sub(1, 1) ~= "/" then
        fault.raise('the path "%s" must start with /: "/%s"', pattern, pattern)
    elseif pattern:sub(1, 3) == "/-/" then
        fault.raise('the path "%s" is taken: those under /-/ belong to the server', pattern)
    end
    -- Of other frameworks; no path has such a segment.
    local given, name = pattern:match("/([{<]([%a_][%w_]*)[^/]*[}>])%f[/%z]")
    if given then
        fault.raise('a parameter is written :%s, not %s: "%s"', name, given,
            (pattern:gsub("/[{<]([%a_][%w_]*)[^/]*[}>]%f[/%z]", "/:%1")))
    end
end

-- What was meant, when something else than a function is given as handler.
local function handler_hint(value)
    if value == nil then
        return ": is it defined above this line, and spelled so?"
    elseif type(value) == "string" then
        return ": to answer a fixed text, function() return \"text\" end; a function is given "
            .. "without (), which would call it now"
    elseif type(value) == "table" then
        return ": options come behind the handler"
    end
    return ""
end

local quarantine_options = fault.set "failures retry"

-- true, false, or a table: on, with numbers of its own.
local function read_quarantine(value, read)
    local own = value
    if type(value) == "boolean" then
        own = {}
    elseif type(value) ~= "table" then
        fault.raise("quarantine must be true, false or a table of failures and retry, not a %s",
            type(value))
    end
    fault.check_keys(own, quarantine_options, "quarantine")
    local failures = own.failures
    if failures ~= nil and (type(failures) ~= "number" or failures % 1 ~= 0 or failures < 1
            or failures > 1000000) then
        fault.raise("quarantine: failures must be a whole number from 1 to 1000000, not %s",
            tostring(failures))
    end
    if own.retry ~= nil then
        local ms = units.milliseconds(own.retry, "quarantine: retry")
        if ms < 1000 or ms > 86400000 then
            fault.raise("quarantine: retry must be from 1s to 1d, not %s", tostring(own.retry))
        end
        read.quarantine_retry_ms = ms
    end
    read.quarantine = value == false and QUARANTINE_OFF or QUARANTINE_ON
    read.quarantine_failures = failures
end

local function read_options(options)
    fault.check_keys(options, route_options, "a route")
    local read = {}
    if options.name ~= nil then
        read.name = fault.want(options.name, "string", "a route: name")
    end
    if options.timeout ~= nil then
        read.timeout_ms = units.milliseconds(options.timeout, "a route: timeout")
    end
    if options.stream_timeout ~= nil then
        read.stream_timeout_ms = units.milliseconds(options.stream_timeout,
            "a route: stream_timeout")
    end
    if options.cpu_limit ~= nil then
        read.cpu_limit_ms = units.milliseconds(options.cpu_limit, "a route: cpu_limit")
    end
    if options.body_limit ~= nil then
        read.body_limit = units.bytes(options.body_limit, "a route: body_limit")
    end
    if options.body ~= nil then
        read.body_mode = body_modes[options.body]
            or fault.raise('a route: body must be "buffer", "file" or "stream", not %s',
                fault.show(options.body))
    end
    if options.session ~= nil and not session_modes[options.session] then
        fault.raise('a route: session must be "auto", "required" or "optional", not %s',
            fault.show(options.session))
    end
    if options.quarantine ~= nil then
        read_quarantine(options.quarantine, read)
    end
    read.session = options.session
    read.cancel_on_disconnect = options.cancel_on_disconnect and true or nil
    return read
end

local function add_route(scope, names, any, path, ...)
    check_open(scope, ("%s(path, handler)"):format(any and "any" or names[1]:lower()))
    local count = select("#", ...)
    local args = { ... }
    local options = {}
    if count > 1 and is_options(args[count]) then
        options, count = args[count], count - 1
    end
    if count == 0 or not is_callable(args[count]) then
        fault.raise("%s takes a handler function, not %s%s", path and tostring(path) or "a route",
            fault.kind(args[count]), handler_hint(args[count]))
    end
    if path ~= "" or scope.prefix == "" then
        check_pattern(path)
    end
    local pattern = scope.prefix .. path
    check_pattern(pattern)
    local route = read_options(options)
    route.pattern, route.scope = pattern, scope.number
    route.methods, route.any = names, any
    route.source = fault.where(3)
    local handler = middleware_of(args[count], "the handler")
    route.handler, route.handler_entry = handler.fn, handler
    if options.input ~= nil then
        route.handler = require("moonshine.bind").wrap(route.handler, options.input, pattern)
    end
    route.chain = inherited(scope, {})
    for i = 1, count - 1 do
        table.insert(route.chain, middleware_of(args[i], "middleware"))
    end
    table.insert(scope.root.routes, route)
end

for _, name in ipairs(methods) do
    local list = { name:upper() }
    Scope[name] = function(self, path, ...)
        add_route(self, list, false, path, ...)
    end
end

--- A route for every method, also unknown ones.
---@param path string
---@param ... any Middleware, the handler, options.
function Scope:any(path, ...)
    add_route(self, { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" }, true, path,
        ...)
end

--- A route for several methods.
---@param names string[]
---@param path string
---@param ... any Middleware, the handler, options.
function Scope:route(names, path, ...)
    check_open(self, "route(methods, path, handler)")
    fault.want(names, "table", "route(): the list of methods")
    local list = {}
    for i, name in ipairs(names) do
        name = tostring(name):upper()
        if not known_methods[name] then
            fault.raise("route(): there is no method '%s'%s; app:any(path, handler) takes others, "
                .. "too", name, fault.hint(name, known_methods))
        end
        list[i] = name
    end
    if #list == 0 then
        fault.raise("route(): the list of methods is empty")
    end
    add_route(self, list, false, path, ...)
end

local static_options = fault.set "index fallback max_age immutable"

--- Serves the files of a directory, without Lua.
---@param prefix string
---@param dir string Relative to the application's directory.
---@param options? {index?: string, fallback?: string, max_age?: number|string, immutable?: boolean}
function Scope:static(prefix, dir, options)
    check_open(self, "static(prefix, directory)")
    check_pattern(prefix)
    fault.want(dir, "string", "static(): the directory")
    options = options or {}
    fault.check_keys(options, static_options, "static()")
    local route = {
        pattern = self.prefix .. prefix:gsub("/$", "") .. "/*path",
        scope = self.number,
        methods = { "GET", "HEAD" },
        source = fault.where(2),
        chain = {},
        dir = dir,
        index = fault.want(options.index or "index.html", "string", "static(): index"),
        fallback = options.fallback
            and fault.want(options.fallback, "string", "static(): fallback"),
    }
    local max_age = options.max_age
    if max_age ~= nil then
        max_age = math.floor(units.seconds(max_age, "static(): max_age"))
    elseif options.immutable then
        max_age = 365 * 86400
    end
    if max_age then
        route.cache_control = ("public, max-age=%d%s"):format(max_age,
            options.immutable and ", immutable" or "")
    end
    table.insert(self.root.routes, route)
end

--- A group: a prefix, maybe middleware, and maybe a function that gets it.
---@param prefix string
---@param ... any Middleware; the last argument is the body.
---@return moonshine.Scope
function Scope:group(prefix, ...)
    check_open(self, "group(prefix, function(group) ... end)")
    check_pattern(prefix)
    if prefix == "/" then
        prefix = "" -- a group for its middleware only
    elseif prefix:sub(-1) == "/" then
        fault.raise("the prefix %q must not end in /", prefix)
    end
    local group = M.init(setmetatable({}, Scope), self, prefix)
    local count = select("#", ...)
    for i = 1, count - 1 do
        table.insert(group.middleware, middleware_of((select(i, ...)), "middleware"))
    end
    if count > 0 then
        local body = select(count, ...)
        if type(body) ~= "function" then
            fault.raise("group(): the last argument must be a function that gets the group, not "
                .. "%s: group(%q, middleware, function(group) ... end)", fault.kind(body), prefix)
        end
        if debug.getinfo(body, "u").nparams > 1 then -- it waits for `proceed`
            fault.raise("group(): the last argument must be a function(group), and this one looks "
                .. "like middleware: group(%q, middleware, function(group) ... end), or "
                .. "local group = app:group(%q) and group:use(middleware)", prefix, prefix)
        end
        body(group)
    end
    return group
end

--- Shapes one status: a function(c, err), a table (sent as JSON) or a string.
---@param status integer
---@param how function|table|string
function Scope:on(status, how)
    check_open(self, "on(status, function(c, err) ... end)")
    if type(status) ~= "number" or status < 400 or status > 599 then
        fault.raise("on(): the status must be a number from 400 to 599, not %s",
            fault.show(status))
    end
    local hook = { source = fault.where(2) }
    if type(how) == "function" then
        hook.fn, hook.chain = how, inherited(self, {})
    elseif type(how) == "string" then
        hook.body, hook.mime = how, "text/plain; charset=utf-8"
    elseif type(how) == "table" then
        local ok, text = pcall(require("moonshine.json").encode, how)
        if not ok then
            fault.raise("on(): the table is no JSON: %s", text)
        end
        hook.body, hook.mime = text, "application/json"
    else
        fault.raise("on(): the second argument must be a function, a table or a string, not %s",
            fault.kind(how))
    end
    self.hooks[status] = hook
end

-- cors, security_headers, access_log and request_id.
for name, read in pairs(stages) do
    Scope[name] = function(self, options)
        check_open(self, name .. "(options)")
        self.settings[name] = read(options)
    end
end

return M
