--- Cookies as a browser keeps them (RFC 6265), by the clock that tests move.
local ffi = require "ffi"

local C = ffi.C
local M = {}

local LONG_AGO, FOR_EVER = -math.huge, math.huge

-- ---- dates: RFC 6265, section 5.1.1 ----

local months = { jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6, jul = 7, aug = 8,
    sep = 9, oct = 10, nov = 11, dec = 12 }

-- Days from 1970-01-01 to a date of the Gregorian calendar.
local function days(year, month, day)
    if month <= 2 then
        year, month = year - 1, month + 12
    end
    local era = math.floor(year / 400)
    local of_era = year - era * 400
    local of_year = math.floor((153 * (month - 3) + 2) / 5) + day - 1
    return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100)
        + of_year - 719468
end

-- What a token of a date says, unless that is known already.
local function read_token(token, date)
    local hour, minute, second = token:match("^(%d%d?):(%d%d?):(%d%d?)%f[%D]")
    local month = months[token:sub(1, 3):lower()]
    if hour and not date.hour then
        date.hour, date.minute, date.second = tonumber(hour), tonumber(minute), tonumber(second)
    elseif token:find("^%d%d?%f[%D]") and not date.day then
        date.day = tonumber(token:match("^%d%d?"))
    elseif month and not date.month then
        date.month = month
    elseif token:find("^%d%d%d?%d?%f[%D]") and not date.year then
        local year = tonumber(token:match("^%d+"))
        date.year = year + (year < 70 and 2000 or year < 100 and 1900 or 0)
    end
end

--- Seconds since 1970 of a cookie's date, or nil.
---@param text string
---@return number?
function M.date(text)
    local date = {}
    for token in text:gmatch("[^\9\32-\47\59-\64\91-\96\123-\126]+") do
        read_token(token, date)
    end
    if not (date.hour and date.day and date.month and date.year) or date.year < 1601
        or date.hour > 23 or date.minute > 59 or date.second > 59 then
        return nil
    end
    local first = days(date.year, date.month, 1)
    local next_first = days(date.year + (date.month == 12 and 1 or 0), date.month % 12 + 1, 1)
    if date.day < 1 or date.day > next_first - first then
        return nil
    end
    return (first + date.day - 1) * 86400 + date.hour * 3600 + date.minute * 60 + date.second
end

-- ---- one Set-Cookie field: section 5.2 ----

local function trim(text)
    return (text:gsub("^[ \t]+", ""):gsub("[ \t]+$", ""))
end

---@class moonshine.test.Cookie
---@field name string
---@field value string
---@field path? string
---@field domain? string without a leading dot
---@field max_age? number seconds
---@field expires? number seconds since 1970
---@field secure boolean
---@field http_only boolean
---@field same_site? string

local attributes = {}

attributes["expires"] = function(cookie, value)
    cookie.expires = M.date(value) or cookie.expires
end
attributes["max-age"] = function(cookie, value)
    if value:find("^%-?%d+$") then
        cookie.max_age = tonumber(value)
    end
end
attributes["domain"] = function(cookie, value)
    cookie.domain = value ~= "" and value:gsub("^%.", ""):lower() or nil
end
attributes["path"] = function(cookie, value)
    cookie.path = value
end
attributes["secure"] = function(cookie)
    cookie.secure = true
end
attributes["httponly"] = function(cookie)
    cookie.http_only = true
end
attributes["samesite"] = function(cookie, value)
    cookie.same_site = value
end

--- What a Set-Cookie field says; nil for one that browsers ignore.
---@param field string
---@return moonshine.test.Cookie?
function M.parse(field)
    local pair, rest = field:match("^([^;]*);?(.*)$")
    local name, value = pair:match("^([^=]*)=(.*)$")
    if not name or trim(name) == "" then
        return nil
    end
    local cookie = { name = trim(name), value = trim(value), secure = false, http_only = false }
    for attribute in rest:gmatch("[^;]+") do
        local key, text = attribute:match("^([^=]*)=?(.*)$")
        local read = attributes[trim(key):lower()]
        if read then
            read(cookie, trim(text))
        end
    end
    return cookie
