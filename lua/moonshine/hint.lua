--- What to write instead: looks at an error that is about to be told, and at the
--- line that it names. Runs only when something failed.
local native = require "moonshine.native"

local M = {
    methods = {},          -- of the context; set by moonshine.context
    returned_nothing = {}, -- by module: its file; set by moonshine.loader
}

-- How each method is called; the others take no arguments that matter.
local usage = {
    param = '("id")', query = '("name")', query_all = '("name")', query_int = '("name")',
    header = '("Accept")', cookie = '("name")', form = '("name")', get = '("key")',
    set = '("key", value)', status = "(404)", set_header = '("Name", "value")',
    text = '("text")', html = '("<p>text</p>")', json = "(value)", redirect = '("/path")',
    response_header = '("Name")', send_file = '("path")', fail = '(404, "message")',
    url = '("route", { id = 1 })', bytes = "(data)", log = '("info", "message")',
}

--- How a method of the context is called: c:query("name").
function M.call_of(name, variable)
    return ("%s:%s%s"):format(variable or "c", name, usage[name] or "()")
end

--- A line of a file of the application, or "".
function M.line(file, number)
    local text = native.read_file(file)
    for line in (text and text .. "\n" or ""):gmatch("([^\n]*)\n") do
        number = number - 1
        if number == 0 then
            return line
        end
    end
    return ""
end

local function line_at(place)
    local file, number = (place or ""):match("^(.*):(%d+)$")
    return file and M.line(file, tonumber(number)) or ""
end

--- For a method that was called with a dot at "file:line": what to write.
function M.colon(place)
    local line = line_at(place)
    for variable, name in line:gmatch("([%a_][%w_]*)%.([%a_][%w_]*)") do
        if rawget(M.methods, name) then
            return ("call it with a colon: %s:%s(...), not %s.%s(...)"):format(variable, name,
                variable, name)
        end
    end
    return "call it with a colon: c:method(...)"
end

-- ---- errors of Lua ----

-- Each gets the message, a function that reads its line, and the file.

-- c.query.x, "a" .. c.body
local function method_as_field(message, line)
    local name = message:match("field '([%w_]+)' %(a function value%)")
    if not name or not rawget(M.methods, name) then
        return nil
    end
    line = line()
    local variable = line:match("([%a_][%w_]*)%." .. name) or "c"
    local key = line:match("%." .. name .. "%.([%a_][%w_]*)")
        or line:match("%." .. name .. "%[[\"']([^\"']*)[\"']%]")
    local call = M.call_of(name, variable)
    if key and usage[name] then
        call = call:gsub('%("[^"]*"', '("' .. key:gsub("%%", "%%%%") .. '"', 1)
    elseif key and name:sub(-1) == "s" and rawget(M.methods, name:sub(1, -2)) then
        call = ("%s:%s(%q)"):format(variable, name:sub(1, -2), key)
    end
    return ("%s.%s is a method: %s"):format(variable, name, call)
end

-- A module that forgot its return is true.
local function silent_module(message, line, file)
    if not message:find("a boolean value", 1, true) then
        return nil
    end
    local name = message:match("'([%w_]+)' %(a boolean value%)")
    local text = name and native.read_file(file) or line()
    local pattern = (name and "%f[%w_]" .. name .. "%s*=%s*" or "")
        .. "require%s*%(?%s*[\"']([%w_%.%-/]+)"
    for module in text:gmatch(pattern) do
        local source = M.returned_nothing[module]
        if source then
            return ("%s returns nothing: end it with a return, such as return M"):format(source)
        end
    end
    return nil
end

-- What a request may lack.
local function absent_value(message, line)
    if not message:find("nil value", 1, true) then
        return nil
    end
    line = line()
    for _, name in ipairs { "query", "param", "header", "cookie", "form", "get" } do
        local call, argument = line:match("([%a_][%w_]*:" .. name
            .. "%s*%(%s*([\"'][^\"']*[\"'])%s*%))")
        if call and name == "param" then
            return ("%s is nil: the pattern of this route has no :%s"):format(call,
                argument:sub(2, -2))
        elseif call then
            return ("%s is nil when it is not there%s"):format(call, name == "query"
                and (": %s, \"default\")"):format(call:sub(1, -2)) or ": test it first")
        end
    end
    return nil
end

-- ---- syntax of other languages ----

local syntax = {
    { "!=", "'!'", "not equal is ~= in Lua" },
    { "&&", "'&'", "and is written `and` in Lua" },
    { "||", "'|'", "or is written `or` in Lua" },
    { "++", "'%+'", "Lua has no ++: n = n + 1" },
    { "+=", "'%+'", "Lua has no +=: n = n + 1" },
    { "-=", "'%-'", "Lua has no -=: n = n - 1" },
    { "=>", "'>'", "functions are written function(x) ... end in Lua" },
    { "//", "'/'", "comments begin with -- in Lua" },
}

local no_continue = "Lua has no continue: goto continue, with ::continue:: before the end"

local statements = {
    { "^%s*continue%f[%W]", no_continue },
    { "%f[%w]continue%s+end", no_continue },
    { "^%s*const%s", "variables are declared with local in Lua" },
    { "^%s*let%s", "variables are declared with local in Lua" },
    { "^%s*var%s", "variables are declared with local in Lua" },
    { "^%s*func%s", "functions are declared with function in Lua" },
    { "^%s*def%s", "functions are declared with function in Lua" },
}

local function foreign_syntax(message, line)
    local near = message:match(" near (.*)$")
    if not near then
        return nil
    end
    line = line()
    for _, rule in ipairs(syntax) do
        if near:find("^" .. rule[2]) and line:find(rule[1], 1, true) then
            return rule[3]
        end
    end
    for _, rule in ipairs(statements) do
        if line:find(rule[1]) then
            return rule[2]
        end
    end
    if near == "')'" and message:find("unexpected symbol", 1, true) then
        return "is an `end` missing before it?"
    end
    return nil
end

local rules = { method_as_field, silent_module, absent_value, foreign_syntax }

--- The message, with what to write instead if that can be told.
function M.extend(message)
    local first, rest = message:match("^([^\n]*)(.*)$")
    local file, number = first:match("^([^%s:]+):(%d+): ")
    if not file then
        return message
    end
    -- Read by those rules that know the message.
    local function line()
        return M.line(file, tonumber(number))
    end
    for _, rule in ipairs(rules) do
        local hint = rule(first, line, file)
        if hint then
            return first .. "; " .. hint .. rest
        end
    end
    return message
end

return M
