--- MOONSHINE_TRACES=FILE: what the compiler does, a line per event.
---
--- Lines are appended, with tabs between: the process, the event, and
---   start    number, kind (root, side, stitch), parent, place
---   stop     number, what it links to, where its recording ended
---   abort    number, place where it began, place where it ended, reason
---   giveup   number, place where it began, reason: nothing starts there again
---   flush
--- LuaJIT tells of all but giving up, which shows afterwards: in the bytecode
--- where the trace began, or in the trace that it was to follow.
local ffi = require "ffi"
local jit = require "jit"
local util = require "jit.util"

ffi.cdef "int getpid(void);"

local M = {}

-- Names of bytecodes and reasons, in a file that LuaJIT's package brings.
local known, names = pcall(require, "jit.vmdef")
if not known then
    names = { traceerr = {}, bcnames = "" }
end

-- Of loops and functions that only the interpreter runs from now on.
local interpreted = { IFORL = true, IITERL = true, ILOOP = true, IFUNCF = true, IFUNCV = true }

local function place(fn, pc)
    local info = util.funcinfo(fn, pc)
    if info.loc then
        return info.loc
    elseif info.ffid then
        return "[builtin " .. (names.ffnames and names.ffnames[info.ffid] or info.ffid) .. "]"
    end
    return info.addr and ("[C %x]"):format(info.addr) or "?"
end

local function operation(fn, pc)
    local code = util.funcbc(fn, pc)
    local at = code and bit.band(code, 0xff) * 6
    return at and names.bcnames:sub(at + 1, at + 6):match("%S+") or "?"
end

local function reason(code, detail)
    local format = names.traceerr[code]
    if not format then
        return "error " .. tostring(code)
    end
    if type(detail) == "function" then
        detail = place(detail)
    elseif detail and format:find("bytecode", 1, true) then
        detail = names.bcnames:sub(detail * 6 + 1, detail * 6 + 6):match("%S+") or detail
    end
    return (format:gsub("%%[sd]", function() return tostring(detail) end))
end

-- Where the trace that is being recorded began.
local begun = {}

--- What it means that a trace was aborted there, if it is for good.
local function given_up()
    if begun.kind == "root" and interpreted[operation(begun.fn, begun.pc)] then
        return "blacklisted"
    elseif begun.kind == "stitch" then
        local before = util.traceinfo(begun.parent)
        if before and before.link == begun.parent then
            return "no longer stitched"
        end
    end
    return nil
end

--- Writes into the file from now on. Raises if it cannot.
function M.start(path)
    local file = assert(io.open(path, "a"))
    local pid = ffi.C.getpid()

    local function write(event, ...)
        file:write(table.concat({ pid, event, ... }, "\t"), "\n")
        file:flush()
    end

    local function on_event(what, number, fn, pc, code, detail)
        if what == "start" then
            -- The parent and its exit; after a call that was not compiled, -1.
            local kind = not code and "root" or detail == -1 and "stitch" or "side"
            begun.kind, begun.fn, begun.pc, begun.parent = kind, fn, pc, code
            begun.place = place(fn, pc)
            write("start", number, kind,
                kind == "side" and code .. "/" .. detail or code or "-", begun.place)
        elseif what == "stop" then
            local info = util.traceinfo(number)
            local link = info.linktype
            write("stop", number, info.link ~= 0 and link .. " " .. info.link or link,
                place(fn, pc))
            if link == "interpreter" then
                write("giveup", number, begun.place, "returns to the interpreter")
            end
        elseif what == "abort" then
            local text, why = reason(code, detail), given_up()
            write("abort", number, begun.place, place(fn, pc), text)
            if why then
                write("giveup", number, begun.place, why .. ": " .. text)
            end
        else
            write(what)
        end
    end

    jit.attach(on_event, "trace")
    write("open")
end

return M
