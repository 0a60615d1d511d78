--- moonshine.basic_auth: a name and a password with each request (RFC 7617).
---
--- A wrong name costs what a wrong password does. A password that was checked
--- against its argon2 hash is remembered for a while, by a digest under a key that
--- only this VM knows, or else each request would take 60 ms.
local ffi = require "ffi"
local crypto = require "moonshine.crypto"
local encode = require "moonshine.encode"
local fault = require "moonshine.fault"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C = ffi.C
local M = {}

local REMEMBERED_MAX, TEXT_MAX = 1000, 4096
local vm_key = crypto.random(32)

-- A digest that is as long whatever the text, to compare.
local function digest(text)
    return crypto.hmac_sha256(vm_key, text)
end

-- ---- the field ----

-- Name and password; nil if the field is none, or malformed.
local function credentials(c)
    local field = c:header("Authorization")
    local coded = field and field:match("^[Bb][Aa][Ss][Ii][Cc] +([%w+/]+=*)%s*$")
    local text = coded and encode.decode.base64(coded)
    if not text or #text > TEXT_MAX or text:find("[%z\1-\31\127]") then
        return nil
    end
    return text:match("^([^:]*):(.*)$")
end

-- ---- what was checked before ----

local Memory = {}
Memory.__index = Memory

local function new_memory(seconds)
    return setmetatable({ seconds = seconds, count = 0, ends = {} }, Memory)
end

function Memory:has(key)
    local ends = self.ends[key]
    return ends ~= nil and C.moon_lua_clock() < ends
end

function Memory:add(key)
    if self.seconds == 0 then
        return
    end
    if self.ends[key] == nil then
        if self.count == REMEMBERED_MAX then
            self.ends, self.count = {}, 0
        end
        self.count = self.count + 1
    end
    self.ends[key] = C.moon_lua_clock() + self.seconds
end

-- ---- hashing ----

local function is_hash(password)
    return password:sub(1, 7) == "$argon2"
end

local function verify(c, hash, password)
    local right, message, code = crypto.password_verify(hash, password)
    if right == nil and code == 503 then
        c:fail(503, message, nil, { ["Retry-After"] = "1" })
    elseif right == nil then
        c:log("error", "basic_auth: " .. message)
    end
    return right or false
end

local function land(flights, key, right)
    local flight = flights[key]
    flights[key] = nil
    flight.landed, flight.right = true, right
    for _, task in ipairs(flight) do
        C.moon_task_unpark(task)
    end
end

-- The same name and password are checked once at a time: a page and all it
-- loads come at once, and would fill the queue.
local function verify_once(flights, key, c, hash, password)
    while flights[key] do
        local flight = flights[key]
        flight[#flight + 1] = C.moon_task_current()
        while not flight.landed do
            wait.park(nil, "verify password")
        end
        if flight.right ~= nil then
            return flight.right
        end
    end
    local flight = {}
    flights[key] = flight
    c:defer(function() -- this request may be ended while it waits
        if flights[key] == flight then
            land(flights, key, nil)
        end
    end)
    local right = verify(c, hash, password)
    land(flights, key, right)
    return right
end

-- ---- users in a table ----

-- Checks a name and a password against the table of users.
local function check_users(self, c, name, password)
    local known = self.users[name]
    if known and not is_hash(known) then
        local right = crypto.equal(digest(known), digest(password))
        if not right and self.decoy then
            verify(c, self.decoy, password) -- takes as long as for the others
        end
        return right
    end
    if not known and not self.decoy then
        crypto.equal(digest(""), digest(password))
        return false
    end
    local key = digest(name .. "\0" .. password)
    if known and self.memory:has(key) then
        return true
    end
    local right = verify_once(self.flights, key, c, known or self.decoy, password)
    if right and known then
        self.memory:add(key)
        return true
    end
    return false
end

-- ---- the middleware ----

local Middleware = {}

function Middleware.__call(self, c, proceed)
    local name, password = credentials(c)
    local user = false
    if name and self.check then
        user = self.check(name, password, c)
        user = user == true and name or user
    elseif name then
        user = check_users(self, c, name, password) and name
    end
    if not user then
        c:fail(401, "a name and a password are needed", nil, self.challenge)
    end
    c:set("user", user)
    return proceed(c)
end

local known_options = fault.set "realm users check remember"

-- What people have in files of other servers, and what we would compare as text.
local foreign = {
    "^%$2[abxy]?%$", "^%$[156]%$", "^%$apr1%$", "^%$y%$", "^{%u[%w-]*}", "^%$scrypt%$", "^%$pbkdf2",
}

local argon2 = "^%$argon2id?%$v=19%$m=%d+,t=%d+,p=%d+%$[%w+/]+%$[%w+/]+$"

local function check_user(name, password)
    fault.want(name, "string", "basic_auth: each name of users")
    fault.want(password, "string", ("basic_auth: the password of %q"):format(name))
    if name:find("[:%c]") then
        fault.raise("basic_auth: the name %q must not have a colon or control characters", name)
    end
    if is_hash(password) and not password:find(argon2) then
        fault.raise("basic_auth: the hash of %q is damaged", name)
    end
    for _, pattern in ipairs(foreign) do
        if password:find(pattern) then
            fault.raise("basic_auth: the password of %q is hashed, but not with argon2: use "
                .. "moonshine.crypto.password_hash", name)
        end
    end
end

-- The users, and the hash that is checked in place of one that is not there.
local function copy_users(users)
    local copy, decoy = {}, nil
    for name, password in pairs(fault.want(users, "table", "basic_auth: users")) do
        check_user(name, password)
        copy[name] = password
        if is_hash(password) then
            decoy = decoy or password -- all cost the same, as a rule
        end
    end
    return copy, decoy
end

local function challenge(realm)
    fault.want(realm, "string", "basic_auth: realm")
    if realm:find("%c") then
        fault.raise("basic_auth: realm must not have control characters")
    end
    return ('Basic realm="%s", charset="UTF-8"'):format((realm:gsub('[\\"]', "\\%0")))
end

---@class moonshine.basic_auth.Options
---@field realm? string What the browser shows; default "restricted".
---@field users? table<string, string> Passwords by name, plain or from crypto.password_hash.
---@field check? fun(name: string, password: string, c: moonshine.Context): any Instead of users.
---@field remember? number|string How long a right password is not hashed again; default 60 s.

--- Middleware that answers 401 without a right name and password. Afterwards
--- c:get("user") is the name, or what check returned if that is not true.
---@param options moonshine.basic_auth.Options
---@return moonshine.Middleware
function M.new(options)
    fault.check_keys(fault.want(options, "table", "basic_auth: the options"), known_options,
        "basic_auth")
    if (options.users == nil) == (options.check == nil) then
        fault.raise("basic_auth takes users or check, one of them")
    end
    local remember = units.seconds(options.remember or 60, "basic_auth: remember")
    local self = {
        name = "basic_auth",
        memory = new_memory(remember),
        flights = {},
        challenge = { ["WWW-Authenticate"] = challenge(options.realm or "restricted") },
    }
    if options.check ~= nil then
        self.check = fault.want(options.check, "function", "basic_auth: check")
    else
        self.users, self.decoy = copy_users(options.users)
    end
    return setmetatable(self, Middleware)
end

return M
