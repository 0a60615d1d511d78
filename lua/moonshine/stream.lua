--- c:stream: an answer in pieces, as they are or in a format.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C, ffi_string = ffi.C, ffi.string
local out = ffi.new "moon_bytes"
local null = native.json.null

local M = {}

local function json(value)
    local ok, text = pcall(native.json.encode, value)
    if not ok then
        fault.raise("write(): %s", text)
    end
    return text
end

-- ---- formats: from what write() is given to text ----

local function text(value)
    local kind = type(value)
    if kind == "string" then
        return value
    elseif kind == "number" then
        return tostring(value)
    end
    fault.raise("write() takes a string, not %s", kind == "nil" and "nil" or "a " .. kind)
end

-- All digits of a number, which tostring does not give.
local function number_text(value)
    if value % 1 == 0 and value > -2 ^ 53 and value < 2 ^ 53 then
        return ("%d"):format(value)
    elseif value == value and value < math.huge and value > -math.huge then
        return native.json.encode(value)
    end
    return tostring(value)
end

local CSV = 2

local function csv_field(value, index)
    local kind = type(value)
    if kind == "string" then
        local code = C.moon_lua_quote(CSV, value, #value, out)
        if code < 0 then
            error("out of memory", 0)
        end
        return code == 0 and value or ffi_string(out.ptr, out.len)
    elseif kind == "number" then
        return number_text(value)
    elseif kind == "boolean" then
        return tostring(value)
    elseif value == nil or value == null then
        return ""
    end
    fault.raise("write(): field %d of the row is a %s", index, kind)
end

-- A row of RFC 4180.
local function csv(row)
    if type(row) ~= "table" then
        fault.raise("write() takes a list, the fields of a row, not %s",
            row == nil and "nil" or "a " .. type(row))
    end
    local count = type(row.n) == "number" and row.n or #row
    if count == 0 and next(row) ~= nil then
        fault.raise("write() takes a list, the fields of a row in their order; this table has "
            .. "names")
    end
    local fields = {}
    for i = 1, count do
        fields[i] = csv_field(row[i], i)
    end
    if count == 1 and fields[1] == "" then
        fields[1] = '""' -- an empty line would be no row
    end
    return table.concat(fields, ",") .. "\r\n"
end

local function ndjson(value)
    return json(value) .. "\n"
end

local event_fields = fault.set "event data id retry comment"

-- One line that no line break may cut.
local function event_line(parts, name, value)
    if value == nil then
        return
    elseif type(value) == "number" then
        value = number_text(value)
    end
    fault.want(value, "string", "write(): " .. name)
    if value:find("[%z\r\n]") then
        fault.raise("write(): %s must not contain a line break or NUL", name)
    end
    parts[#parts + 1] = name .. ": " .. value .. "\n"
end

local function event_lines(parts, name, value)
    for line in (value:gsub("\r\n?", "\n") .. "\n"):gmatch("([^\n]*)\n") do
        parts[#parts + 1] = name .. ": " .. line .. "\n"
    end
end

-- An event of the HTML standard, section 9.2.
local function event(value)
    local kind = type(value)
    if kind == "string" or kind == "number" then
        value = { data = tostring(value) }
    elseif kind ~= "table" then
        fault.raise("write() takes a string or an event, not %s",
            value == nil and "nil" or "a " .. kind)
    end
    fault.check_keys(value, event_fields, "an event")
    local parts, data = {}, value.data
    if value.comment ~= nil then
        event_lines(parts, "", fault.want(value.comment, "string", "write(): comment"))
    end
    event_line(parts, "event", value.event)
    event_line(parts, "id", value.id)
    if value.retry ~= nil then
        event_line(parts, "retry", units.milliseconds(value.retry, "write(): retry"))
    end
    if data ~= nil then
        event_lines(parts, "data", type(data) == "string" and data or json(data))
    end
    if #parts == 0 then
        fault.raise("write(): an event needs data, or at least one of event, id, retry, comment")
    end
    parts[#parts + 1] = "\n"
    return table.concat(parts)
end

local formats = {
    csv = { mime = "text/csv; charset=utf-8", encode = csv },
    ndjson = { mime = "application/x-ndjson", encode = ndjson },
    events = {
        mime = "text/event-stream", encode = event,
        -- Proxies must neither keep events nor wait for more of them.
        headers = { ["Cache-Control"] = "no-cache", ["X-Accel-Buffering"] = "no" },
    },
}
local default = { mime = "text/plain; charset=utf-8", encode = text }

--- What a stream is made of, from the second argument of c:stream.
function M.format(name)
    if name == nil then
        return default
    end
    fault.want(name, "string", "c:stream: the format")
    if name:find("[%z\1-\31\127]") then
        fault.raise("c:stream: the content type has a byte that is not allowed")
    elseif name:find("/", 1, true) then
        return { mime = name, encode = text }
    end
    return formats[name] or fault.raise("c:stream: the format must be csv, ndjson, events or a "
        .. "content type, not '%s'%s", name, fault.hint(name, formats))
end

-- ---- running ----

local function begin(c, format)
    for name, value in pairs(format.headers or {}) do
        if c:response_header(name) == nil then
            c:set_header(name, value)
        end
    end
    return C.moon_res_stream_begin(c[1], format.mime, #format.mime) == 0
end

--- Sends the head, then what fn(write) writes.
function M.run(c, fn, format)
    local handle, encode = c[1], format.encode
    if not begin(c, format) then
        return
    end
    -- It may be kept and called by others, also once the request is over and
    -- another one has its place.
    local function write(value)
        if not c[1] then
            return nil, "closed"
        end
        local piece = encode(value)
        local code = C.moon_res_stream_write(handle, piece, #piece)
        if code == -7 then
            wait.check("write")
            if C.moon_res_wait_writable(handle) == 0 then
                wait.suspend()
                if not c[1] then
                    return nil, "closed"
                end
            end
        elseif code ~= 0 then
            return nil, "closed"
        end
        local closing = C.moon_req_closing(handle)
        if closing == 0 then
            return true
        end
        return nil, closing == 2 and "stopping" or "closed"
    end
    fn(write)
    C.moon_res_stream_end(handle, true)
end

return M
