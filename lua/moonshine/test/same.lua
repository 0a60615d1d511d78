--- Deep comparison, and what differs: lines that begin with "- " (expected),
--- "+ " (actual) or two spaces (both).
local show = require "moonshine.test.show"

local M = {}

-- Lines around a difference; of one diff; products of lengths that are aligned
-- with care.
local AROUND, LINES_MAX, ALIGN_MAX = 2, 200, 10000

local function same(a, b, seen)
    if a == b or (a ~= a and b ~= b) then
        return true
    elseif type(a) ~= "table" or type(b) ~= "table" then
        return false
    end
    local partners = seen[a]
    if partners and partners[b] then
        return true -- being compared: a cycle in both
    end
    seen[a] = partners or {}
    seen[a][b] = true
    for key, value in next, a do
        if not same(value, rawget(b, key), seen) then
            return false
        end
    end
    for key in next, b do
        if rawget(a, key) == nil then
            return false
        end
    end
    return true
end

--- Are both equal, tables by what is in them? Metatables do not count.
---@param a any
---@param b any
---@return boolean
function M.same(a, b)
    return same(a, b, {})
end

-- ---- aligning lists ----

-- Longest common subsequence of actual[from..] and expected[from..]; lengths.
local function common(actual, expected, from, n, m)
    local length = {}
    for i = n + 1, from, -1 do
        length[i] = {}
        for j = m + 1, from, -1 do
            if i > n or j > m then
                length[i][j] = 0
            elseif M.same(actual[i], expected[j]) then
                length[i][j] = length[i + 1][j + 1] + 1
            else
                length[i][j] = math.max(length[i + 1][j], length[i][j + 1])
            end
        end
    end
    return length
end

-- Calls each(i, j) for the indexes that stand side by side; either may be nil.
local function align(actual, expected, each)
    local n, m = show.length(actual), show.length(expected)
    local from, tail = 1, 0
    while from <= n and from <= m and M.same(actual[from], expected[from]) do
        each(from, from)
        from = from + 1
    end
    while n - tail >= from and m - tail >= from and M.same(actual[n - tail], expected[m - tail]) do
        tail = tail + 1
    end
    local last_n, last_m = n - tail, m - tail
    local length = (last_n - from + 1) * (last_m - from + 1) <= ALIGN_MAX
        and common(actual, expected, from, last_n, last_m)
    local function left(i, j)
        return length and length[i][j] or 0
    end
    local i, j = from, from
    while i <= last_n or j <= last_m do
        if i <= last_n and j <= last_m then
            if left(i, j) > 0 and M.same(actual[i], expected[j]) then
                each(i, j)
                i, j = i + 1, j + 1
            elseif left(i + 1, j + 1) == left(i, j) then
                each(i, j) -- neither is in common: one became the other
                i, j = i + 1, j + 1
            elseif left(i + 1, j) >= left(i, j + 1) then
                each(i, nil)
                i = i + 1
            else
                each(nil, j)
                j = j + 1
            end
        elseif i <= last_n then
            each(i, nil)
            i = i + 1
        else
            each(nil, j)
            j = j + 1
        end
    end
    for k = 1, tail do
        each(last_n + k, last_m + k)
    end
end

-- ---- lines ----

