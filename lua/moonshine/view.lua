--- Compiles one view to a function that writes it.
---
--- A view becomes one Lua chunk with the same line numbers. The globals that its
--- code reads are found in the bytecode and turned into locals at its start,
--- filled from the data, then from what every view has. So no environment is
--- switched: renders may wait, fail and run within each other, and all of it
--- compiles to traces.
local bit = require "bit"
local native = require "moonshine.native"
local parser = require "moonshine.view_parser"
local util = require "jit.util"

local fail, count_lines = parser.fail, parser.count_lines

local M = {}

-- LuaJIT allows 200 locals; the view's own need room, too.
local MAX_NAMES = 150

-- ---- from parts to Lua ----

-- Calls of include and layout with a literal name.
local function find_references(part, code, blank, references)
    for _, helper in ipairs { "include", "layout" } do
        local pattern = "()%f[%w_]" .. helper .. "%s*%(?%s*()([\"']) *()"
        for before, from, quote, past in blank:gmatch(pattern) do
            local dots = blank:sub(1, before - 1):match("([.:]*)%s*$")
            local goes_on = blank:find("^%s*%.%.", past + 1)
            if blank:sub(past, past) == quote and #dots ~= 1 and not goes_on then
                references[#references + 1] = { helper = helper,
                    target = code:sub(from + 1, past - 1),
                    line = part.line + count_lines(code:sub(1, from)) }
            end
        end
    end
end

local function label_of(code)
    local label = code:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
    return #label > 60 and label:sub(1, 57) .. "..." or label
end

-- Around the first text behind code, so that what the code left open ("x =",
-- "return") cannot go on in it. Two, to tell the guard from the view's own words.
local GUARD, OTHER_GUARD = { "if true then ", "end " }, { "repeat ", "until true " }
local writers = { escaped = "__e", raw = "__r" }

local function generate(path, parts, guard, references)
    local out, open, after_code = {}, false, false
    local function put(text)
        out[#out + 1] = text
    end
    local function close()
        if open then
            put(after_code and ") " .. guard[2] or ") ")
            open, after_code = false, false
        end
    end
    local function begin()
        close()
        put(after_code and guard[1] .. "__o:put(" or "__o:put(")
        open = true
    end
    for _, part in ipairs(parts) do
        local kind = part.kind
        if kind == "text" then
            -- Behind a value it goes into the same call.
            if open then
                put(",")
            else
                begin()
            end
            put(("%q"):format(part.text))
            close()
        elseif kind == "eaten" then
            put("\n")
        elseif kind == "comment" then
            close()
            put(("\n"):rep(count_lines(part.text)))
        else
            local code, blank, open_at = parser.strip(part.text)
            if open_at then
                fail(path, part.line + count_lines(code:sub(1, open_at)),
                    "a string or comment is not finished inside its tag")
            end
            find_references(part, code, blank, references)
            if kind == "code" then
                close()
                put(" " .. code .. " ")
                after_code = true
            else
                begin()
                put(("%s((%s),%q)"):format(writers[kind], code, label_of(code)))
            end
        end
    end
    close()
    return table.concat(out)
end

-- ---- from Lua to a function ----

local function first_opcode(text, skip)
    local fn = native.load_plain(text, "=opcode")
    return bit.band((util.funcbc(fn, 1 + skip)), 0xff)
end

-- Their numbers differ between versions of LuaJIT.
local GGET, GSET = first_opcode("return name", 0), first_opcode("name = 1", 1)

-- Calls use(opcode, name, line) for each access to a global.
local function walk_globals(fn, use)
    local pc = 1
    while true do
        local instruction = util.funcbc(fn, pc)
        if not instruction then
            break
        end
        local opcode = bit.band(instruction, 0xff)
        if opcode == GGET or opcode == GSET then
            use(opcode, util.funck(fn, -1 - bit.rshift(instruction, 16)),
                util.funcinfo(fn, pc).currentline)
        end
        pc = pc + 1
    end
    local index = -1
    while true do
        local constant = util.funck(fn, index)
        if constant == nil then
            return
        elseif type(constant) == "proto" then
            walk_globals(constant, use)
        end
        index = index - 1
    end
end

local function global_names(path, fn)
    local names, seen = {}, {}
    walk_globals(fn, function(opcode, name, line)
        if opcode == GSET then
            fail(path, line, "assignment to the global '%s': make it local", name)
        elseif not seen[name] then
            seen[name] = true
            names[#names + 1] = name
        end
    end)
    if #names > MAX_NAMES then
        fail(path, 1, "it uses more than %d names: put some of the data into tables", MAX_NAMES)
    end
    table.sort(names)
    return names, seen
end

local PARAMETERS = "local __o,__e,__r,__f,__d,__g,__b=... "

local function prologue(names, globals, bound)
    local out = { PARAMETERS }
    for _, name in ipairs(names) do
        out[#out + 1] = ("local %s=__d.%s "):format(name, name)
        local from = bound[name] and "__b.%s(__f)" or globals[name] ~= nil and "__g.%s"
        if from then
            out[#out + 1] = ("if %s==nil then %s=%s end "):format(name, name, from:format(name))
        end
    end
    return table.concat(out)
end

local function load_plain(source, path)
    local ok, fn = pcall(native.load_plain, PARAMETERS .. source, "@" .. path)
    return ok and fn, not ok and fn
end

-- Speaks of what the view's author wrote, not of what it became.
local function explain(message, path, parts)
    if message:find("near 'if'$") then
        local _, other = load_plain(generate(path, parts, OTHER_GUARD, {}), path)
        if other and other:find("near 'repeat'$") then
            return (message:gsub("near 'if'$", "near '%%>'"))
        end
    elseif message:find("has more than %d+ [ul]") then -- upvalues, local variables
        return message .. ": put some of the data into tables"
    end
    return message
end

--- A function (output, escaper, raw writer, frame, data, globals, bound) that
--- writes the view; and what it refers to: { helper, target, line }. Raises with
--- the view's path and line. `globals` has what every view may use, `bound` the
--- makers of what belongs to one render, both by name.
function M.compile(path, text, globals, bound)
    local parts, references = parser.parse(path, (text:gsub("^\239\187\191", ""))), {}
    local source = generate(path, parts, GUARD, references)
    local plain, message = load_plain(source, path)
    if not plain then
        error(explain(message, path, parts), 0)
    end
    local names, used = global_names(path, plain)
    local fn, extra = native.load(prologue(names, globals, bound) .. source, "@" .. path)
    if not fn then
        error(explain(extra, path, parts), 0)
    elseif extra then
        require("moonshine.log").warn(path .. " runs with fewer stop points than it should", {})
    end
    for i = #references, 1, -1 do
        if not used[references[i].helper] then
            table.remove(references, i)
        end
    end
    return fn, references
end

return M
