--- Cuts the text of a view into parts: text and tags.
local M = {}

local function fail(path, line, format, ...)
    error(("%s:%d: "):format(path, line) .. format:format(...), 0)
end
M.fail = fail

--- How many line breaks are in it.
function M.count_lines(text)
    local _, count = text:gsub("\n", "")
    return count
end
local count_lines = M.count_lines

local kinds = { ["="] = "escaped", ["-"] = "raw", ["#"] = "comment" }

local function add(parts, kind, text, line)
    local last = parts[#parts]
    if kind == "text" and last and last.kind == "text" then
        last.text = last.text .. text
    elseif text ~= "" or kind ~= "text" then
        parts[#parts + 1] = { kind = kind, text = text, line = line }
    end
end

-- The inside of one tag; true if it eats the line break behind it.
local function add_tag(parts, path, inside, line)
    local kind = kinds[inside:sub(1, 1)]
    local code = kind and inside:sub(2) or inside
    local eats = code:sub(-1) == "-"
    if eats then
        code = code:sub(1, -2)
    end
    if kind ~= "comment" and code:find("<%", 1, true) then
        fail(path, line, "<%% is not closed: another <%% follows before its %%>")
    elseif (kind == "escaped" or kind == "raw") and not code:find("%S") then
        fail(path, line, "the tag <%%%s%s%%> is empty", inside:sub(1, 1), code)
    end
    add(parts, kind or "code", code, line)
    return eats
end

--- A list of { kind, text, line }: kinds are text, code, escaped, raw, comment,
--- and eaten (a line break that is not printed).
function M.parse(path, text)
    local parts, at, line = {}, 1, 1
    while true do
        local open = text:find("<%", at, true)
        local before = text:sub(at, (open or 0) - 1)
        add(parts, "text", before, line)
        if not open then
            return parts
        end
        line = line + count_lines(before)
        if text:sub(open + 2, open + 2) == "%" then
            add(parts, "text", "<%", line)
            at = open + 3
        else
            local close = text:find("%>", open + 2, true)
            if not close then
                fail(path, line, "<%% is not closed: no %%> follows")
            end
            local inside = text:sub(open + 2, close - 1)
            local eats = add_tag(parts, path, inside, line)
            line = line + count_lines(inside)
            at = close + 2
            local eaten = eats and text:match("^\r?\n", at)
            if eaten then
                add(parts, "eaten", "\n", line)
                line, at = line + 1, at + #eaten
            end
        end
    end
end

-- Where the string that begins at `from` ends; nil if it does not.
local function string_end(code, from)
    local quote, at = code:sub(from, from), from + 1
    while true do
        local stop = code:find("[\\\n" .. quote .. "]", at)
        local ch = stop and code:sub(stop, stop)
        if ch == quote then
            return stop
        elseif ch ~= "\\" then
            return nil
        end
        at = stop + 2
    end
end

-- What begins at `from`: its last place and whether it is a comment.
local function token_end(code, from)
    local dashes, level = code:match("^(%-?%-?)%[(=*)%[", from)
    if level and dashes ~= "-" then
        local _, stop = code:find("]" .. level .. "]", from, true)
        return stop, dashes == "--"
    elseif code:find("^%-%-", from) then
        return (code:find("[\r\n]", from) or #code + 1) - 1, true
    elseif code:find("^[\"']", from) then
        return string_end(code, from), false
    end
    return from, nil
end

--- The code without the comment at its end; a copy of it in which comments and the
--- insides of strings are blank; and where one begins that does not end, or nil.
function M.strip(code)
    local at, blank, last = 1, {}, 1
    while true do
        local from = code:find("[%-%[\"']", at)
        if not from then
            break
        end
        local stop, comment = token_end(code, from)
        if not stop then
            return code, code, from
        end
        if comment and stop == #code and not code:find("^%-%-%[=*%[", from) then
            code = code:sub(1, from - 1)
            break
        end
        if comment ~= nil then
            local edge = comment and 0 or 1
            blank[#blank + 1] = code:sub(last, from - 1 + edge)
            blank[#blank + 1] = code:sub(from + edge, stop - edge):gsub("[^\n]", " ")
            last = stop + 1 - edge
        end
        at = stop + 1
    end
    blank[#blank + 1] = code:sub(last)
    return code, table.concat(blank)
end

return M
