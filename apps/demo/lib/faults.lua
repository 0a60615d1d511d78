-- Handlers that go wrong in the ways that services do.
local M = {}

-- A Lua error: 500 for this request, a traceback in the log.
function M.panic(c)
    local user = nil
    return user.name .. c:path()
end

-- A loop without an end: 503 when cpu_limit is over, the line in the log.
function M.spin()
    local n = 0
    while true do
        n = (n + 1) % 1000
    end
end

-- Memory without an end: 503 when request_memory is over.
function M.hog()
    local kept = {}
    while true do
        kept[#kept + 1] = ("x"):rep(4096) .. #kept
    end
end

-- A segmentation fault: takes this worker; the others serve on and a new one
-- is there at once. Only with --dev.
function M.crash()
    local ffi = require "ffi"
    return ffi.cast("int *", 8)[0]
end

return M
