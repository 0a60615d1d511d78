--- Paths of named routes.
local encode = require "moonshine.encode"
local fault = require "moonshine.fault"
local native = require "moonshine.native"

local M = {}

--- The path of the route `name` of `names`, percent-encoded.
function M.build(names, name, params, query)
    local route = names and names[name]
    if not route then
        fault.raise("no route is named '%s'%s", tostring(name), fault.hint(name, names or {}))
    end
    local path, message = native.url(route.pattern, params or {})
    if not path then
        fault.raise("url of '%s': %s", name, message)
    end
    if query and next(query) ~= nil then
        path = path .. "?" .. encode.query(query)
    end
    return path
end

return M
