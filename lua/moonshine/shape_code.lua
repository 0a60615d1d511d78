--- Compiles shapes. One function per node, from generated text, so that a check
--- runs as straight code: no loop over fields, no table of rules.
---
--- Each function takes a value and returns the value to use; or nil and what is
--- wrong: a text, or a list of { path below it, text }. Tables are changed in
--- place.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local shape = require "moonshine.shape"
local shape_text = require "moonshine.shape_text"

local C = ffi.C
local M = {}

local ERRORS_MAX = 50

-- ---- what generated code calls ----

local function add(errors, name, err)
    errors = errors or {}
    if type(err) == "string" then
        if #errors < ERRORS_MAX then
            errors[#errors + 1] = { tostring(name), err }
        end
        return errors
    end
    for _, below in ipairs(err) do
        add(errors, name .. "." .. below[1], below[2])
    end
    return errors
end

local function add_unknown(errors, value, fields)
    for key in pairs(value) do
        if not fields[key] then
            errors = add(errors, key, "is unknown" .. fault.hint(key, fields))
        end
    end
    return errors
end

local function length(text)
    return (C.moon_lua_utf8_length(text, #text))
end

local HEX4 = ("%x"):rep(4)
local UUID = "^" .. HEX4 .. HEX4 .. ("%-" .. HEX4):rep(4) .. HEX4 .. HEX4 .. "$"

local formats = {}

function formats.uuid(text)
    return text:find(UUID) ~= nil
end

-- As a browser checks an input of type email: one @, no spaces, a host.
function formats.email(text)
    return #text <= 254 and not text:find("..", 1, true)
        and text:find("^[%w.!#$%%&'*+/=?^_`{|}~-]+@%w[%w.-]*$") ~= nil
end

function formats.date(text)
    local year, month, day = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
    if not year then
        return false
    end
    local noon = os.date("*t", os.time { year = year, month = month, day = day, hour = 12 })
    return noon.month == tonumber(month) and noon.day == tonumber(day)
end

local prologue = [[
local native, add, add_unknown, length, formats, text, kept = ...
local null, convert, single, listed = native.json.null, text.convert, text.single, text.listed
local ARRAY, UPLOAD = text.ARRAY, text.UPLOAD
local type, getmetatable, pairs = type, getmetatable, pairs
local c = {}
]]

-- ---- generating ----

local function quoted(text)
    return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r"):gsub("%z", "\\000"))
end

local is_table = 'type(v) == "table" and getmetatable(v) == '
local plain_types = { string = "string", integer = "number", number = "number",
    boolean = "boolean" }
local sizes = { string = "length(v)", integer = "v", number = "v", array = "#v", upload = "v.size" }

-- What else than its Lua type a value must have.
local function limits(node, parts)
    if node.kind == "integer" then
        parts[#parts + 1] = "v % 1 == 0 and v >= -2^53 and v <= 2^53"
    elseif node.kind == "number" then
        parts[#parts + 1] = "v - v == 0"
    elseif node.kind == "string" and not node.min then
        parts[#parts + 1] = "length(v) >= 0" -- it is UTF-8
    end
    local size = sizes[node.kind]
    if node.min then
        parts[#parts + 1] = ("%s >= %.17g"):format(size, node.min)
    end
    if node.max then
        parts[#parts + 1] = ("%s <= %.17g"):format(size, node.max)
    end
    return table.concat(parts, " and ")
end

-- The condition under which `v` is of a node that has none below it.
local function condition(node)
    local kind = node.kind
    if kind == "any" then
        return "true"
    elseif kind == "literal" then
        return "v == " .. quoted(node.value)
    elseif kind == "null" then
        return "v == null"
    elseif kind == "object" then
        return 'type(v) == "table" and getmetatable(v) == nil'
    elseif kind == "array" then
        return limits(node, { is_table .. "ARRAY" })
    elseif kind == "upload" then
        return limits(node, { is_table .. "UPLOAD" })
    elseif formats[kind] then
        return ('type(v) == "string" and formats.%s(v)'):format(kind)
    end
    return limits(node, { ('type(v) == "%s"'):format(plain_types[kind]) })
end

local Writer = {}
Writer.__index = Writer

function Writer:line(text, ...)
    self.lines[#self.lines + 1] = text:format(...)
end

--- Keeps a value for the generated code; what it is called there.
function Writer:keep(value)
    self.kept[#self.kept + 1] = value
    return ("kept[%d]"):format(#self.kept)
end

--- A number for one more function.
function Writer:number()
    self.count = self.count + 1
    return self.count
end

local compilers = {}

-- Writes the function of a node, those below it first; its number.
local function compile(w, node)
    return (compilers[node.kind] or compilers.plain)(w, node)
end

function compilers.plain(w, node)
    local id = w:number()
    w:line("c[%d] = function(v)", id)
    if w.text then
        w:line("v = single(v)")
    end
    for _, one in ipairs(node.kind == "union" and node or { node }) do
        if w.text and shape_text.convert[one.kind] then
            w:line("do local raw = v v = convert.%s(v)", one.kind)
            w:line("if %s then return v end v = raw end", condition(one))
        else
            w:line("if %s then return v end", condition(one))
        end
    end
    w:line("return nil, %s end", quoted(shape.expectation(node)))
    return id
end

compilers["function"] = function(w, node)
    local id = w:number()
    w:line("c[%d] = function(v) local ok, message = %s(v)", id, w:keep(node.fn))
    w:line('if not ok then return nil, message or "is not valid" end')
    w:line("if ok == true then return v end return ok end")
    return id
end

function compilers.list(w, node)
    local item, id = compile(w, node.item), w:number()
    w:line("c[%d] = function(v)", id)
    if w.text then
        w:line("v = listed(v)")
    end
    w:line("if not (%s) then return nil, %s end",
        condition { kind = "array", min = node.min, max = node.max },
        quoted(shape.expectation(node)))
    w:line("local errors for i = 1, #v do local r, err = c[%d](v[i])", item)
    w:line("if err then errors = add(errors, i, err) else v[i] = r end end")
    w:line("if errors then return nil, errors end return v end")
    return id
end

-- An input that was left empty is sent all the same: for these, as text.
local empty_counts = { string = true, any = true, literal = true, union = true, null = true,
    ["function"] = true }

local function write_field(w, field, id)
    local name, default = quoted(field.name), field.default
    w:line("f = v[%s] if f ~= nil then known = known + 1 end", name)
    if w.text and not empty_counts[field.kind] then
        w:line('if f == "" then f = nil v[%s] = nil known = known - 1 end', name)
    end
    w:line("if f ~= nil then r, err = c[%d](f)", id)
    w:line("if err then errors = add(errors, %s, err)", name)
    w:line("elseif r ~= f then v[%s] = r end", name)
    if default ~= nil then
        w:line("else v[%s] = %s known = known + 1", name,
            type(default) == "string" and quoted(default) or tostring(default))
    elseif not field.optional then
        w:line('else errors = add(errors, %s, "is missing")', name)
    end
    w:line("end")
end

function compilers.map(w, node)
    local ids, names = {}, {}
    for i, field in ipairs(node.fields) do
        ids[i], names[field.name] = compile(w, field), true
    end
    local rest = node.rest and compile(w, node.rest)
    local id, kept = w:number(), w:keep(names)
    w:line("c[%d] = function(v)", id)
    w:line("if not (%s) then return nil, %s end", condition { kind = "object" },
        quoted(shape.expectation(node)))
    w:line("local known, errors, f, r, err = 0")
    for i, field in ipairs(node.fields) do
        write_field(w, field, ids[i])
    end
    if rest then
        w:line("for key, value in pairs(v) do if not %s[key] then", kept)
        w:line("r, err = c[%d](value)", rest)
        w:line("if err then errors = add(errors, key, err) else v[key] = r end end end")
    else
        w:line("local n = 0 for _ in pairs(v) do n = n + 1 end")
        w:line("if n ~= known then errors = add_unknown(errors, v, %s) end", kept)
    end
    w:line("if errors then return nil, errors end return v end")
    return id
end

--- The function of a node, for JSON values or (text) for values that are text.
function M.compile(node, text)
    local w = setmetatable({ lines = {}, kept = {}, count = 0, text = text }, Writer)
    local id = compile(w, node)
    w:line("return c[%d]", id)
    local make = native.load_plain(prologue .. table.concat(w.lines, "\n"), fault.own .. "a shape")
    return make(native, add, add_unknown, length, formats, shape_text, w.kept)
end

return M