end

-- ---- the jar: sections 5.3 and 5.4 ----

local function is_address(host)
    return host:find("^%d+%.%d+%.%d+%.%d+$") ~= nil or host:find(":", 1, true) ~= nil
end

local function domain_matches(host, domain)
    return host == domain
        or not is_address(host) and host:sub(-#domain - 1) == "." .. domain
end

local function path_matches(path, of)
    return path == of
        or path:sub(1, #of) == of and (of:sub(-1) == "/" or path:sub(#of + 1, #of + 1) == "/")
end

local function default_path(path)
    local folder = path:match("^(/.*)/[^/]*$")
    return folder or "/"
end

local Jar = {}
Jar.__index = Jar

function M.jar()
    return setmetatable({ list = {}, made = 0 }, Jar)
end

local function drop(jar, unwanted)
    local kept = {}
    for _, cookie in ipairs(jar.list) do
        if not unwanted(cookie) then
            kept[#kept + 1] = cookie
        end
    end
    jar.list = kept
end

local function drop_old(jar)
    local now = C.moon_lua_now()
    drop(jar, function(cookie) return cookie.ends <= now end)
end

-- The prefixes of names promise what the cookie must keep (RFC 6265bis).
local function keeps_promise(cookie)
    local name = cookie.name:lower()
    if name:sub(1, 7) == "__host-" then
        return cookie.secure and cookie.host_only and cookie.path == "/"
    end
    return name:sub(1, 9) ~= "__secure-" or cookie.secure
end

--- Takes a Set-Cookie field of a response to `path` of `host` (in lower case).
---@param field string
---@param host string
---@param path string without the query
function Jar:set(field, host, path)
    local cookie = M.parse(field)
    if not cookie then
        return
    end
    cookie.host_only = cookie.domain == nil
    if cookie.domain and (not domain_matches(host, cookie.domain)
        or not cookie.domain:find(".", 1, true) and cookie.domain ~= host) then
        return
    end
    cookie.domain = cookie.domain or host
    if not cookie.path or cookie.path:sub(1, 1) ~= "/" then
        cookie.path = default_path(path)
    end
    if not keeps_promise(cookie) then
        return
    end
    if cookie.max_age then
        cookie.ends = cookie.max_age > 0 and C.moon_lua_now() + cookie.max_age or LONG_AGO
    else
        cookie.ends = cookie.expires or FOR_EVER
    end
    self.made = self.made + 1
    cookie.made = self.made
    drop(self, function(old)
        local same = old.name == cookie.name and old.domain == cookie.domain
            and old.path == cookie.path
        cookie.made = same and old.made or cookie.made
        return same
    end)
    table.insert(self.list, cookie)
    drop_old(self)
end

--- Those that a request carries, in the order of the Cookie field.
---@param host string
---@param path string
---@param secure boolean
---@return moonshine.test.Cookie[]
function Jar:matching(host, path, secure)
    drop_old(self)
    local found = {}
    for _, cookie in ipairs(self.list) do
        local at_home = cookie.host_only and host == cookie.domain
            or not cookie.host_only and domain_matches(host, cookie.domain)
        if at_home and path_matches(path, cookie.path) and (secure or not cookie.secure) then
            found[#found + 1] = cookie
        end
    end
    table.sort(found, function(a, b)
        if #a.path ~= #b.path then
            return #a.path > #b.path
        end
        return a.made < b.made
    end)
    return found
end

--- The newest of that name, whatever its path; nil if there is none.
---@param name string
---@return moonshine.test.Cookie?
function Jar:find(name)
    drop_old(self)
    local best
    for _, cookie in ipairs(self.list) do
        if cookie.name == name and (not best or cookie.made > best.made) then
            best = cookie
        end
    end
    return best
end

return M
