--- moonshine.app(): the application object that app.lua returns.
local fault = require "moonshine.fault"
local scope = require "moonshine.scope"

---@class moonshine.App: moonshine.Scope
local App = setmetatable({}, { __index = scope.Scope })

local M = {}

local function unknown(key)
    local names = {}
    for _, methods in ipairs { App, scope.Scope } do
        for name in pairs(methods) do
            names[name] = true
        end
    end
    fault.raise("an app has no method '%s'%s", tostring(key),
        fault.hint(key, names, fault.instead("app", key)))
end

M.metatable = {
    __index = function(app, key)
        local value = App[key]
        if value == nil and type(key) == "string" and rawget(app, "ready") then
            unknown(key)
        end
        return value
    end,
}

local app_options = fault.set "trailing_slash generation_header"

--- A new application.
---@param options? {trailing_slash?: "redirect"|"strict", generation_header?: boolean}
---@return moonshine.App
function M.new(options)
    options = options or {}
    fault.check_keys(options, app_options, "moonshine.app")
    local slash = options.trailing_slash or "redirect"
    if slash ~= "redirect" and slash ~= "strict" then
        fault.raise('moonshine.app: trailing_slash must be "redirect" or "strict", not %s',
            fault.show(slash))
    end
    local app = {
        scopes = {}, routes = {}, starts = {}, stops = {}, checks = {},
        strict_slash = slash == "strict",
        generation_header = options.generation_header and true or false,
        frozen = false, shaper = false, parent = false,
    }
    app.root = app
    scope.init(app, nil, "")
    app.ready = true
    return setmetatable(app, M.metatable)
end

--- Is this value an app?
function M.is(value)
    return type(value) == "table" and getmetatable(value) == M.metatable
end

--- Shapes every failure that reached Lua and has no app:on of its status.
---@param fn fun(c: moonshine.Context, err: table): any, integer?
function App:on_error(fn)
    self.shaper = fault.want(fn, "function", "app:on_error: the argument")
end

--- Runs before the code goes live, in every worker; may wait; an error keeps the
--- old code.
---@param fn fun()
function App:on_start(fn)
    table.insert(self.starts, fault.want(fn, "function", "app:on_start: the argument"))
end

--- Runs when this code is replaced or the worker stops.
---@param fn fun()
function App:on_stop(fn)
    table.insert(self.stops, fault.want(fn, "function", "app:on_stop: the argument"))
end

--- Runs before a reload is accepted, after on_start; an error keeps the old code.
---@param fn fun(t: table)
function App:check(fn)
    table.insert(self.checks, fault.want(fn, "function", "app:check: the argument"))
end

return M
