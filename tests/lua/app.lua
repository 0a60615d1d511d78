-- See README.md: run by `moonshine check tests/lua`.
local moonshine = require "moonshine"
local app = moonshine.app()

local suites = {
    "clock", "cookies", "coroutines", "crypto", "dev", "encode", "globals", "json", "metrics",
    "same", "shapes", "stream", "tasks", "units", "view", "views",
}

app:check(function()
    local failed = {}
    for _, suite in ipairs(suites) do
        for name, test in pairs(require("specs." .. suite)) do
            local ok, message = xpcall(test, debug.traceback)
            if not ok then
                table.insert(failed, suite .. ": " .. name .. ": " .. message)
            end
        end
    end
    assert(#failed == 0, table.concat(failed, "\n"))
end)

return app
