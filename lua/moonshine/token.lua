--- Text that comes back unchanged or not at all: itself and its HMAC under a key
--- for one purpose. It can be read by everybody. Internal.
local crypto = require "moonshine.crypto"
local encode = require "moonshine.encode"
local secrets = require "moonshine.secrets"

local base64url, decode = encode.base64url, encode.decode.base64url
local M = {}

--- The text, a dot, and 43 characters that vouch for it.
---@param purpose string What is sealed for one is worth nothing for another.
---@param text string
---@return string
function M.seal(purpose, text)
    return text .. "." .. base64url(crypto.hmac_sha256(secrets.derive(purpose)[1], text))
end

--- The text of what was sealed, with the old secret, too; else nil, message, 400.
---@param purpose string
---@param sealed string
---@return string?
---@return string?
---@return integer?
function M.open(purpose, sealed)
    local text, tail = sealed:match("^(.*)%.([%w_-]+)$")
    local mac = tail and decode(tail)
    local good = false
    if mac then
        for _, key in ipairs(secrets.derive(purpose)) do
            good = crypto.equal(mac, crypto.hmac_sha256(key, text)) or good
        end
    end
    if not good then
        return nil, "not sealed here", 400
    end
    return text
end

return M
