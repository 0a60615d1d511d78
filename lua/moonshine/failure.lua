--- Wanted failures: what c:fail and the framework raise to answer a status.
local M = {}
M.__index = M

function M.__tostring(self)
    return ("%d: %s"):format(self.status, self.message or self.kind)
end

--- A failure to raise. `kind` as in err.kind.
function M.new(kind, status, message, details, headers)
    return setmetatable({
        kind = kind,
        status = status,
        message = message,
        details = details,
        headers = headers,
        -- Tells the core to take no traceback.
        expected = status < 500,
    }, M)
end

--- Is this value one of ours?
function M.is(value)
    return type(value) == "table" and getmetatable(value) == M
end

return M
