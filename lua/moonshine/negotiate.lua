--- Methods of the context about what the client would like and what it has.
local ffi = require "ffi"
local context = require "moonshine.context"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"

local C = ffi.C
local Context, dead = context.methods, context.dead

-- ---- Accept ----

local MAX_OFFERS = 16
local offers = ffi.new("moon_bytes[?]", MAX_OFFERS)

local short_names = {
    html = "text/html", json = "application/json", text = "text/plain", xml = "application/xml",
    csv = "text/csv",
}

local function type_of(offer)
    fault.want(offer, "string", "c:accepts: a type")
    local mime = short_names[offer] or offer
    if not mime:find("^[^%s/*;,]+/[^%s/*;,]+$") then
        fault.raise("c:accepts: '%s' is neither a type such as text/html nor one of html, json, "
            .. "text, xml, csv%s", offer, fault.hint(offer, short_names))
    end
    return mime
end

--- The one of these types that the client likes best, as given; nil if it takes none
--- of them. Without an Accept header the first. Adds `Vary: Accept`.
---@param ... string "html", "json", "text", "xml", "csv", or a type such as "image/png"
---@return string?
function Context:accepts(...)
    local handle, count = self[1], select("#", ...)
    if not handle then
        dead(self)
    end
    if count == 0 or count > MAX_OFFERS then
        fault.raise("c:accepts takes 1 to %d types, not %d", MAX_OFFERS, count)
    end
    for i = 1, count do
        local mime = type_of((select(i, ...)))
        offers[i - 1].ptr, offers[i - 1].len = mime, #mime
    end
    local best = C.moon_res_accepts(handle, offers, count)
    if best < 0 then
        context.refuse(best, "Vary", "c:accepts")
    elseif best == 0 then
        return nil
    end
    return (select(best, ...))
end

-- ---- entity tags ----

local etag_options = fault.set "weak"

local function tag_text(value)
    local kind = type(value)
    if kind == "string" then
        return value
    elseif kind == "number" and value == value then
        -- Enough digits that two numbers never look alike.
        return (value % 1 == 0 and "%.0f" or "%.17g"):format(value)
    elseif value == false then
        return nil
    end
    fault.raise("c:etag: the value must be a string or a number (or false: there is nothing "
        .. "yet), not %s", kind == "number" and "nan" or kind == "nil" and "nil" or "a " .. kind)
end

--- Says which version of the resource this is: a text or number that changes when
--- it does; false if there is none. GET and HEAD: sets ETag; true if the client has
--- this version, and then 304 is answered whatever the handler returns. Other
--- methods: nothing is set. A precondition that fails (If-Match, or If-None-Match of
--- a change) is answered 412.
---@param value string|number|false
---@param options? {weak?: boolean} weak: equal in meaning, not byte for byte
---@return boolean fresh
function Context:etag(value, options)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    local text, weak = tag_text(value), false
    if options ~= nil then
        fault.want(options, "table", "c:etag: the options")
        fault.check_keys(options, etag_options, "c:etag")
        weak = options.weak and true or false
    end
    local result = C.moon_res_etag(handle, text, text and #text or 0, weak)
    if result == 412 then
        error(failure.new("fail", 412, "the resource is not in the state you expect"), 0)
    elseif result < 0 then
        context.refuse(result, "ETag", "c:etag")
    end
    local more = context.more_of(self)
    if result == 304 then
        more.fresh = true
        C.moon_res_set_status(handle, 304)
    elseif more.fresh then -- of another version that was named before
        more.fresh = nil
        C.moon_res_set_status(handle, 0)
    end
    return result == 304
end

return Context
