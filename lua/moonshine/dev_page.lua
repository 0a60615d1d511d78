--- --dev: the page that shows a failure. A pure function from the facts
--- (moonshine.dev_facts, and what fail.lua adds to them) to one HTML file
--- without anything to load, so that it works under any policy and offline.
local code = require "moonshine.dev_code"
local encode = require "moonshine.encode"
local style = require "moonshine.dev_style"

local escape = encode.html
local M = {}

local titles = {
    error = "Lua error",
    result = "The handler returned what cannot be sent",
    cpu = "The handler used up its CPU time",
    memory = "The handler used up its memory",
    timeout = "The handler took too long",
    load = "The code does not load",
}

local page = [[
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<header>
<p class="kind"><span class="badge">$status</span> $kind$asked</p>
<h1>$headline</h1>
$more<dl class="facts">$facts</dl>
</header>
<main>
$main</main>
<footer>
$footer</footer>
</body>
</html>
]]

local function fill(template, values)
    return (template:gsub("%$(%l+)", values))
end

-- ---- source and variables ----

local function is_lua(file)
    return file:sub(-4) == ".lua"
end

local function source_of(frame)
    local source = frame.source
    if not source then
        return ""
    end
    local rows = {}
    for i, line in ipairs(source.lines) do
        local number = source.first + i - 1
        rows[i] = ("<span%s><i>%d</i>%s</span>"):format(
            number == frame.line and ' class="here"' or "", number,
            is_lua(frame.file) and code.line(line) or escape(line))
    end
    return '<pre class="source"><div>' .. table.concat(rows) .. "</div></pre>\n"
end

local function rows_of(list)
    local rows = {}
    for i, row in ipairs(list) do
        rows[i] = ("<tr><td>%s</td><td>%s</td></tr>\n"):format(escape(row.name), escape(row.value))
    end
    return "<table><tbody>" .. table.concat(rows) .. "</tbody></table>\n"
end

local function titled(title, list)
    return list and list[1] and "<h3>" .. title .. "</h3>\n" .. rows_of(list) or ""
end

local function frame_html(frame, open)
    return ('<details class="card"%s><summary><b>%s:%d</b><span>%s</span></summary>\n'
        .. "%s%s%s</details>\n")
        :format(open and " open" or "", escape(frame.file), frame.line,
            frame.name and "in " .. escape(frame.name) or "", source_of(frame),
            titled("Locals", frame.locals), titled("Upvalues", frame.upvalues))
end

-- ---- the parts ----

local function frames_html(facts)
    if not facts.frames or not facts.frames[1] then
        return ""
    end
    local parts = { "<h2>Where</h2>\n" }
    for i, frame in ipairs(facts.frames) do
        parts[#parts + 1] = frame_html(frame, i == facts.focus)
    end
    return table.concat(parts)
end

local function header_name(row)
    return {
        name = row.name:gsub("%f[%w]%l", string.upper),
        value = row.value,
    }
end

local function body_html(body)
    if not body then
        return ""
    end
    local size = body.size == 1 and "1 byte" or body.size .. " bytes"
    local title = body.cut and "the start of " .. size or size
    return ("<h3>Body, %s%s</h3>\n%s"):format(title, body.text and "" or ", binary",
        body.text and "<pre>" .. escape(body.text) .. "</pre>\n" or "")
end

local function request_html(request)
    if not request then
        return ""
    end
    local headers = {}
    for i, row in ipairs(request.headers or {}) do
        headers[i] = header_name(row)
    end
    return '<h2>Request</h2>\n<details class="card" open><summary><b>'
        .. escape(request.method .. " " .. request.target) .. "</b><span>from "
        .. escape(request.ip ~= "" and request.ip or "a unix socket") .. "</span></summary>\n"
        .. titled("Parameters", request.params) .. titled("Query", request.query)
        .. titled("Headers", headers) .. body_html(request.body) .. "</details>\n"
end

local function traceback_html(facts)
    if not facts.traceback or facts.traceback == "" then
        return ""
    end
    return '<h2>Traceback</h2>\n<details class="card"><summary>as in the log</summary>\n<pre>'
        .. escape(facts.traceback) .. "</pre></details>\n"
end

local function facts_html(facts)
    local parts = {}
    local function add(name, value)
        if value and value ~= "" then
            parts[#parts + 1] = ("<div><dt>%s</dt><dd>%s</dd></div>"):format(name,
                escape(tostring(value)))
        end
    end
    local route = facts.route
    add("route", route and route.pattern .. (route.source and ", " .. route.source or ""))
    add("generation", facts.generation)
    add("request", facts.request_id)
    return table.concat(parts)
end

local function footer_html(facts)
    local first = facts.kind == "load"
        and "Every request gets this page until a version is saved that loads; then reload it."
        or "Clients get a plain error without any of this when the server runs without "
            .. "<code>--dev</code>."
    if facts.shaped_by then
        first = first .. " There, <code>" .. escape(facts.shaped_by)
            .. "</code> of this application answers."
    end
    return "<p>" .. first .. "</p>\n<p>Moonshine shows source code, variables and requests only "
        .. "with <code>--dev</code>; leave it out to turn this page off.</p>\n"
end

-- "app.lua:3: attempt to ..." says its place once more than needed.
local function headline_of(facts)
    local first, rest = facts.message:match("^([^\n]*)\n?(.*)$")
    local frame = facts.frames and facts.frames[facts.focus]
    if frame then
        local place = ("%s:%d: "):format(frame.file, frame.line)
        if first:sub(1, #place) == place and #first > #place then
            first = first:sub(#place + 1)
        end
    end
    return first, rest
end

--- The page for facts about a failure.
function M.render(facts)
    local headline, more = headline_of(facts)
    return fill(page, {
        title = escape(headline),
        style = style,
        status = tostring(facts.status),
        kind = escape(titles[facts.kind] or facts.kind),
        asked = facts.request and " in <code>" .. escape(facts.request.method .. " "
            .. facts.request.target) .. "</code>" or "",
        headline = escape(headline),
        more = more ~= "" and '<pre class="more">' .. escape(more) .. "</pre>\n" or "",
        facts = facts_html(facts),
        main = frames_html(facts) .. request_html(facts.request) .. traceback_html(facts),
        footer = footer_html(facts),
    })
end

return M
