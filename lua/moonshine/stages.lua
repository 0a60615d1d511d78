--- Options of the stages that run in C on every response.
local fault = require "moonshine.fault"
local units = require "moonshine.units"

local M = {}

local function list_of(value, what)
    if value == nil then
        return nil
    elseif type(value) == "string" then
        return { value }
    end
    fault.want(value, "table", what)
    for _, item in ipairs(value) do
        fault.want(item, "string", "each of " .. what)
    end
    return value
end

local function switchable(options, known, what)
    if options == false then
        return { off = true }
    end
    options = options == nil and {} or fault.want(options, "table", what)
    fault.check_keys(options, known, what)
    return options
end

local cors_options = fault.set "origins methods headers credentials max_age skip"

--- app:cors
function M.cors(options)
    fault.want(options, "table", "cors")
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

local function header_of(value, default, on)
    if value == nil then
        return default
    elseif value == false then
        return nil
    elseif value == true then
        return on
    end
    return fault.want(value, "string", "a security header")
end

--- app:security_headers
function M.security_headers(options)
    options = switchable(options, security_options, "security_headers")
    local hsts = options.hsts
    if type(hsts) == "number" then
        hsts = "max-age=" .. hsts
    end
    return {
        csp = header_of(options.csp, nil, "default-src 'self'"),
        hsts = header_of(hsts, nil, "max-age=31536000; includeSubDomains"),
        frame = header_of(options.frame, "SAMEORIGIN", "SAMEORIGIN"),
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
    return {
        off = options.off,
        header = options.header or "X-Request-Id",
        skip = list_of(options.skip, "request_id: skip"),
    }
end

return M
