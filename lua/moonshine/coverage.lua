--- Which lines of a file can run: for the coverage report (core/vm/coverage.c).
---
--- Every line that bytecode was made for, in all functions of the file, without
--- running it. Lines that only close a block are left out: what happens there
--- (a closure is made, a function returns) was begun on another line, or cannot
--- be reached at all.
local util = require "jit.util"

local closing = { ["end"] = true, ["else"] = true, ["then"] = true, ["do"] = true }

local function only_closes(line)
    for word in line:gsub("%-%-.*$", ""):gmatch("[%w_]+") do
        if not closing[word] then
            return false
        end
    end
    return not line:find("[^%w_%s%(%){}%[%],;]")
end

local function add_lines(proto, lines)
    local info = util.funcinfo(proto)
    -- The instruction 0 is the function's own header.
    for pc = 1, info.bytecodes - 1 do
        lines[util.funcinfo(proto, pc).currentline] = true
    end
    for index = -1, info.children and -info.gcconsts or 0, -1 do
        local child = util.funck(proto, index)
        if type(child) == "proto" then
            add_lines(child, lines)
        end
    end
end

--- The numbers of these lines in order, and how many lines there are. Without
--- `text`, the file that the chunk's name says is read. Nil for what is not Lua.
return function(chunk, text)
    if not text then
        local file = io.open(chunk:sub(2), "rb")
        text = file and file:read("*a")
        if not text then
            return nil
        end
        file:close()
    end
    local fn = loadstring(text, chunk)
    if not fn then
        return nil
    end
    local lines, list, number = {}, {}, 0
    add_lines(fn, lines)
    for line in (text .. "\n"):gmatch("([^\n]*)\n") do
        number = number + 1
        if lines[number] and not only_closes(line) then
            list[#list + 1] = number
        end
    end
    return list, number
end
