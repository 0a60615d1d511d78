--- require and the places it looks in: the application first, then the system.
---
--- Code of the application and of libraries is loaded through the core, which
--- makes its loops stoppable; the framework's own is not.
local fault = require "moonshine.fault"
local native = require "moonshine.native"

local M = {}

local places = {
    "?.lua", "?/init.lua", "lib/?.lua", "lib/?/init.lua",
    "lua_modules/share/lua/5.1/?.lua", "lua_modules/share/lua/5.1/?/init.lua",
}

-- Coroutines that are loading a module, to tell a loop from a stopped attempt.
local loading = {}

--- Loads a file of the archive; raises with the syntax error.
function M.load_file(name, text)
    local fn, extra = native.load(text, "@" .. name)
    if not fn then
        error(extra, 0)
    end
    if extra then
        require("moonshine.log").warn(name .. " runs with fewer stop points than it should", {})
    end
    return fn
end

local function search(name)
    if name:find("^moonshine%.") or name:find("[^%w_%.%-/]") or name:find("..", 1, true) then
        return nil
    end
    local path = name:gsub("%.", "/")
    local tried = {}
    for _, template in ipairs(places) do
        local file = template:gsub("%?", (path:gsub("%%", "%%%%")))
        local text = native.read_file(file)
        if text then
            return M.load_file(file, text)
        end
        tried[#tried + 1] = "\n\tno file '" .. file .. "' in the application"
    end
    for template in package.path:gmatch("[^;]+") do
        if template:sub(1, 1) == "/" then
            local file = template:gsub("%?", (path:gsub("%%", "%%%%")))
            local text = native.read_file(file)
            if text then
                return M.load_file(file, text)
            end
            tried[#tried + 1] = "\n\tno file '" .. file .. "'"
        end
    end
    return table.concat(tried)
end

local function find(name)
    local tried = {}
    for _, loader in ipairs(package.loaders) do
        local found = loader(name)
        if type(found) == "function" then
            return found
        elseif type(found) == "string" then
            tried[#tried + 1] = found
        end
    end
    fault.raise("module '%s' not found:%s", name, (table.concat(tried):gsub("%%", "%%%%")))
end

--- require: nothing stays half loaded when loading fails or is stopped.
function M.require(name)
    fault.want(name, "string", "require: the module's name")
    local loaded = package.loaded
    local value = loaded[name]
    if value ~= nil then
        return value
    end
    local other = loading[name]
    if other and coroutine.status(other) ~= "dead" then
        fault.raise("module '%s' is being loaded: it requires itself, or another request is at it",
            name)
    end
    local fn = find(name)
    loading[name] = coroutine.running() or M.no_coroutine
    local ok, result = pcall(fn, name)
    loading[name] = nil
    if not ok then
        error(result, 0)
    end
    if result ~= nil then
        loaded[name] = result
    elseif loaded[name] == nil then
        loaded[name] = true
    end
    return loaded[name]
end

--- Puts the loaders and require in place.
function M.install(app_dir)
    -- Stands for the main thread, which is no coroutine in Lua 5.1.
    M.no_coroutine = coroutine.create(function() end)
    package.cpath = app_dir .. "/lua_modules/lib/lua/5.1/?.so;" .. package.cpath
    package.loaders[2] = search
    _G.require = M.require
end

return M
