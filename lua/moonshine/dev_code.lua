--- --dev: a few lines of Lua as HTML with colours. Looks at one line at a time,
--- so the inside of a long string or comment is coloured as code.
local encode = require "moonshine.encode"

local M = {}

local words = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or
    repeat return then true until while]]):gmatch("%S+") do
    words[word] = true
end

local escape = encode.html

local function paint(class, text)
    return ('<span class="%s">%s</span>'):format(class, escape(text))
end

-- The end of a string that begins at `from`: its quote, or the end of the line.
local function string_end(line, from, quote)
    local at = from + 1
    while at <= #line do
        local ch = line:sub(at, at)
        if ch == "\\" then
            at = at + 1
        elseif ch == quote then
            return at
        end
        at = at + 1
    end
    return #line
end

local function next_token(line, at)
    local ch = line:sub(at, at)
    if line:find("^%-%-", at) then
        return "c", #line
    elseif ch == '"' or ch == "'" then
        return "s", string_end(line, at, ch)
    end
    local _, stop = line:find("^%[(=*)%[.-%]%1%]", at)
    if stop then
        return "s", stop
    end
    _, stop = line:find("^[%a_][%w_]*", at)
    if stop then
        return words[line:sub(at, stop)] and "w" or nil, stop
    end
    _, stop = line:find("^%d[%w%.]*", at)
    if stop then
        return "n", stop
    end
    return nil, at
end

--- One line of Lua as HTML.
function M.line(line)
    local parts, at, plain = {}, 1, 1
    while at <= #line do
        local class, stop = next_token(line, at)
        if class then
            parts[#parts + 1] = escape(line:sub(plain, at - 1))
            parts[#parts + 1] = paint(class, line:sub(at, stop))
            plain = stop + 1
        end
        at = stop + 1
    end
    parts[#parts + 1] = escape(line:sub(plain))
    return table.concat(parts)
end

return M
