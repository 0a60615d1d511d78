--- require "moonshine": the framework's public table.
local ffi = require "ffi"
local app = require "moonshine.app"
local basic_auth = require "moonshine.basic_auth"
local cache = require "moonshine.cache"
local crypto = require "moonshine.crypto"
local csrf = require "moonshine.csrf"
local encode = require "moonshine.encode"
local fault = require "moonshine.fault"
local limit = require "moonshine.limit"
local lock = require "moonshine.lock"
local metrics = require "moonshine.metrics"
local native = require "moonshine.native"
local sessions = require "moonshine.sessions"
local shared = require "moonshine.shared"
local tasks = require "moonshine.tasks"
local tcp = require "moonshine.tcp"
local timers = require "moonshine.timers"
local log = require "moonshine.log"

local C, ffi_string = ffi.C, ffi.string
local info = native.info()
local out = ffi.new "moon_bytes"
local number = ffi.new "double[1]"

---@class moonshine
---@field version string
---@field dev boolean The server runs with --dev.
local M = {
    app = app.new,
    sleep = tasks.sleep,
    all = tasks.all,
    spawn = tasks.spawn,
    every = timers.every,
    tcp = tcp.new,
    sessions = sessions,
    shared = shared.open,
    cache = cache.new,
    json = native.json,
    crypto = crypto,
    limit = limit.public,
    lock = lock.lock,
    csrf = csrf.new,
    basic_auth = basic_auth.new,
    log = log,
    metrics = metrics,
    encode = encode,
    decode = encode.decode,
    version = info.version,
    dev = info.dev,
}

--- Seconds since 1970, with a fraction.
---@return number
function M.now()
    return (C.moon_lua_now())
end

--- Seconds of a clock that never jumps; only differences mean something.
---@return number
function M.clock()
    return (C.moon_lua_clock())
end

--- True once this code is replaced or the worker stops.
---@return boolean
function M.stopping()
    return (C.moon_vm_stopping())
end

--- A date as HTTP writes it; or (given a string) the time that it says, or nil,
--- message, 400.
---@param when? number|string Default now.
---@return string|number|nil
---@return string?
---@return integer?
function M.http_time(when)
    if type(when) == "string" then
        if not C.moon_lua_http_date_parse(when, #when, number) then
            return nil, "not an HTTP date", 400
        end
        return number[0]
    end
    C.moon_lua_http_date(when or C.moon_lua_now(), out)
    return (ffi_string(out.ptr, out.len))
end

--- A variable of the environment, or nil.
---@param name string
---@return string?
function M.env(name)
    return os.getenv(fault.want(name, "string", "moonshine.env: the name"))
end

local config

--- The `app` table of config.lua.
---@return table
function M.config()
    if not config then
        config = native.json.decode(info.config_json) or {}
    end
    return config
end

--- A file of the application, or nil, message, 404. What is read while loading
--- belongs to the generation and does not change under it.
---@param path string
---@return string?
---@return string?
---@return integer?
function M.read(path)
    fault.want(path, "string", "moonshine.read: the path")
    local text = native.read_file(path)
    if text then
        return text
    end
    local file = io.open(path:sub(1, 1) == "/" and path or info.app_dir .. "/" .. path, "rb")
    if not file then
        return nil, "no such file: " .. path, 404
    end
    text = file:read("*a")
    file:close()
    return text
end

--- The text of a view (see c:render), for mails and tests.
---@param view string
---@param data? table<string, any> The names that the view may use.
---@return string
function M.render(view, data)
    local text = require("moonshine.views").render(view, data, nil, "moonshine.render")
    return text
end

--- A client of Redis, by default for redis.url of the configuration. May be called while
--- the app loads. Its links are the worker's: all code shares them, and they survive a
--- reload.
---@param url? string redis:// redis+unix:// redis+sentinel:// redis+cluster://
---@param options? {timeout?: number|string, connect_timeout?: number|string, max_pending?: integer}
---@return moonshine.Redis
function M.redis(url, options)
    return require("moonshine.redis").new(url, options)
end

--- This worker: id (from 1) and how many there are.
---@return {id: integer, count: integer}
function M.worker()
    return { id = info.worker_id, count = info.worker_count }
end

--- The node's name.
---@return string
function M.node()
    return info.node
end

--- The number of this code, counting reloads.
---@return integer
function M.generation()
    return info.generation
end

local function names_of(module)
    local names = {}
    for name in pairs(module) do
        names[#names + 1] = name
    end
    table.sort(names)
    return table.concat(names, " ")
end

return setmetatable(M, {
    __index = function(_, key)
        local instead = fault.hint(key, M, fault.instead("module", key))
        fault.raise("moonshine has no '%s'%s", tostring(key),
            instead ~= "" and instead or "; it has " .. names_of(M))
    end,
    __call = function()
        fault.raise("moonshine is a module, not a function: local app = moonshine.app()")
    end,
    __newindex = function(_, key)
        fault.raise("moonshine.%s cannot be assigned", tostring(key))
    end,
})
