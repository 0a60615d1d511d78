--- --dev: values as short text. Calls no metamethod: what is shown belongs to
--- code that has just failed, and looking must not run it.
local M = {}

local STRING_MAX, TEXT_MAX, ITEMS_MAX, DEPTH_MAX = 160, 600, 12, 2

--- Names for values, and for all values of a metatable, that say more than what
--- is in them.
M.values = setmetatable({}, { __mode = "k" })
M.metatables = setmetatable({}, { __mode = "k" })

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function quote(text)
    local shown = #text > STRING_MAX and text:sub(1, STRING_MAX) or text
    shown = shown:gsub('[%c"\\]', function(ch)
        return escapes[ch] or ("\\%d"):format(ch:byte())
    end)
    shown = '"' .. shown .. '"'
    return #text > STRING_MAX and ("%s... (%d bytes)"):format(shown, #text) or shown
end

local function function_text(fn)
    local info = debug.getinfo(fn, "S")
    if info.what == "C" or info.linedefined < 0 then
        return "function (C)"
    end
    return ("function %s:%d"):format(info.source:gsub("^[@=]", ""), info.linedefined)
end

local describe

local function key_text(key, depth, seen)
    if type(key) == "string" then
        return key:find("^[%a_][%w_]*$") and key or "[" .. quote(key) .. "]"
    end
    return "[" .. describe(key, depth, seen) .. "]"
end

-- What keys of things are called that are nobody else's.
local secrets = { "token", "secret", "passw", "passphrase", "pwd", "cookie", "auth", "session",
    "credential", "signature", "key$" }

local function is_secret(key)
    key = type(key) == "string" and key:lower() or ""
    for _, pattern in ipairs(secrets) do
        if key:find(pattern) then
            return true
        end
    end
    return false
end

-- List items first, in order; then the rest, names by alphabet.
local function items_of(value)
    local items, keys, count = {}, {}, 0
    for i = 1, ITEMS_MAX do
        local item = rawget(value, i)
        if item == nil then
            break
        end
        items[i] = { item = item }
    end
    local listed = #items
    for key, item in next, value do
        count = count + 1
        local in_list = type(key) == "number" and key >= 1 and key <= listed and key % 1 == 0
        if not in_list and #keys < 1000 then
            keys[#keys + 1] = { key = key, item = item }
        end
    end
    table.sort(keys, function(a, b)
        local ka, kb = a.key, b.key
        if type(ka) ~= type(kb) then
            return type(ka) < type(kb)
        elseif type(ka) == "string" or type(ka) == "number" then
            return ka < kb
        end
        return false
    end)
    for _, pair in ipairs(keys) do
        items[#items + 1] = pair
    end
    return items, count
end

local function table_text(value, depth, seen)
    if seen[value] then
        return "{ again }"
    elseif next(value) == nil then
        return "{}"
    elseif depth == 0 then
        return "{ ... }"
    end
    seen[value] = true
    local items, count = items_of(value)
    local parts, length = {}, 0
    for i, pair in ipairs(items) do
        if i > ITEMS_MAX or length > TEXT_MAX then
            break
        end
        local hidden = seen.masked and pair.key ~= nil and is_secret(pair.key)
        local text = hidden and "***" or describe(pair.item, depth - 1, seen)
        if pair.key ~= nil then
            text = key_text(pair.key, 0, seen) .. " = " .. text
        end
        parts[i] = text
        length = length + #text
    end
    seen[value] = nil
    local more = count - #parts
    if more > 0 then
        parts[#parts + 1] = ("... %d more"):format(more)
    end
    return "{ " .. table.concat(parts, ", ") .. " }"
end

local function name_for(value)
    local name = M.values[value]
    if name then
        return name
    end
    local meta = debug.getmetatable(value)
    return meta and M.metatables[meta] or nil
end

function describe(value, depth, seen)
    local kind = type(value)
    if kind == "string" then
        return quote(value)
    elseif kind == "number" then
        -- tostring keeps 14 digits of an integer that has 16.
        return value % 1 == 0 and math.abs(value) <= 2 ^ 53 and ("%.0f"):format(value)
            or tostring(value)
    elseif kind == "boolean" or kind == "nil" then
        return tostring(value)
    elseif kind == "function" then
        return name_for(value) or function_text(value)
    elseif kind == "table" then
        return name_for(value) or table_text(value, depth, seen)
    elseif kind == "cdata" then
        local ffi = require "ffi"
        local ctype = tostring(ffi.typeof(value)):gsub("^ctype<(.*)>$", "%1")
        -- 64-bit integers have no metatable of the application's.
        if ctype == "int64_t" or ctype == "uint64_t" then
            return tostring(value)
        end
        return "cdata " .. ctype
    end
    return name_for(value) or kind
end

--- The value as text on one line, a few hundred bytes at most. `masked`: without
--- what keys name as secret, for logs.
function M.describe(value, masked)
    local text = describe(value, DEPTH_MAX, { masked = masked })
    return #text > 2 * TEXT_MAX and text:sub(1, 2 * TEXT_MAX) .. " ..." or text
end

return M
