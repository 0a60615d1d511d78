--- The views of the application: c:render and moonshine.render.
---
--- All are compiled when the application loads. What belongs to one render is in
--- its frames and in buffers that only it has, so an error or a cancel in the
--- middle of one leaves nothing behind.
local ffi = require "ffi"
local buffer = require "string.buffer"
local context = require "moonshine.context"
local encode = require "moonshine.encode"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local url = require "moonshine.url"
local view = require "moonshine.view"
local texts = require "moonshine.view_text"

local C = ffi.C
local out = ffi.new "moon_bytes"

local M = {}

-- Views within views, and layouts around a view: more is a circle.
local MAX_DEPTH, MAX_LAYOUTS = 100, 20

-- By name: "index.html", and "index" for the same.
local registry = {}

-- ---- buffers ----

-- So many buffers are kept, and the memory of none that grew beyond this.
local KEEP_COUNT, KEEP_BYTES = 32, 65536

local free, free_count = {}, 0

local function take()
    if free_count == 0 then
        return buffer.new()
    end
    local o = free[free_count]
    free[free_count] = nil
    free_count = free_count - 1
    return o
end

-- What an error keeps from coming here is garbage.
local function give(o, size)
    if size <= KEEP_BYTES and free_count < KEEP_COUNT then
        free_count = free_count + 1
        free[free_count] = o
    else
        o:free()
    end
end

-- ---- rendering ----

local globals, bound = {}, {}

local function find(name, what)
    local found = registry[name]
    if found then
        return found
    end
    fault.want(name, "string", what .. ": the view's name")
    fault.raise("%s: %s", what, M.missing(name))
end

--- What to say about a name that no view has.
function M.missing(name)
    local file = name:find("%.[^/]*$") and name or name .. ".html"
    return ("there is no view '%s' (views/%s)%s"):format(name, file, fault.hint(name, registry))
end

-- Data of its own, 1, over that of whoever includes it, 2: no view can use a
-- number as a name.
local overlay = {
    __index = function(both, name)
        local value = rawget(both, 1)[name]
        if value == nil then
            return rawget(both, 2)[name]
        end
        return value
    end,
}

local function over(data, own)
    return own and setmetatable({ own, data }, overlay) or data
end

local function write(frame, it)
    local o = take()
    frame.out = o
    it.fn(o, it.escaper, texts.raw, frame, frame.data, globals, bound)
    local text = o:get()
    give(o, #text)
    return text
end

-- A loop would be compiled first, and then keep what comes before it from being.
local function run(frame, it, around)
    local text, layout = write(frame, it), frame.layout
    if not layout then
        return text
    elseif around == MAX_LAYOUTS then
        fault.raise("layout: more than %d around each other, %s again", MAX_LAYOUTS, layout.path)
    end
    frame.layout = false
    frame.data = over(frame.data, frame.layout_data)
    frame.content = text
    return run(frame, layout, around + 1)
end

--- The text of a view, and its content type.
---@param name string
---@param data? table
---@param c? moonshine.Context
---@param what string For messages.
function M.render(name, data, c, what)
    local it = find(name, what)
    if data == nil then
        data = {}
    else
        fault.want(data, "table", what .. ": the data")
    end
    local frame = { view = it, data = data, c = c, depth = 1, layout = false, outer = false,
        blocks = {}, content = nil, out = false }
    return run(frame, it, 0), it.mime
end

-- ---- what belongs to one render ----

local function circle(frame)
    local names = {}
    while frame and #names < 4 do
        table.insert(names, 1, frame.view.name)
        frame = frame.outer
    end
    fault.raise("include: more than %d views within each other: ... > %s", MAX_DEPTH,
        table.concat(names, " > "))
end

local Include = {
    __call = function(self, name, own)
        local outer = self.frame
        local it = find(name, "include")
        if own ~= nil then
            fault.want(own, "table", "include: the data")
        end
        local frame = { view = it, data = over(outer.data, own), c = outer.c,
            depth = outer.depth + 1, layout = false, outer = outer, blocks = outer.blocks,
            content = outer.content, out = false }
        if frame.depth > MAX_DEPTH then
            circle(frame)
        end
        return run(frame, it)
    end,
}

function bound.include(frame)
    return setmetatable({ frame = frame }, Include)
end

local Layout = {
    __call = function(self, name, own)
        local frame = self.frame
        frame.layout = find(name, "layout")
        if own ~= nil then
            fault.want(own, "table", "layout: the data")
        end
        frame.layout_data = own -- not for what this view includes from here on
    end,
}

function bound.layout(frame)
    return setmetatable({ frame = frame }, Layout)
end

local Block = {
    __call = function(self, name, fn)
        fault.want(name, "string", "block: the name")
        fault.want(fn, "function", "block: the second argument")
        local blocks, o = self.frame.blocks, self.out
        if blocks[name] ~= nil then
            return -- the view runs first: what it says beats its layout
        end
        local mark = #o
        fn()
        local all = o:get()
        o:put(all:sub(1, mark))
        blocks[name] = all:sub(mark + 1)
    end,
}

function bound.block(frame)
    return setmetatable({ frame = frame, out = frame.out }, Block)
end

function bound.blocks(frame)
    return frame.blocks
end

function bound.content(frame)
    return frame.content
end

function bound.c(frame)
    return frame.c
end

-- ---- what all have ----

local function link(name, params, query)
    return url.build(context.names, name, params, query)
end

local function fill_globals()
    for _, name in ipairs { "string", "table", "math", "ipairs", "pairs", "tostring", "tonumber",
        "type", "select", "next", "unpack", "error", "assert", "pcall" } do
        globals[name] = _G[name]
    end
    globals.os = { date = os.date, time = os.time }
    globals.moonshine = require "moonshine"
    globals.escape, globals.json, globals.url = encode.html, texts.json, link
end

-- ---- loading ----

local DIR = "views/"

-- Of these, <%= %> escapes nothing; of any other, HTML.
local plain_types = fault.set "txt csv md json js mjs css ics vtt"

-- Lua modules may lie there, and what editors leave behind.
local function is_view(name)
    return name:find("%.[^/]+$") and not name:find("%.lua$") and not name:find("~$")
        and not ("/" .. name):find("/#")
end

local function add(name)
    local path = DIR .. name
    local extension = name:match("%.([^./]+)$"):lower()
    local fn, references = view.compile(path, native.read_file(path), globals, bound)
    C.moon_lua_content_type(name, #name, out)
    local it = { name = name, path = path, fn = fn, references = references,
        mime = ffi.string(out.ptr, out.len),
        escaper = plain_types[extension] and texts.plain or texts.html }
    registry[name] = it
    if extension == "html" then
        registry[name:sub(1, -6)] = it
    end
    return it
end

--- Compiles all views; raises with the path and line of what is wrong.
function M.load()
    fill_globals()
    local list = {}
    for _, path in ipairs(native.list_files(DIR)) do
        local name = path:sub(#DIR + 1)
        if is_view(name) then
            list[#list + 1] = add(name)
        end
    end
    for _, it in ipairs(list) do
        for _, reference in ipairs(it.references) do
            if not registry[reference.target] then
                error(("%s:%d: %s: %s"):format(it.path, reference.line, reference.helper,
                    M.missing(reference.target)), 0)
            end
        end
        it.references = nil
    end
end

return M
