-- How long the parts of a request took, as the browser's tools show it.
local moonshine = require "moonshine"

local M = {}

local MARKS = {} -- the key of c:set

--- Middleware: adds Server-Timing with the whole and what was marked.
function M.timing(c, proceed)
    c:set(MARKS, {})
    local stop = M.start(c, "all")
    local body, status = proceed(c)
    stop()
    c:set_header("Server-Timing", table.concat(c:get(MARKS), ", "))
    return body, status
end

--- Begins a part; the function that is returned ends it.
function M.start(c, name)
    local began = moonshine.clock()
    return function()
        table.insert(c:get(MARKS), ("%s;dur=%.1f"):format(name,
            (moonshine.clock() - began) * 1000))
    end
end

return M
