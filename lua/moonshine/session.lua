--- c:session(): what the core keeps for a browser from request to request.
---
--- The core reads, merges and saves (state/session.h); here are values, the
--- cookie, and when to save: before the head of the answer leaves.
local ffi = require "ffi"
local context = require "moonshine.context"
local crypto = require "moonshine.crypto"
local encode = require "moonshine.encode"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local log = require "moonshine.log"
local native = require "moonshine.native"
local respond = require "moonshine.respond"
local secrets = require "moonshine.secrets"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C, ffi_string = ffi.C, ffi.string
local Context, dead = context.methods, context.dead
local json = native.json
local out, other = ffi.new "moon_bytes", ffi.new "moon_bytes"
local number, kind_out = ffi.new "double[1]", ffi.new "int[1]"

-- What a field is, of moon_session_get_field; the rest is JSON text.
local NONE, NUMBER, STRING, FALSE, TRUE = 0, 2, 3, 4, 5
local DATA, FLASH = ("d"):byte(), ("f"):byte()
local CLEAR, RENEW, END = 1, 2, 3
-- Of base/errcode.h.
local OK, TOO_BIG, NOT_FOUND, EXISTS, FULL = 0, -4, -5, -6, -13
local UPDATE_FIELDS, UPDATE_TRIES, UPDATE_PAUSE = 256, 20, 0.008
local RETRY_AFTER = { ["Retry-After"] = "1" }
local TELL_EVERY = 10 -- seconds
local told, untold = -math.huge, 0

local M = {}

local function pack(...)
    return { n = select("#", ...), ... }
end

-- A session is { c, state, watched }. The state is false (not read yet), "loaded",
-- "stale" (what was read is older than what update saved), or "empty": the store is
-- down, on a route with session = "optional".
---@class moonshine.Session
local Session = {}

-- ---- the cookie ----

local config = native.info().session

-- __Host- binds a cookie to this host and to https; it allows no domain.
local function cookie_name(scheme)
    local name = config.cookie_name ~= "" and config.cookie_name or "id"
    if scheme ~= "https" or config.cookie_secure == "off" or name:find("^__") then
        return name
    end
    return (config.cookie_domain == "" and "__Host-" or "__Secure-") .. name
end

local PLAIN_NAME, SECURE_NAME = cookie_name("http"), cookie_name("https")

local function set_cookie(c)
    local what = C.moon_session_cookie_of(c[1], out, number)
    if what == 0 then
        return
    end
    local secure = c:scheme() == "https"
    if config.cookie_secure ~= "auto" then
        secure = config.cookie_secure == "on"
    end
    local id = what == 1 and ffi_string(out.ptr, out.len) or nil
    c:set_cookie(cookie_name(c:scheme()), id, {
        max_age = what == 1 and number[0] >= 0 and number[0] or nil,
        domain = config.cookie_domain ~= "" and config.cookie_domain or nil,
        same_site = config.same_site, secure = secure,
    })
end

-- ---- the store ----

local function why(handle)
    C.moon_session_why(handle, out)
    return (ffi_string(out.ptr, out.len))
end

-- A store that is down fails every request: the log says so now and then, and the
-- client not why, which is nothing of his.
local function tell(handle)
    local now = C.moon_lua_clock()
    if now - told < TELL_EVERY then
        untold = untold + 1
        return
    end
    log.warn("the session store does not answer: " .. why(handle),
        { failures_before = untold > 0 and untold or nil })
    told, untold = now, 0
end

local function store_failed(handle)
    tell(handle)
    local failed = failure.new("session", 503, "the session store does not answer", nil,
        RETRY_AFTER)
    failed.expected = true
    error(failed, 0)
end

-- After each wait: the request may be over, if this is a task that was given its
-- context, and another one may be in its place.
local function handle_of(c)
    return c[1] or dead(c)
end

-- Another task of this request may be at it.
local function take_turn(c, what)
    wait.check(what)
    while C.moon_session_is_busy(handle_of(c)) do
        tasks.sleep(0.001)
    end
    return c[1]
end

local function outcome(c, code)
    if code == 1 then
        wait.suspend()
        code = C.moon_session_outcome(handle_of(c))
    end
    return code
end

