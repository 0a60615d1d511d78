--- Options of the stages that run in C on every response.
local fault = require "moonshine.fault"
local units = require "moonshine.units"

local M = {}

-- A text that becomes the value of a header.
local function value_of(value, what)
    if fault.want(value, "string", what):find("[%z\1-\31\127]") then
        fault.raise("%s must not have line breaks or other control characters", what)
    end
    return value
end

local function list_of(value, what)
    if value == nil then
        return nil
    elseif type(value) == "string" then
        return { value_of(value, what) }
    end
    fault.want(value, "table", what)
    for _, item in ipairs(value) do
        value_of(item, "each of " .. what)
    end
    return value
end

local function switchable(options, known, what)
    if options == false then
        return { off = true }
    end
    if options == nil then
        return {}
    elseif type(options) ~= "table" then
        fault.raise("%s takes a table of options, or false, which turns it off; not %s", what,
            fault.show(options))
    end
    fault.check_keys(options, known, what)
    return options
end

local cors_options = fault.set "origins methods headers credentials max_age skip"

--- app:cors
function M.cors(options)
    fault.check_keys(options, cors_options, "cors")
    local origins = list_of(options.origins, "cors: origins")
    if not origins or #origins == 0 then
        fault.raise('cors: origins is required, such as { "https://example.com" } or "*"')
    end
    local cors = { origins = origins, credentials = options.credentials and true or false }
    for _, origin in ipairs(origins) do
        if origin == "*" then
            cors.any_origin = true
        elseif not origin:find("^%a[%w+.-]*://[^/]+$") then
            fault.raise('cors: the origin %q must be like "https://example.com"', origin)
        end
    end
    if cors.any_origin and cors.credentials then
        fault.raise('cors: origins "*" with credentials would let every site act as the user')
    end
    local methods = list_of(options.methods, "cors: methods")
    local headers = list_of(options.headers, "cors: headers")
    cors.methods = methods and table.concat(methods, ", ")
    cors.headers = headers and table.concat(headers, ", ")
    if options.max_age ~= nil then
        cors.max_age = math.floor(units.seconds(options.max_age, "cors: max_age"))
    end
    cors.skip = list_of(options.skip, "cors: skip")
    return cors
end

local security_options = fault.set "csp hsts frame skip"

local function header_of(value, default, on, what)
    if value == nil then
        return default
    elseif value == false then
        return nil
    elseif value == true then
        return on
    end
    return value_of(value, "security_headers: " .. what)
end

--- app:security_headers
function M.security_headers(options)
    options = switchable(options, security_options, "security_headers")
    local hsts = options.hsts
    if type(hsts) == "number" then
        hsts = "max-age=" .. hsts
    end
    return {
        csp = header_of(options.csp, nil, "default-src 'self'", "csp"),
        hsts = header_of(hsts, nil, "max-age=31536000; includeSubDomains", "hsts"),
        frame = header_of(options.frame, "SAMEORIGIN", "SAMEORIGIN", "frame"),
        skip = list_of(options.skip, "security_headers: skip"),
    }
end

local log_options = fault.set "off skip"

--- app:access_log
function M.access_log(options)
    options = switchable(options, log_options, "access_log")
    return { off = options.off, skip = list_of(options.skip, "access_log: skip") }
end

local id_options = fault.set "off header skip"

--- app:request_id
function M.request_id(options)
    options = switchable(options, id_options, "request_id")
    local header = options.header or "X-Request-Id"
    if type(header) ~= "string" or not header:find("^[%w!#$%%&'*+.^_`|~-]+$") then
        fault.raise("request_id: header must be the name of a header, not %s", fault.show(header))
    end
    return {
        off = options.off,
        header = header,
        skip = list_of(options.skip, "request_id: skip"),
    }
end

return M
