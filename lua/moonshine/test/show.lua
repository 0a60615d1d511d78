--- Values as text, for people: what a failed assertion prints.
local native = require "moonshine.native"

local M = {}

-- A value in the middle of a line gets so many characters.
local SHORT = 72

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local reserved = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
    return then true until while]]):gmatch("%a+") do
    reserved[word] = true
end

local function hex(bytes)
    return (bytes:gsub(".", function(ch)
        return ("\\x%02x"):format(ch:byte())
    end))
end

-- Bytes from 128 on: characters of UTF-8 stay.
local function clean_high(bytes)
    local parts, at = {}, 1
    while at <= #bytes do
        local lead = bytes:byte(at)
        local more = lead >= 0xf0 and lead < 0xf5 and 3 or lead >= 0xe0 and lead < 0xf0 and 2
            or lead >= 0xc2 and lead < 0xe0 and 1 or 0
        local character = more > 0 and bytes:sub(at, at + more)
            :match("^.[\128-\191]" .. ("[\128-\191]"):rep(more - 1) .. "$")
        parts[#parts + 1] = character or hex(bytes:sub(at, at))
        at = at + (character and #character or 1)
    end
    return table.concat(parts)
end

--- Without bytes that would steer a terminal, or that are no text.
---@param text string
---@return string
function M.clean(text)
    return (text:gsub("[%z\1-\8\11-\31\127]", hex):gsub("[\128-\255]+", clean_high))
end

local function quote(text)
    return '"' .. M.clean(text:gsub('[\n\r\t"\\]', escapes)) .. '"'
end

local function number(value)
    local text = tostring(value)
    return tonumber(text) == value and text or value ~= value and text or ("%.17g"):format(value)
end

--- A number, string or the like; a table only by its address.
function M.scalar(value)
    local kind = type(value)
    if kind == "string" then
        return quote(value)
    elseif kind == "number" then
        return number(value)
    elseif value == native.json.null then
        return "json.null"
    end
    local ok, text = pcall(tostring, value)
    return ok and type(text) == "string" and M.clean(text) or "(" .. kind .. ")"
end

--- How a key is written in a table constructor.
function M.key(key)
    if type(key) == "string" and key:find("^[%a_][%w_]*$") and not reserved[key] then
        return key
    end
    return "[" .. M.scalar(key) .. "]"
end

local ranks = { number = 1, string = 2 }

local function before(a, b)
    local kind_a, kind_b = type(a), type(b)
    if kind_a ~= kind_b then
        return (ranks[kind_a] or 3) < (ranks[kind_b] or 3)
    elseif ranks[kind_a] then
        return a < b
    end
    return tostring(a) < tostring(b)
end

--- How many values a table has from 1 on, without a gap.
function M.length(list)
    local count = 0
    while rawget(list, count + 1) ~= nil do
        count = count + 1
    end
    return count
end

--- The keys of one table or two that are none of the first `count`, in order.
function M.keys(count, a, b)
    local seen, keys = {}, {}
    for _, owner in ipairs { a, b } do
        for key in next, owner do
            local counted = type(key) == "number" and key >= 1 and key <= count and key % 1 == 0
            if not counted and not seen[key] then
                seen[key] = true
                keys[#keys + 1] = key
            end
        end
    end
    table.sort(keys, before)
    return keys
end

local function add(parts, value, open, room)
    if type(value) ~= "table" or value == native.json.null then
        parts[#parts + 1] = M.scalar(value)
        return room - #parts[#parts]
    elseif next(value) == nil then
        parts[#parts + 1] = "{}"
        return room - 2
    elseif open[value] then
        parts[#parts + 1] = "{...}"
        return room - 5
    end
    open[value] = true
    parts[#parts + 1] = "{ "
    local count, comma = M.length(value), ""
    local function item(prefix, inner)
        parts[#parts + 1] = comma .. prefix
        room = add(parts, inner, open, room - #parts[#parts])
        comma = ", "
    end
    for i = 1, count do
        if room > 0 then
            item("", value[i])
        end
    end
    for _, key in ipairs(room > 0 and M.keys(count, value) or {}) do
        if room > 0 then
            item(M.key(key) .. " = ", rawget(value, key))
        end
    end
    parts[#parts + 1] = " }"
    open[value] = nil
    return room - 4
end

--- On one line, cut if it is long.
---@param value any
---@param most? integer How many characters, about.
---@return string
function M.show(value, most)
    most = most or SHORT
    local parts = {}
    add(parts, value, {}, most)
    local text = table.concat(parts)
    if #text <= most then
        return text
    end
    -- Not in the middle of a character.
    local last = most
    while last > 0 and text:byte(last + 1) >= 0x80 and text:byte(last + 1) < 0xc0 do
        last = last - 1
    end
    return text:sub(1, last) .. "..."
end

return M