-- Reads the session, once. False: there is no store, and none is needed.
local function load(c, what)
    local handle = take_turn(c, what)
    if outcome(c, C.moon_session_begin_load(handle, false)) == OK then
        return true
    end
    local info = c[8]
    if info and info.session == "optional" then
        tell(handle)
        return false
    end
    store_failed(handle)
end

local function reload(session, what)
    local handle = take_turn(session[1], what)
    if outcome(session[1], C.moon_session_begin_load(handle, true)) ~= OK then
        store_failed(handle)
    end
    session[2] = "loaded"
end

-- The handle, with the session read; nil for an empty one.
local function ready(session, what)
    local c = session[1]
    local handle = c[1]
    if not handle then
        dead(c)
    elseif not session[2] then
        session[2] = load(c, what) and "loaded" or "empty"
    elseif session[2] == "stale" then
        reload(session, what)
    end
    return session[2] == "loaded" and handle or nil
end

-- The same for what changes the session: without a store that is a failure.
local function writable(session, what)
    return ready(session, what) or store_failed(session[1][1])
end

-- ---- values ----

local function name_of(key, what)
    if type(key) ~= "string" then
        fault.raise("%s: the key must be a string, not a %s", what, type(key))
    end
    return key
end

local function text_of(value, what)
    local ok, text = pcall(json.encode, value)
    return ok and text or fault.raise("%s: the value cannot be kept: %s", what, text)
end

