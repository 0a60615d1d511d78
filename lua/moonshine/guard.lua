--- Globals: what an application must not do by accident.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local log = require "moonshine.log"

local C = ffi.C
local M = {}

-- Of the application itself, not of libraries or the framework.
local function is_app_source(source)
    return source:sub(1, 1) == "@" and source:sub(2, 2) ~= "/"
        and not source:find("^@lua_modules/") and source:sub(1, #fault.own) ~= fault.own
end

local loaded = false

-- Globals, and what the function at `level` above the caller can see besides.
local function names_at(level)
    local names = {}
    for name in pairs(_G) do
        names[name] = true
    end
    for i = 1, 200 do
        local name = debug.getlocal(level + 1, i)
        if not name then
            break
        end
        names[name] = name:find("^[%a_]") and true or nil
    end
    local fn = debug.getinfo(level + 1, "f").func
    for i = 1, 60 do
        local name = debug.getupvalue(fn, i)
        if not name then
            break
        end
        names[name] = true
    end
    return names
end

local function on_read(_, name)
    local info = debug.getinfo(2, "S")
    if info and is_app_source(info.source) then
        fault.raise("the global '%s' is not defined%s", tostring(name),
            fault.hint(name, names_at(2), fault.instead("globals", name)))
    end
    return nil
end

local function on_write(globals, name, value)
    if loaded then
        fault.raise("assignment to the new global '%s': make it local, or state of the module",
            tostring(name))
    end
    rawset(globals, name, value)
end

local function forbid(owner, name, why)
    owner[name] = function()
        fault.raise("%s", why)
    end
end

-- Wraps a function that blocks the worker: warns once, in handlers only.
local function warn_once(owner, label, name)
    local original = owner[name]
    local warned = false
    owner[name] = function(...)
        if not warned and C.moon_task_current() ~= 0 then
            warned = true
            log.warn(label .. " blocks this worker while it runs, at "
                .. (fault.where(2) or "?"))
        end
        return original(...)
    end
end

local function print_to_log(...)
    local parts = {}
    for i = 1, select("#", ...) do
        parts[i] = tostring((select(i, ...)))
    end
    log.info(table.concat(parts, "\t"))
end

-- A seed that neither time nor process numbers give away.
local function seed_random()
    local bytes = ffi.new "uint32_t[2]"
    C.moon_lua_random(ffi.cast("char *", bytes), 8)
    math.randomseed(bytes[0] + bytes[1] * 2 ^ 20)
end

--- Puts the guards in place, before the app is loaded.
function M.install()
    seed_random()
    _G.print = print_to_log
    forbid(os, "exit", "os.exit would end the worker and every request on it; use error() or "
        .. "return a status")
    forbid(debug, "sethook", "debug.sethook is taken: it stops runaway code")
    local collect = collectgarbage
    function _G.collectgarbage(option, ...)
        if option == "stop" then
            fault.raise('collectgarbage("stop") would let memory run out')
        end
        return collect(option, ...)
    end
    warn_once(os, "os.execute", "execute")
    warn_once(io, "io.popen", "popen")
    warn_once(io, "io.read", "read")
    setmetatable(_G, { __index = on_read, __newindex = on_write })
end

--- From now on new globals raise.
function M.close()
    loaded = true
end

return M
