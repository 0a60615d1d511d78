--- Shapes: what a body, a query or parameters must look like, as c:bind and the
--- route option `input` take it.
---
--- A shape is text ("integer(1..99)", "string|null", "boolean?") or a table: of
--- shapes by field name, or a list { shape, min = , max = }. Reading one gives a
--- tree of nodes, which shape_code turns into a function.
local fault = require "moonshine.fault"
local units = require "moonshine.units"

local M = {}

local known = fault.set "string integer number boolean null any object array uuid email date upload"

local names = {
    string = "a string", integer = "an integer", number = "a number", boolean = "true or false",
    null = "null", any = "anything", object = "an object", array = "a list", uuid = "a UUID",
    email = "an e-mail address", date = "a date such as 2026-01-31", upload = "a file",
}

local units_of = { string = "character", array = "item", upload = "byte" }

-- " of 1 to 80 characters" and the like; "" without a range.
local function describe_range(kind, min, max)
    local unit, text = units_of[kind]
    if not min and not max then
        return ""
    elseif min == max then
        text = tostring(min)
    elseif min and max then
        text = min .. " to " .. max
    else
        text = (min and "at least " or "at most ") .. (min or max)
    end
    if not unit then
        return (min and max and min ~= max and " from " or " of ") .. text
    end
    return (" of %s %s%s"):format(text, unit, (max or min) == 1 and "" or "s")
end

local function describe(node)
    if node.kind == "literal" then
        return ("%q"):format(node.value)
    elseif node.kind == "list" then
        return "a list" .. describe_range("array", node.min, node.max)
    elseif node.kind == "map" then
        return "an object"
    elseif node.kind ~= "union" then
        return names[node.kind] .. describe_range(node.kind, node.min, node.max)
    end
    local parts = {}
    for i, alternative in ipairs(node) do
        parts[i] = describe(alternative)
    end
    local last = table.remove(parts)
    return table.concat(parts, ", ") .. (#parts > 0 and " or " or "") .. last
end

--- What a value must be, for messages: "must be an integer from 1 to 99".
function M.expectation(node)
    return "must be " .. describe(node)
end

-- ---- text ----

local function wrong(where, message, ...)
    fault.raise("the shape%s: " .. message, where == "" and "" or " of " .. where, ...)
end

local function bound(kind, text, where)
    if text == "" then
        return nil
    end
    local value = kind == "upload" and units.bytes(text, "the size in a shape") or tonumber(text)
    return value or wrong(where, "'%s' is not a number", text)
end

local ranged = fault.set "string integer number array upload"

local function read_type(text, where)
    local literal = text:match("^'([^']*)'$")
    if literal then
        return { kind = "literal", value = literal }
    end
    local kind, range = text:match("^(%a+)%((.*)%)$")
    kind = kind or text
    if not known[kind] then
        wrong(where, "there is no type '%s'%s", kind, fault.hint(kind, known))
    end
    local node = { kind = kind }
    if range then
        if not ranged[kind] then
            wrong(where, "'%s' takes no range", kind)
        end
        local min, max = range:match("^%s*([^%s]-)%s*%.%.%s*([^%s]-)%s*$")
        if not min then
            min = range:match("^%s*(%S+)%s*$") or wrong(where, "the range of '%s' is empty", text)
            max = min
        end
        node.min, node.max = bound(kind, min, where), bound(kind, max, where)
        if node.min and node.max and node.min > node.max then
            wrong(where, "the range of '%s' is the wrong way round", text)
        end
    end
    return node
end

-- "= 20", "= 'red'", "= true" behind a type.
local function read_default(text, where)
    local quoted = text:match("^'([^']*)'$")
    if quoted then
        return quoted
    elseif text == "true" or text == "false" then
        return text == "true"
    end
    return tonumber(text) or wrong(where, "the default %s is neither a number, true, false nor "
        .. "text in single quotes", text)
end

local function read_text(text, where)
    local types, default = text:match("^([^=]-)%s*=%s*(.-)%s*$")
    types = types or text
    local optional = types:match("^(.-)%s*%?%s*$")
    local union = { kind = "union" }
    for piece in ((optional or types) .. "|"):gmatch("([^|]*)|") do
        union[#union + 1] = read_type(piece:match("^%s*(.-)%s*$"), where)
    end
    local node = #union == 1 and union[1] or union
    node.optional = optional ~= nil or default ~= nil
    if default then
        node.default = read_default(default, where)
    end
    return node
end

-- ---- tables ----

local read

local list_options = { [1] = true, min = true, max = true, optional = true }

local function read_list(shape, where)
    for key in pairs(shape) do
        if not list_options[key] then
            wrong(where, "a list is { shape, min =, max =, optional = }; it has no '%s'",
                tostring(key))
        end
    end
    return {
        kind = "list", item = read(shape[1], where .. "[]"), optional = shape.optional,
        min = shape.min, max = shape.max,
    }
end

local function read_map(shape, where)
    local node = { kind = "map", fields = {} }
    for key, value in pairs(shape) do
        if type(key) ~= "string" then
            wrong(where, "a field's name must be a string, not a %s", type(key))
        end
        local name, mark = key:match("^(.-)(%??)$")
        local field = read(value, where == "" and name or where .. "." .. name)
        if key == "*" then
            node.rest = field
        else
            field.name = name
            field.optional = field.optional or mark == "?"
            table.insert(node.fields, field)
        end
    end
    table.sort(node.fields, function(a, b) return a.name < b.name end)
    return node
end

function read(shape, where)
    if type(shape) == "string" then
        return read_text(shape, where)
    elseif type(shape) == "function" then
        return { kind = "function", fn = shape }
    elseif type(shape) ~= "table" then
        wrong(where, "it must be text or a table, not a %s", type(shape))
    elseif shape[1] ~= nil then
        return read_list(shape, where)
    end
    return read_map(shape, where)
end

--- The node of a shape; raises, naming the field, if it is malformed.
function M.read(shape)
    return read(shape, "")
end

return M
