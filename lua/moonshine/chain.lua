--- Composes middleware and handler into one function per route.
---
--- Each is loaded from a text of its own, so that LuaJIT compiles each route to
--- its own trace; no closure is made per request. The function takes a slot
--- number, makes the context, runs the chain and sends what it returned.
local ffi = require "ffi"
local context = require "moonshine.context"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local respond = require "moonshine.respond"
local table_new = require "table.new"

local M = {}

--- Contexts and handles by slot number. Most loads fit the array part.
M.contexts = table_new(256, 0)
M.handles = table_new(256, 0)

local prologue = [[
local C, contexts, handles, Context, NOTHING, finish, apply, wrong, info, functions = ...
local type, setmetatable = type, setmetatable
]]

-- One level: what is given to a middleware as `proceed`.
local proceed = [[
local function proceed_$i(c)
    if type(c) ~= "table" or c[3] ~= $i then
        wrong(c, info, $i)
    end
    c[3] = $i + 1
    local body, status, headers = $call
    $keep
    if headers ~= nil then
        apply(c, headers)
    end
    c[4] = body == nil and NOTHING or body
    c[5] = status or false
    return body, status
end
]]

-- A middleware that called the chain and returned nothing lets it stand.
local keep = [[
if body == nil and status == nil and c[3] > $level then
        body, status = c[4], c[5] or nil
        if body == NOTHING then
            body = nil
        end
    end]]

local opening = [[
return function(slot)
    local handle = handles[slot]
    if not handle then
        handle = C.moon_slot_get(slot)
        handles[slot] = handle
    end
    local c = setmetatable({ handle, false, 1, false, false, slot, false, info }, Context)
    contexts[slot] = c
    local body, status, headers = $call
    $keep
    if status == nil and headers == nil and not c[2] and type(body) == "string" then
        C.moon_res_text(handle, 0, body, #body)
    else
        finish(c, body, status, headers)
    end
    c[1] = false
    contexts[slot] = nil
end
]]

local function fill(template, values)
    return (template:gsub("%$(%a+)", values))
end

-- Where a middleware is now; where it was defined, if a tail call left no frame.
local function place_of(entry)
    local level = 3
    while true do
        local frame = debug.getinfo(level, "lf")
        if not frame then
            return entry.place
        elseif frame.func == entry.fn then
            return entry.place:gsub("%d+$", frame.currentline)
        end
        level = level + 1
    end
end

local function wrong(c, info, i)
    local entry = info.middleware and info.middleware[i]
    local place = entry and place_of(entry) .. ": " or ""
    local name = entry and (": %s calls it"):format(respond.name_of(entry)) or ""
    if type(c) ~= "table" or getmetatable(c) ~= context.metatable then
        error(("%sproceed(c) takes the context c, not %s%s so"):format(place,
            c == nil and "nil" or "a " .. type(c), name), 0)
    end
    error(("%sproceed(c) may be called once%s again"):format(place, name), 0)
end

--- `middleware` is a list of functions; `info` is kept as the route's record:
--- pattern, source, scope, and (for messages) middleware, a list of {name, place,
--- fn}, and handler, one such.
function M.compose(middleware, handler, info)
    local count = #middleware
    local parts = { prologue }
    for i = 1, count do
        parts[#parts + 1] = ("local middleware_%d = functions[%d]\n"):format(i, i)
    end
    parts[#parts + 1] = ("local handler = functions[%d]\n"):format(count + 1)
    local call, level = "handler(c)", ""
    for i = count, 1, -1 do
        parts[#parts + 1] = fill(proceed, { i = i, call = call, keep = level })
        call = ("middleware_%d(c, proceed_%d)"):format(i, i)
        level = fill(keep, { level = i })
    end
    parts[#parts + 1] = fill(opening, { call = call, keep = level })

    local functions = { unpack(middleware) }
    functions[count + 1] = handler
    local name = fault.own .. "chain of " .. (info.source or "?")
    local make = native.load_plain(table.concat(parts), name)
    return make(ffi.C, M.contexts, M.handles, context.metatable, respond.NOTHING,
        respond.finish, respond.apply_headers, wrong, info, functions)
end

--- A context for a slot whose chain never made one.
function M.new_context(slot, info)
    local handle = M.handles[slot] or ffi.C.moon_slot_get(slot)
    M.handles[slot] = handle
    local c = setmetatable({ handle, false, 1, false, false, slot, false, info or false },
        context.metatable)
    M.contexts[slot] = c
    return c
end

return M
