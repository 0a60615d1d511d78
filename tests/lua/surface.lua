--- What the framework offers: a list of all functions that an application can
--- reach, with their parameters and places in the source, for
--- tests/http/test_reference.py.
local util = require "jit.util"
local moonshine = require "moonshine"

-- Opcodes of returns with values; they differ between versions of LuaJIT.
local returns = {}
for _, fn in ipairs {
    function() return 1 end, function() return 1, 2 end, function(...) return ... end,
    function() return print() end, function(...) return print(...) end,
} do
    local code = util.funcbc(fn, util.funcinfo(fn).bytecodes - 1)
    returns[code % 256] = true
end

local function gives_values(fn)
    for pc = 1, util.funcinfo(fn).bytecodes - 1 do
        if returns[util.funcbc(fn, pc) % 256] then
            return true
        end
    end
    return false
end

local function facts(owner, name, fn)
    local info = debug.getinfo(fn, "Su")
    local fact = { owner = owner, name = name, native = info.what == "C" }
    if not fact.native then
        local names = {}
        for i = 1, info.nparams do
            names[i] = debug.getlocal(fn, i)
        end
        if info.isvararg then
            names[#names + 1] = "..."
        end
        fact.params = moonshine.json.array(names)
        fact.file, fact.line = info.source:match("moonshine/.*$"), info.linedefined
        fact.returns = gives_values(fn)
    end
    return fact
end

local function is_public(name)
    return type(name) == "string" and name:sub(1, 1) ~= "_"
end

-- The functions of a module, and of the tables in it: moonshine, moonshine.log, ...
local function walk(list, owner, module, seen)
    local names = {}
    for name in pairs(module) do
        names[#names + 1] = name
    end
    table.sort(names)
    for _, name in ipairs(names) do
        local value = module[name]
        if is_public(name) and type(value) == "function" then
            list[#list + 1] = facts(owner, name, value)
        elseif is_public(name) and type(value) == "table" and not seen[value] then
            seen[value] = true
            walk(list, owner .. "." .. name, value, seen)
        end
    end
end

local function is_module(value)
    for _, module in pairs(package.loaded) do
        if module == value then
            return true
        end
    end
    return false
end

-- The table of methods that an object's metatable finds, be it by a function.
local function methods_of(object)
    local index = debug.getmetatable(object).__index
    if type(index) == "table" then
        return index
    end
    for i = 1, debug.getinfo(index, "u").nups do
        local _, value = debug.getupvalue(index, i)
        if type(value) == "table" and not is_module(value) then
            return value
        end
    end
end

--- modules: { name = table }, objects: { name = object }.
return function(modules, objects)
    local list = {}
    for owner, module in pairs(modules) do
        walk(list, owner, module, {})
    end
    for owner, object in pairs(objects) do
        local methods = methods_of(object)
        while methods do
            for name, value in pairs(methods) do
                if is_public(name) and type(value) == "function" then
                    list[#list + 1] = facts(owner, name, value)
                end
            end
            local meta = debug.getmetatable(methods)
            methods = meta and type(meta.__index) == "table" and meta.__index
        end
    end
    return list
end
