--- From a recorded app to composed chains and the tables in C.
local chain = require "moonshine.chain"
local context = require "moonshine.context"
local fail = require "moonshine.fail"
local limit = require "moonshine.limit"
local native = require "moonshine.native"

local M = {}

local LIMITS_MAX = 8 -- of one route in the core, and side by side in a chain
local in_probe = native.info().probe

local method_bits = { GET = 1, HEAD = 2, POST = 4, PUT = 8, PATCH = 16, DELETE = 32, OPTIONS = 64 }

--- Composed functions by the number that C knows them under.
M.chains = {}

-- Functions of a chain, and for each the entry that it comes from; limits side
-- by side become one.
local function functions_of(entries)
    local list, origins, group = {}, {}, nil
    for _, entry in ipairs(entries) do
        if limit.is(entry.object) then
            if not group or #group == LIMITS_MAX then
                group = {}
                list[#list + 1] = limit.group(group)
                origins[#list] = entry
            end
            group[#group + 1] = entry.object
        else
            group = nil
            list[#list + 1] = entry.fn
            origins[#list] = entry
        end
    end
    return list, origins
end

-- Splits a chain: the numbers of limits that the core decides before Lua is
-- entered, and the rest. A limit that stands in it twice counts once.
local function split_limits(entries, place)
    local numbers, rest, seen, ordinal = {}, {}, {}, 0
    for _, entry in ipairs(entries) do
        local object = entry.object
        if not limit.is(object) then
            rest[#rest + 1] = entry
        elseif not seen[object] then
            seen[object], ordinal = true, ordinal + 1
            limit.name_after(object, place, ordinal)
            if #rest == 0 and #numbers < LIMITS_MAX and limit.is_native(object) then
                numbers[#numbers + 1] = object
            else
                rest[#rest + 1] = entry
            end
        end
    end
    return numbers, rest
end

local function add_chain(entries, handler, info)
    local functions, origins = functions_of(entries)
    info.middleware = origins
    local composed = chain.compose(functions, handler, info)
    local number = native.add_chain(composed)
    M.chains[number] = composed
    return number
end

local function methods_of(route)
    return route.any and "ANY" or table.concat(route.methods, " ")
end

local function names_of(entries)
    local names = {}
    for i, entry in ipairs(entries) do
        names[i] = entry.name
    end
    return table.concat(names, ", ")
end

local function numbers_of(limits)
    local list = {}
    for i, object in ipairs(limits) do
        list[i] = object.number
    end
    return list
end

-- For `moonshine route`; only the probe is asked.
local function places_of(route)
    local entries = { unpack(route.chain) }
    entries[#entries + 1] = route.handler_entry
    for i, entry in ipairs(entries) do
        local name, place = entry.name == entry.place and "function" or entry.name, entry.place
        local object = entry.object
        if limit.is(object) then
            name, place = limit.describe(object), object.source
        end
        entries[i] = name .. "\t" .. place .. "\n"
    end
    return table.concat(entries)
end

local function add_route(app, route, by_id)
    local bits = 0
    for _, name in ipairs(route.methods) do
        bits = bits + method_bits[name]
    end
    if route.dir and route.dir:sub(1, 1) ~= "/" then
        route.dir = context.app_dir .. "/" .. route.dir
    end
    local info = { pattern = route.pattern, source = route.source, scope = route.scope,
        session = route.session, handler = route.handler_entry }
    if route.handler then
        route.chain_number = add_chain(route.rest, route.handler, info)
    end
    local methods = methods_of(route)
    local id, message, other = native.add_route {
        scope = route.scope, chain = route.chain_number, pattern = route.pattern,
        name = route.name, source = route.source, methods = methods,
        middleware = names_of(route.chain), method_bits = bits, any = route.any,
        chain_places = in_probe and places_of(route) or nil,
        timeout_ms = route.timeout_ms, stream_timeout_ms = route.stream_timeout_ms,
        body_limit = route.body_limit, cpu_limit_ms = route.cpu_limit_ms,
        body_mode = route.body_mode, cancel_on_disconnect = route.cancel_on_disconnect,
        limits = numbers_of(route.limits), quarantine = route.quarantine,
        quarantine_failures = route.quarantine_failures,
        quarantine_retry_ms = route.quarantine_retry_ms,
        dir = route.dir, index = route.index, fallback = route.fallback,
        cache_control = route.cache_control,
    }
    if not id then
        local first = by_id[other]
        if first then
            message = ("%s %s is registered twice, first at %s"):format(methods, route.pattern,
                first.source)
        end
        error(("%s: %s"):format(route.source, message), 0)
    end
    by_id[id] = route
    if route.name then
        local first = app.names[route.name]
        if first then
            error(("%s: the name '%s' is taken by the route at %s"):format(route.source,
                route.name, first.source), 0)
        end
        app.names[route.name] = route
    end
end

local function add_hooks(scope)
    local list, for_failures = {}, {}
    for status, hook in pairs(scope.hooks) do
        local entry = { status = status }
        if hook.fn then
            entry.chain = add_chain(hook.chain, fail.hook_handler(hook.fn),
                { source = hook.source, scope = scope.number })
        else
            entry.body, entry.content_type = hook.body, hook.mime
        end
        list[#list + 1] = entry
        for_failures[status] = hook
    end
    native.set_hooks(scope.number, list)
    fail.hooks[scope.number] = for_failures
end

local function add_scope(scope)
    if scope.number > 0 then
        native.add_scope(scope.parent.number, scope.prefix)
    end
    fail.parents[scope.number] = scope.parent and scope.parent.number or -1
    for name, options in pairs(scope.settings) do
        native["set_" .. name](scope.number, options)
    end
    add_hooks(scope)
end

--- Registers all of it in C; raises with the line of what is wrong.
function M.freeze(app)
    local by_id = {}
    app.names = {}
    for _, route in ipairs(app.routes) do
        route.limits, route.rest = split_limits(route.chain, methods_of(route) .. " "
            .. route.pattern)
    end
    limit.freeze()
    for _, scope in ipairs(app.scopes) do
        add_scope(scope)
    end
    for _, route in ipairs(app.routes) do
        add_route(app, route, by_id)
    end
    fail.on_error = app.shaper or nil
    native.set_app {
        strict_slash = app.strict_slash,
        error_chain = app.shaper
            and add_chain({}, fail.hook_handler(app.shaper), { scope = 0 }) or nil,
        generation_header = app.generation_header,
    }
    context.names = app.names
    app.frozen = true
end

return M
