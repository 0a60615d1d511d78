--- The page that --dev shows for a failure: message, source and traceback.
local encode = require "moonshine.encode"
local native = require "moonshine.native"

local M = {}

local AROUND = 5

local page = [[
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }
pre { background: #f4f4f6; padding: 1em; overflow: auto; font-size: 14px }
.here { background: #ffd7d7; display: block }
small { color: #666 }
</style></head><body>
<h1>%d: %s</h1>
%s<pre>%s</pre>
<small>route %s, request %s, kind %s; shown because the server runs with --dev</small>
</body></html>
]]

-- The application's first place in a text: file, line.
local function place_in(text)
    for file, line in text:gmatch("([%w_%-%./]+%.%a+):(%d+)") do
        local source = native.read_file(file)
        if source then
            return file, tonumber(line), source
        end
    end
    return nil
end

local function excerpt(file, line, source)
    local parts, number = {}, 0
    for text in (source .. "\n"):gmatch("([^\n]*)\n") do
        number = number + 1
        if math.abs(number - line) <= AROUND then
            local row = ("%4d  %s"):format(number, encode.html(text))
            parts[#parts + 1] = number == line and '<span class="here">' .. row .. "</span>"
                or row .. "\n"
        end
    end
    return ("<p><b>%s:%d</b></p><pre>%s</pre>\n"):format(encode.html(file), line,
        table.concat(parts))
end

--- The page for an err.
function M.render(err)
    local traceback = err.traceback or ""
    local file, line, source = place_in(err.message .. "\n" .. traceback)
    local message = encode.html(err.message ~= "" and err.message or err.kind)
    return page:format(message, err.status, message,
        file and excerpt(file, line, source) or "", encode.html(traceback),
        encode.html(err.route), encode.html(err.request_id), encode.html(err.kind))
end

return M