local function add(out, mark, text)
    local line = { mark = mark, text = text, depth = out.depth, open = out.open }
    out[#out + 1] = line
    return line
end

-- `inner` adds what is between the opening line and the closing one.
local function nest(out, mark, opening, closing, inner)
    local line = add(out, mark, opening)
    local before = out.open
    out.depth, out.open = out.depth + 1, line
    inner()
    out.depth, out.open = out.depth - 1, before
    line.close = add(out, mark, closing)
end

local function is_tree(value)
    return type(value) == "table" and next(value) ~= nil
end

-- All of a value that is only on one side.
local function whole(out, mark, prefix, value, comma, open)
    if not is_tree(value) then
        add(out, mark, prefix .. show.show(value) .. comma)
        return
    elseif open[value] then
        add(out, mark, prefix .. "{...}" .. comma)
        return
    end
    open[value] = true
    nest(out, mark, prefix .. "{", "}" .. comma, function()
        local count = show.length(value)
        for i = 1, count do
            whole(out, mark, "", value[i], ",", open)
        end
        for _, key in ipairs(show.keys(count, value)) do
            whole(out, mark, show.key(key) .. " = ", rawget(value, key), ",", open)
        end
    end)
    open[value] = nil
end

local compare

-- One key of two tables; nil where it is missing.
local function item(out, prefix, actual, expected)
    if actual == nil then
        whole(out, "-", prefix, expected, ",", {})
    elseif expected == nil then
        whole(out, "+", prefix, actual, ",", {})
    else
        compare(out, prefix, actual, expected, ",")
    end
end

local function children(out, actual, expected)
    align(actual, expected, function(i, j)
        item(out, "", i and actual[i], j and expected[j])
    end)
    local ours, theirs = show.length(actual), show.length(expected)
    for _, key in ipairs(show.keys(math.min(ours, theirs), actual, expected)) do
        local a, b = rawget(actual, key), rawget(expected, key)
        -- What the lists have beyond the shorter one stands above.
        if type(key) == "number" and key >= 1 and key % 1 == 0 then
            a, b = key > ours and a or nil, key > theirs and b or nil
        end
        if a ~= nil or b ~= nil then
            item(out, show.key(key) .. " = ", a, b)
        end
    end
end

function compare(out, prefix, actual, expected, comma)
    if M.same(actual, expected) then
        add(out, " ", prefix .. show.show(expected) .. comma)
    elseif is_tree(actual) and is_tree(expected) then
        if out.comparing[actual] then
            add(out, "-", prefix .. show.show(expected) .. comma)
            add(out, "+", prefix .. show.show(actual) .. comma)
            return
        end
        out.comparing[actual] = true
        nest(out, " ", prefix .. "{", "}" .. comma, function()
            children(out, actual, expected)
        end)
        out.comparing[actual] = nil
    else
        whole(out, "-", prefix, expected, comma, {})
        whole(out, "+", prefix, actual, comma, {})
    end
end

local function split(text)
    local list = {}
    for line in (text .. "\n"):gmatch("([^\n]*)\n") do
        list[#list + 1] = line
    end
    return list
end

local function compare_text(out, actual, expected)
    local a, b = split(actual), split(expected)
    local pending = {} -- actual lines of a changed run, behind the expected ones
    local function flush()
        for _, line in ipairs(pending) do
            add(out, "+", line)
        end
        pending = {}
    end
    align(a, b, function(i, j)
        if i and j and a[i] == b[j] then
            flush()
            add(out, " ", show.clean(a[i]))
        else
            if j then
                add(out, "-", show.clean(b[j]))
            end
            if i then
                pending[#pending + 1] = show.clean(a[i])
            end
        end
    end)
    flush()
end

-- ---- what is printed ----

local function mark_kept(out)
    for i, line in ipairs(out) do
        if line.mark ~= " " then
            for j = math.max(1, i - AROUND), math.min(#out, i + AROUND) do
                out[j].keep = true
            end
        end
    end
    -- What encloses a kept line is kept, from the inside out.
    for i = #out, 1, -1 do
        local open = out[i].keep and out[i].open
        while open and not (open.keep and open.close.keep) do
            open.keep, open.close.keep = true, true
            open = open.open
        end
        local line = out[i]
        if line.close and (line.keep or line.close.keep) then
            line.keep, line.close.keep = true, true
        end
    end
end

local function render(out)
    mark_kept(out)
    local lines, skipping = {}, false
    for i, line in ipairs(out) do
        local before, after = out[i - 1], out[i + 1]
        if (not before or before.keep) and (not after or after.keep) then
            line.keep = true -- its place would take as much
        end
        local indent = (" "):rep(2 * line.depth)
        if #lines == LINES_MAX then
            lines[#lines + 1] = "  ..."
            break
        elseif line.keep then
            lines[#lines + 1] = line.mark .. " " .. indent .. line.text
        elseif not skipping then
            lines[#lines + 1] = "  " .. indent .. "..."
        end
        skipping = not line.keep
    end
    return table.concat(lines, "\n")
end

--- What differs, on several lines; nil if that would say no more than both
--- values on one line each.
---@param actual any
---@param expected any
---@return string?
function M.diff(actual, expected)
    local out = { depth = 0, comparing = {} }
    if type(actual) == "string" and type(expected) == "string"
        and (actual:find("\n", 1, true) or expected:find("\n", 1, true)) then
        compare_text(out, actual, expected)
    elseif is_tree(actual) and type(expected) == "table"
        or is_tree(expected) and type(actual) == "table" then
        compare(out, "", actual, expected, "")
    else
        return nil
    end
    return render(out)
end

return M
