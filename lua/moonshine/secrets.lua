--- Keys from the node's secrets, one for each purpose. Internal.
local ffi = require "ffi"

local C = ffi.C
local key = ffi.new "char[32]"
local M = {}

local derived = {}

--- The keys for a purpose, 32 raw bytes each: that of `secrets.new`, to make
--- things with, then that of `secrets.old` if there is one, to accept them.
---@param purpose string
---@return string[]
function M.derive(purpose)
    local keys = derived[purpose]
    if not keys then
        keys = {}
        for which = 0, 1 do
            if C.moon_crypto_derive(which, purpose, #purpose, key) then
                keys[#keys + 1] = ffi.string(key, 32)
            end
        end
        if #keys == 0 then
            error("this node has no secret: set secrets.new", 0)
        end
        derived[purpose] = keys
    end
    return keys
end

return M
