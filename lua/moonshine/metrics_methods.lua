--- The methods of metrics: where a series is, and what is added there.
---
--- Written out for each kind and number of labels, so that a call in a handler is
--- a look-up or two, an addition, and nothing else in its trace.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local native = require "moonshine.native"

local C = ffi.C
local M = {}

-- As in state/metrics.h.
local COUNTER, GAUGE, HISTOGRAM, LABELS_MAX = 1, 2, 3, 10
local kind_names = { "counter", "gauge", "histogram" }
M.kind_names = kind_names

local values = ffi.new("moon_bytes[?]", LABELS_MAX)
local kept = ffi.new "bool[1]"
local cells -- of this worker; from the first metric on

-- ---- where a series is ----

local function text_of(self, index, value)
    local kind = type(value)
    if kind == "string" then
        return value
    elseif kind == "boolean" or kind == "number" and value == value then
        return tostring(value)
    end
    fault.raise("metrics: the label '%s' of %s must be a string or a number, not %s",
        self.labels[index], self.name, kind == "number" and "nan" or kind)
end

local function remember(self, at, ...)
    local map, count = self.cache, #self.labels
    for i = 1, count - 1 do
        local value = (select(i, ...))
        local inner = map[value]
        if not inner then
            inner = {}
            map[value] = inner
        end
        map = inner
    end
    map[(select(count, ...))] = at
end

-- The cell of these label values, the first time.
local function find(self, ...)
    local held = {} -- until C has read them
    for i = 1, #self.labels do
        local text = text_of(self, i, (select(i, ...)))
        held[i] = text
        values[i - 1].ptr, values[i - 1].len = text, #text
    end
    local at = C.moon_metrics_cell(self.number, values, #held, kept)
    if kept[0] then
        remember(self, at, ...)
    end
    return at
end

-- ---- methods, written out for each number of labels ----

local function wrong_count(self, method, given)
    local labels = #self.labels == 0 and "no label"
        or "the label" .. (#self.labels > 1 and "s " or " ") .. table.concat(self.labels, ", ")
    local first = { inc = "how much (1 if left out)", add = "how much", set = "the value",
        observe = "the value" }
    fault.raise("%s:%s takes %s and %s, not %d argument%s", self.name, method, first[method],
        labels, given, given == 1 and "" or "s")
end

local function wrong_value(self, method, value)
    fault.raise("%s:%s takes a number%s, not %s", self.name, method,
        self.kind == COUNTER and " that is not negative" or "", tostring(value))
end

local function wrong_self(method)
    fault.raise("metrics: call %s with a colon, as a method", method)
end

local prologue = [[
local cells, find, wrong_self, wrong_count, wrong_value, count, type, select, huge = ...
]]

-- $values: v1, v2; $shifted: n, v1; $find: the cell, or nil; $least: what a
-- counter does not go below.
local inc = [[
local function inc(self, ...)
    if type(self) ~= "table" then
        wrong_self "inc"
    end
    local n$values = ...
    local given = select("#", ...)
    if given == $labels then
        n$values = 1$shifted
    elseif given ~= $more then
        wrong_count(self, "inc", given)
    end
    if type(n) ~= "number" or not (n >= $least and n < huge) then
        wrong_value(self, "inc", n)
    end
    $find
    cells[at] = cells[at] + n
end
]]

local add = [[
local function add(self, ...)
    if type(self) ~= "table" then
        wrong_self "add"
    end
    local n$values = ...
    local given = select("#", ...)
    if given ~= $more then
        wrong_count(self, "add", given)
    end
    if type(n) ~= "number" or not (n >= $least and n < huge) then
        wrong_value(self, "add", n)
    end
    $find
    cells[at] = cells[at] + n
end
]]

local set = [[
local function set(self, ...)
    if type(self) ~= "table" then
        wrong_self "set"
    end
    local n$values = ...
    local given = select("#", ...)
    if given ~= $more then
        wrong_count(self, "set", given)
    end
    if type(n) ~= "number" or n ~= n then
        wrong_value(self, "set", n)
    end
    $find
    cells[at] = n
end
]]

local observe = [[
local function observe(self, ...)
    if type(self) ~= "table" then
        wrong_self "observe"
    end
    local n$values = ...
    local given = select("#", ...)
    if given ~= $more then
        wrong_count(self, "observe", given)
    end
    if type(n) ~= "number" or n ~= n then
        wrong_value(self, "observe", n)
    end
    $find
    count(cells + at, self.buckets, self.bucket_count, n)
end
]]

local templates = {
    [COUNTER] = inc .. add .. "return { inc = inc, add = add }",
    [GAUGE] = inc .. add .. set .. "return { inc = inc, add = add, set = set }",
    [HISTOGRAM] = observe .. "return { observe = observe }",
}

local function source_of(kind, labels)
    local names, find_lines = {}, { "local at = self.cache" }
    for i = 1, labels do
        names[i] = "v" .. i
        find_lines[#find_lines + 1] = (i == 1 and "at = at[v%d]" or "at = at and at[v%d]"):format(i)
    end
    local list = table.concat(names, ", ")
    if labels == 0 then
        find_lines = { "local at = self.at" }
    else
        find_lines[#find_lines + 1] = "if not at then at = find(self, " .. list .. ") end"
    end
    local shifted = { unpack(names, 1, labels - 1) }
    table.insert(shifted, 1, labels > 0 and "n" or nil)
    return prologue .. templates[kind]:gsub("%$(%a+)", {
        values = labels > 0 and ", " .. list or "",
        shifted = labels > 0 and ", " .. table.concat(shifted, ", ") or "",
        labels = labels, more = labels + 1, find = table.concat(find_lines, "\n    "),
        least = kind == COUNTER and "0" or "-huge",
    })
end

local classes = {}

local function no_method(kind, methods)
    return function(_, key)
        fault.raise("a %s has no method '%s'%s", kind_names[kind], tostring(key),
            fault.hint(key, methods))
    end
end

--- The metatable of the metrics of a kind with so many labels.
function M.class_of(kind, labels)
    local id = kind * 100 + labels
    if not classes[id] then
        if not cells then
            local at = C.moon_metrics_here()
            cells = at ~= nil and at or error("out of memory", 0)
        end
        local make = native.load_plain(source_of(kind, labels), fault.own .. "metrics")
        local methods = make(cells, find, wrong_self, wrong_count, wrong_value,
            C.moon_metrics_count, type, select, math.huge)
        setmetatable(methods, { __index = no_method(kind, methods) })
        classes[id] = { __index = methods }
    end
    return classes[id]
end

return M
