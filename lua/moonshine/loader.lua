--- require and the places it looks in: the application first, then the system.
---
--- Code of the application and of libraries is loaded through the core, which
--- makes its loops stoppable; the framework's own is not.
local fault = require "moonshine.fault"
local hint = require "moonshine.hint"
local native = require "moonshine.native"

local M = {}

local places = {
    "?.lua", "?/init.lua", "lib/?.lua", "lib/?/init.lua",
    "lua_modules/share/lua/5.1/?.lua", "lua_modules/share/lua/5.1/?/init.lua",
}

-- Where each module of the application was found.
local files = {}

-- Coroutines that are loading a module, to tell a loop from a stopped attempt.
local loading = {}
local order = {} -- their names, as they began

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
            files[name] = file
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

-- The module of the application that looks most like `name`, or nil.
local function nearest_module(name)
    local names = {}
    for _, file in ipairs(native.list_files("")) do
        local module = file:match("^(.*)%.lua$")
        if module and module ~= "app" and module ~= "config" then
            module = module:gsub("^lib/", ""):gsub("/init$", ""):gsub("/", ".")
            names[module] = true
        end
    end
    return fault.nearest(name, names)
end

-- What to do about a module that is not there.
local function advice(name)
    local plain = name:gsub("%.lua$", ""):gsub("^%.?/", ""):gsub("^lib[/.]", ""):gsub("/", ".")
    if plain ~= name then
        return (': a module is named without .lua and with dots for slashes: require "%s"')
            :format(plain)
    end
    local near = nearest_module(name)
    if near then
        return (", did you mean '%s'?"):format(near)
    end
    local first = name:match("^[^.]*")
    local instead = fault.instead("modules", first)
    if instead then
        return ": " .. instead
    end
    return (": if it is yours, it goes to %s.lua or lib/%s.lua; from LuaRocks: luarocks install "
        .. "--lua-version 5.1 --tree lua_modules %s"):format(name:gsub("%.", "/"),
        (name:gsub("%.", "/")), fault.instead("rocks", first) or first)
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
    fault.raise("module '%s' not found%s%s", name, advice(name), table.concat(tried))
end

-- "a requires b, which requires a".
local function circle(name, me)
    local parts, began = {}, false
    for _, module in ipairs(order) do
        began = began or module == name
        if began and loading[module] == me then
            parts[#parts + 1] = module
        end
    end
    parts[#parts + 1] = name
    return table.concat(parts, " requires ", 1, 2)
        .. (parts[3] and ", which requires " .. table.concat(parts, ", which requires ", 3) or "")
end

local function forget(name)
    for i = #order, 1, -1 do
        if order[i] == name then
            table.remove(order, i)
            return
        end
    end
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
    local me = coroutine.running() or M.no_coroutine
    if other == me then
        fault.raise("module '%s' requires itself: %s", name, circle(name, me))
    elseif other and coroutine.status(other) ~= "dead" then
        fault.raise("module '%s' is being loaded by another request", name)
    end
    local fn = find(name)
    loading[name] = me
    order[#order + 1] = name
    local ok, result = pcall(fn, name)
    loading[name] = nil
    forget(name)
    if not ok then
        error(result, 0)
    end
    if result ~= nil then
        loaded[name] = result
    elseif loaded[name] == nil then
        loaded[name] = true
        hint.returned_nothing[name] = files[name]
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