local function check_put(code, key, what)
    if code == TOO_BIG then
        fault.raise("%s: the key may have 254 bytes, not %d", what, #key)
    elseif code == FULL then
        fault.raise("%s: a session may have 1000 fields and 1 MiB", what)
    elseif code ~= OK then
        error("out of memory", 0)
    end
end

local function remove(handle, kind, key, what)
    check_put(C.moon_session_set_field(handle, kind, key, #key, nil, 0), key, what)
end

-- Numbers and most strings are made JSON without the encoder, and without leaving
-- compiled code.
local function put(session, kind, key, value, what)
    local is = type(value)
    if is == "number" and value - value == 0 then -- finite
        local handle = writable(session, what)
        check_put(C.moon_session_set_number(handle, kind, key, #key, value), key, what)
    elseif is == "string" and C.moon_session_is_plain(value, #value) then
        local handle = writable(session, what)
        check_put(C.moon_session_set_plain(handle, kind, key, #key, value, #value), key, what)
    else
        local text = text_of(value, what)
        local handle = writable(session, what)
        check_put(C.moon_session_set_field(handle, kind, key, #key, text, #text), key, what)
    end
end

local function get(handle, kind, key)
    local what = C.moon_session_get_field(handle, kind, key, #key, out, number)
    if what == NUMBER then
        return number[0]
    elseif what == NONE then
        return nil
    elseif what == STRING then
        return (ffi_string(out.ptr, out.len))
    elseif what == TRUE or what == FALSE then
        return what == TRUE
    end
    return (json.decode(ffi_string(out.ptr, out.len)))
end

--- The value of a key, or nil. A table is a copy: set it back to keep a change.
---@param key string
---@return any
function Session:get(key)
    name_of(key, "session:get")
    local handle = ready(self, "session:get")
    local value = nil
    if handle then
        value = get(handle, DATA, key)
        if respond.dev and type(value) == "table" then
            M.watch(self, key, value)
        end
    end
    return value
end

--- Keeps a JSON-able value; nil removes it.
---@param key string
---@param value any
function Session:set(key, value)
    name_of(key, "session:set")
    if value == nil then
        remove(writable(self, "session:set"), DATA, key, "session:set")
    else
        put(self, DATA, key, value, "session:set")
    end
    if self[3] then
        self[3][key] = nil
    end
end

--- Removes a key.
---@param key string
function Session:delete(key)
    name_of(key, "session:delete")
    remove(writable(self, "session:delete"), DATA, key, "session:delete")
end

--- Removes all keys. The session stays.
function Session:clear()
    C.moon_session_do(writable(self, "session:clear"), CLEAR)
end

--- All keys and values.
---@return table<string, any>
function Session:all()
    local handle, values = ready(self, "session:all"), {}
    local index = 0
    while handle and C.moon_session_field_at(handle, index, kind_out, out, other) do
        if kind_out[0] == DATA then
            local name = ffi_string(out.ptr, out.len)
            values[name] = json.decode(ffi_string(other.ptr, other.len))
        end
        index = index + 1
    end
    return values
end

--- With a value: keeps it for whoever asks first, in this or a later request.
--- Without: that value, once.
---@param key string
---@param ... any
---@return any
function Session:flash(key, ...)
    name_of(key, "session:flash")
    if select("#", ...) > 0 then
        put(self, FLASH, key, (...), "session:flash")
        return nil
    end
    local handle = ready(self, "session:flash")
    local value = nil
    if handle then
        value = get(handle, FLASH, key)
        remove(handle, FLASH, key, "session:flash")
    end
    return value
end

-- ---- changing one value safely ----

local View = {}
View.__index = View

--- Within session:update: as session:get.
function View:get(key)
    name_of(key, "session:get")
    local text = self.changes[key]
    if text == false then
        return nil
    elseif text then
        return (json.decode(text))
    end
    return get(self.handle, DATA, key)
end

--- Within session:update: as session:set.
function View:set(key, value)
    name_of(key, "session:set")
    self.changes[key] = value ~= nil and text_of(value, "session:set") or false
end

--- Within session:update: as session:delete.
function View:delete(key)
    self:set(key, nil)
end

local names = ffi.new("moon_bytes[?]", UPDATE_FIELDS)
local values = ffi.new("moon_bytes[?]", UPDATE_FIELDS)

local function begin_update(handle, changes)
    local count = 0
    for name, text in pairs(changes) do
        if count == UPDATE_FIELDS then
            fault.raise("session:update: at most %d keys", UPDATE_FIELDS)
        end
        names[count].ptr, names[count].len = name, #name
        values[count].ptr, values[count].len = text or nil, text and #text or 0
        count = count + 1
    end
    return (C.moon_session_begin_update(handle, names, values, count))
end

-- What fn returned; it may not wait, so that what it read is still true.
local function run_still(fn, view)
    wait.hold("session:update")
    local results = pack(pcall(fn, view))
    wait.hold(nil)
    if not results[1] then
        error(results[2], 0)
    end
    return results
end

-- One at a time a session in this worker; the others are met by their versions.
local turns = {}

local function with_turn(id, fn)
    while turns[id] do
        tasks.sleep(0.001)
    end
    turns[id] = true
    return tasks.protect(function() turns[id] = nil end, fn)
end

-- Tries until nobody else saved between reading and saving; nil when it is
-- hopeless.
local function try_update(session, fn)
    local known = session[2] == "loaded"
    local handle = writable(session, "session:update")
    for try = 1, UPDATE_TRIES do
        if known or try > 1 then
            reload(session, "session:update")
        end
        local view = setmetatable({ handle = handle, changes = {} }, View)
        local results = run_still(fn, view)
        if next(view.changes) == nil then
            return results
        end
        local code = outcome(session[1], begin_update(handle, view.changes))
        if code == OK then
            session[2] = "stale"
            return results
        elseif code ~= EXISTS and code ~= NOT_FOUND then
            store_failed(handle)
        end
        tasks.sleep(math.random() * UPDATE_PAUSE * math.min(try, 4))
    end
    return nil
end

--- Changes values by what they are, so that no change of another request is lost:
--- fn(view) gets a view with get, set and delete, may run again and must not wait.
--- Its results are returned once they are saved; or nil, message, 409.
---@param fn fun(view: moonshine.SessionView): any
---@return any ...
function Session:update(fn)
    fault.want(fn, "function", "session:update: the argument")
    local id = M.id(self[1])
    local results = with_turn(id, function() return try_update(self, fn) end)
    if not results then
        return nil, "the session changes too often", 409
    end
    return unpack(results, 2, results.n)
end

-- ---- the whole ----

--- A new id, the old one is dead: after a login, and whenever rights change.
function Session:renew()
    C.moon_session_do(writable(self, "session:renew"), RENEW)
    M.on_renew(self[1])
end

--- Ends the session and removes the cookie.
function Session:destroy()
    C.moon_session_do(writable(self, "session:destroy"), END)
end

--- Whose it is: sets it, or (without argument) tells it; nil if it is nobody's.
---@param id? string|number
---@return string?
function Session:subject(id)
    if id == nil then
        local handle = ready(self, "session:subject")
        if handle then
            C.moon_session_owner(handle, out)
        end
        return handle and out.len > 0 and ffi_string(out.ptr, out.len) or nil
    end
    local text = type(id) == "number" and tostring(id)
        or fault.want(id, "string", "session:subject: the argument")
    if C.moon_session_set_owner(writable(self, "session:subject"), text, #text) ~= OK then
        error("out of memory", 0)
    end
    return text
end

--- Lives for `ttl` from now on, used or not, also after the browser was closed.
---@param ttl number|string
function Session:remember(ttl)
    local seconds = units.seconds(ttl, "session:remember: the time to live")
    C.moon_session_keep(writable(self, "session:remember"), seconds)
end

--- Eight hexadecimal digits that stand for this session in logs: they lead nobody
--- to its id. nil if there is none.
---@return string?
function Session:id_hash()
    local handle = ready(self, "session:id_hash")
    if not handle or not C.moon_session_has(handle) then
        return nil
    end
    return encode.hex(crypto.hmac_sha256(secrets.derive("session id")[1], M.id(self[1]))):sub(1, 8)
end

-- ---- for the framework ----

--- What key = "session" of a limit counts by; nil: there is no session, or the store
--- does not answer.
function M.limit_key(c)
    local id = M.id(c)
    if id == "" then
        return nil
    end
    local ok, handle = pcall(ready, c:session(), "a limit by session")
    if not ok or not handle or not C.moon_session_has(handle) then
        return nil
    end
    return encode.hex(crypto.hmac_sha256(secrets.derive("session id")[1], id))
end

--- Set by moonshine.csrf: what was handed to the browser before is worth nothing.
function M.on_renew(_) end

-- In --dev: what was read and changed, but not set back, is warned of.
function M.watch(session, key, value)
    session[3] = session[3] or {}
    session[3][key] = { value = value, text = json.encode(value) }
end

local function warn_of_lost_changes(session)
    for key, seen in pairs(session[3]) do
        local ok, text = pcall(json.encode, seen.value)
        if not ok or text ~= seen.text then
            log.warn(("session: the value of '%s' was changed but not set: it is a copy")
                :format(key), {})
        end
    end
end

--- Saves what was changed and sets the cookie, before the answer's head leaves.
--- Raises a failure if the store does not take it.
function M.commit(c, session)
    local handle = c[1]
    if session[3] then
        warn_of_lost_changes(session)
    end
    if session[2] == "stale" then
        if not C.moon_session_unsaved(handle) then
            return set_cookie(c)
        end
        reload(session, "the session")
    elseif session[2] ~= "loaded" then
        return
    end
    if C.moon_session_is_busy(handle) then
        take_turn(c, "the session")
    end
    C.moon_session_touch_later(handle)
    local code = outcome(c, C.moon_session_begin_commit(handle))
    if code == NOT_FOUND then
        log.info("the session was ended meanwhile: what this request set in it is dropped", {})
    elseif code ~= OK then
        store_failed(handle)
    end
    set_cookie(c)
end
respond.commit_session = M.commit

--- The id that the request sent, "" if it sent none.
function M.id(c)
    return c:cookie(cookie_name(c:scheme())) or ""
end

--- What its cookie is called.
M.cookie_name = cookie_name

local metatable = {
    __index = function(_, key)
        return Session[key] or fault.raise("a session has no '%s'%s", tostring(key),
            fault.hint(key, Session))
    end,
    __newindex = function(_, key)
        fault.raise("session.%s cannot be assigned: use set(%q, value)", tostring(key),
            tostring(key))
    end,
}

--- The session of the browser that sent this request. It is read when first used,
--- saved before the answer leaves, and exists only once something is set.
---@return moonshine.Session
function Context:session()
    local handle = self[1]
    if not handle then
        dead(self)
    end
    local more = self[2]
    if more and more.session then
        return more.session
    end
    local code = C.moon_session_open(handle, PLAIN_NAME, #PLAIN_NAME, SECURE_NAME, #SECURE_NAME)
    if code ~= OK then
        error(code == -12 and "there is no session store here" or "out of memory", 0)
    end
    local session = setmetatable({ self, false, false }, metatable)
    if more then
        more.session = session
    else
        self[2] = { session = session }
    end
    return session
end

return M
