-- The demo's HTML.
local moonshine = require "moonshine"

local M = {}

local layout = [[
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<link rel="stylesheet" href="/assets/style.css">
<link rel="icon" href="/assets/moon.svg">
</head>
<body>
<main>
%s
</main>
</body>
</html>
]]

local home = [[
<h1><img src="/assets/moon.svg" alt="" width="48" height="48"> Moonshine</h1>
<p>This page is a Lua route. Edit <code>apps/demo/app.lua</code>, reload, and
look at the generation.</p>
<dl>
<dt>node</dt><dd id="node">%s</dd>
<dt>worker</dt><dd id="worker">%d of %d</dd>
<dt>generation</dt><dd id="generation">%d</dd>
<dt>version</dt><dd>%s</dd>
</dl>
<h2>Try</h2>
<ul>
<li><a href="/hello">/hello</a> text</li>
<li><a href="/users/7">/users/7</a> JSON through three middleware</li>
<li><a href="/sleep?ms=500">/sleep?ms=500</a> waits, blocks nobody</li>
<li><a href="/stream">/stream</a> ten lines in a second</li>
<li><a href="/panic">/panic</a> a Lua error: 500, only here</li>
<li><a href="/spin">/spin</a> an endless loop: 503 when its CPU budget is spent</li>
<li><a href="/hog">/hog</a> memory without end: 503 when its budget is spent</li>
<li><a href="/nowhere">/nowhere</a> the custom 404 page</li>
</ul>
]]

local function escape(text)
    return moonshine.encode.html(text)
end

function M.home(facts)
    local id, count = facts.worker.id, facts.worker.count
    return layout:format("Moonshine demo",
        home:format(escape(facts.node), id, count, facts.generation, escape(facts.version)))
end

function M.not_found(path)
    return layout:format("Not found",
        ('<h1>Nothing here</h1>\n<p>There is no <code>%s</code>. <a href="/">Back</a></p>')
        :format(escape(path)))
end

return M
