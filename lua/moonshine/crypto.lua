--- moonshine.crypto: random bytes, digests, passwords.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C, ffi_string, ffi_gc = ffi.C, ffi.string, ffi.gc
local digest, uuid = ffi.new "char[32]", ffi.new "char[36]"
local out = ffi.new "moon_bytes"

local RANDOM_MAX, PASSWORD_MAX = 2 ^ 20, 4096
local MEMORY, MEMORY_MIN, PASSES, PASSES_MAX = 64 * 2 ^ 20, 8192, 2, 100

---@class moonshine.crypto
local M = {}

--- Random bytes from the system, fit for keys.
---@param count integer At most 1048576.
---@return string
function M.random(count)
    if type(count) ~= "number" or count % 1 ~= 0 or count < 0 or count > RANDOM_MAX then
        fault.raise("crypto.random: the number must be a whole number from 0 to %d, not %s",
            RANDOM_MAX, tostring(count))
    end
    local bytes = ffi.new("char[?]", count)
    C.moon_lua_random(bytes, count)
    return (ffi_string(bytes, count))
end

--- A random UUID (version 4): "0e37df36-f698-11e6-8dd4-cb9ced3df976".
---@return string
function M.uuid()
    C.moon_crypto_uuid(uuid)
    return (ffi_string(uuid, 36))
end

--- SHA-256, as 32 raw bytes; moonshine.encode.hex makes text of them.
---@param text string
---@return string
function M.sha256(text)
    fault.want(text, "string", "crypto.sha256: the argument")
    C.moon_crypto_sha256(text, #text, digest)
    return (ffi_string(digest, 32))
end

--- HMAC with SHA-256 (RFC 2104), as 32 raw bytes.
---@param key string
---@param text string
---@return string
function M.hmac_sha256(key, text)
    fault.want(key, "string", "crypto.hmac_sha256: the key")
    fault.want(text, "string", "crypto.hmac_sha256: the text")
    C.moon_crypto_hmac_sha256(key, #key, text, #text, digest)
    return (ffi_string(digest, 32))
end

--- Compares in a time that depends on the length alone.
---@param a string
---@param b string
---@return boolean
function M.equal(a, b)
    fault.want(a, "string", "crypto.equal: the first argument")
    fault.want(b, "string", "crypto.equal: the second argument")
    return #a == #b and C.moon_crypto_equal(a, b, #a)
end

-- ---- passwords ----

local hash_options = fault.set "memory ops"

-- Bytes and passes of a hash, from options.
local function cost_of(options, what)
    local most = C.moon_password_memory_max()
    if options == nil then
        return math.min(MEMORY, most), PASSES
    end
    fault.want(options, "table", what .. ": the options")
    fault.check_keys(options, hash_options, what)
    local memory, ops = math.min(MEMORY, most), options.ops or PASSES
    if options.memory ~= nil then
        memory = units.bytes(options.memory, what .. ": memory")
        if memory < MEMORY_MIN or memory > most then
            fault.raise("%s: memory must be from 8k to %dk (password.memory), not %s", what,
                most / 1024, tostring(options.memory))
        end
    end
    if type(ops) ~= "number" or ops % 1 ~= 0 or ops < 1 or ops > PASSES_MAX then
        fault.raise("%s: ops must be a whole number from 1 to %d, not %s", what, PASSES_MAX,
            tostring(ops))
    end
    return memory, ops
end

local failures = {
    [-4] = { "the hash asks for more memory than password.memory, or for over 100 passes", 400 },
    [-11] = { "not a hash of argon2id", 400 },
    [-13] = { "too many passwords are being hashed", 503 },
}
local system_failure = { "no memory to hash a password", 503 }

local function refuse(code)
    local why = failures[code] or system_failure
    return nil, why[1], why[2]
end

-- A job with the password in it; or nil, message, code.
local function new_job(password)
    if #password > PASSWORD_MAX then
        return nil, ("a password has at most %d bytes"):format(PASSWORD_MAX), 400
    end
    local job = C.moon_password_new(password, #password)
    if job == nil then
        return refuse()
    end
    return ffi_gc(job, C.moon_password_free)
end

-- Waits for what was started with this code; the outcome, and the hash.
local function finish(job, code)
    if code == 0 then
        wait.suspend()
        code = C.moon_password_outcome(job, out)
    end
    local hash = code == 0 and ffi_string(out.ptr, out.len)
    C.moon_password_free(ffi_gc(job, nil))
    return code, hash
end

--- Hashes a password with argon2id, on another thread while the task waits:
--- about 60 ms. The text holds its parameters and a random salt.
---@param password string At most 4096 bytes.
---@param options? {memory?: integer|string, ops?: integer} Default 64m and 2 passes.
---@return string|nil hash "$argon2id$v=19$m=65536,t=2,p=1$..."
---@return string? message
---@return integer? code 503 when too many wait, 400 for a password that is too long.
function M.password_hash(password, options)
    fault.want(password, "string", "crypto.password_hash: the password")
    local memory, ops = cost_of(options, "crypto.password_hash")
    wait.check("crypto.password_hash")
    local job, message, status = new_job(password)
    if not job then
        return nil, message, status
    end
    local code, hash = finish(job, C.moon_password_hash(job, memory, ops))
    if code ~= 0 then
        return refuse(code)
    end
    return hash
end

--- Is it the password of this hash? Takes as long as hashing it.
---@param hash string What password_hash returned; argon2i is read, too.
---@param password string
---@param options? {memory?: integer|string, ops?: integer} What password_hash would be given now.
---@return boolean|nil right
---@return boolean|string rehash True: made with other options: hash it anew and store that.
---@return integer? code 400 for what is no hash, 503 when too many wait.
function M.password_verify(hash, password, options)
    fault.want(hash, "string", "crypto.password_verify: the hash")
    fault.want(password, "string", "crypto.password_verify: the password")
    local memory, ops = cost_of(options, "crypto.password_verify")
    wait.check("crypto.password_verify")
    local job, message, status = new_job(password)
    if not job then
        return nil, message, status
    end
    local code = finish(job, C.moon_password_verify(job, hash, #hash))
    if code == 0 then
        return true, C.moon_password_is_stale(hash, #hash, memory, ops)
    elseif code == -12 then
        return false, false
    end
    return refuse(code)
end

return M
