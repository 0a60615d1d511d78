--- Values that arrive as text (forms, queries, parameters), as shapes want them;
--- and a form's names with brackets as tables.
local native = require "moonshine.native"

local M = {}

local array, null = native.json.array, native.json.null

--- The metatable that marks lists.
M.ARRAY = getmetatable(array {})
--- The metatable of uploads; moonshine.form fills it.
M.UPLOAD = {}

local ARRAY, UPLOAD = M.ARRAY, M.UPLOAD
local LEVELS, INDEX_DIGITS = 8, 4

local words = { ["true"] = true, ["1"] = true, on = true, ["false"] = false, ["0"] = false,
    off = false }

--- By type: the value that a text stands for, or the text if it stands for none.
M.convert = {
    integer = function(v)
        return type(v) == "string" and #v <= 16 and v:find("^%-?%d+$") and tonumber(v) or v
    end,
    number = function(v)
        return type(v) == "string" and #v <= 40 and v:find("^%-?%d+%.?%d*$") and tonumber(v) or v
    end,
    boolean = function(v)
        local word = words[v]
        if word == nil then
            return v
        end
        return word
    end,
    null = function(v)
        return v == "" and null or v
    end,
}

--- The first of several values, as c:query and c:form give it.
function M.single(v)
    if type(v) == "table" and getmetatable(v) == ARRAY then
        return v[1]
    end
    return v
end

--- A list from one value, from several, or from a table with keys "0", "1", ...
function M.listed(v)
    if type(v) ~= "table" or getmetatable(v) == UPLOAD then
        return array { v }
    elseif getmetatable(v) == ARRAY then
        return v
    end
    local keys = {}
    for key in pairs(v) do
        if type(key) ~= "string" or not key:find("^%d+$") or #key > INDEX_DIGITS then
            return v
        end
        keys[#keys + 1] = key
    end
    table.sort(keys, function(a, b) return tonumber(a) < tonumber(b) end)
    local list = array {}
    for i, key in ipairs(keys) do
        list[i] = v[key]
    end
    return list
end

-- "a[b][]" as { "a", "b", "" }; a name that is not of that form as itself.
local function split(name)
    local first, rest = name:match("^([^%[%]]+)(%[.*)$")
    if not first then
        return { name }
    end
    local path, at = { first }, 1
    while at <= #rest do
        local key, stop = rest:match("^%[([^%[%]]*)%]()", at)
        if not key or #path == LEVELS then
            return { name }
        end
        path[#path + 1], at = key, stop
    end
    return path
end

local function put(into, key, value)
    local before = into[key]
    if before == nil then
        into[key] = value
    elseif type(before) == "table" and getmetatable(before) == ARRAY then
        before[#before + 1] = value
    else
        into[key] = array { before, value }
    end
end

-- Where a path leads to: the table and the key below it; nil when a text is in
-- the way.
local function descend(tree, path)
    local into, last = tree, #path
    if path[last] == "" and last > 1 then
        last = last - 1 -- "tags[]" is one more of tags
    end
    for i = 1, last - 1 do
        local next_into = into[path[i]]
        if next_into == nil then
            next_into = {}
            into[path[i]] = next_into
        elseif type(next_into) ~= "table" or getmetatable(next_into) ~= nil then
            return nil
        end
        into = next_into
    end
    return into, path[last], path[last + 1] == ""
end

--- A table from pairs { name, value }: repeated names make a list, "a[b]" a table
--- in a table.
function M.tree(list)
    local tree = {}
    for _, pair in ipairs(list) do
        local into, key, is_list = descend(tree, split(pair[1]))
        if not into then
            into, key, is_list = tree, pair[1], false
        end
        if is_list and into[key] == nil then
            into[key] = array {}
        end
        put(into, key, pair[2])
    end
    return tree
end

return M
