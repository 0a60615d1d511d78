--- Methods of the context that read the request's body.
local ffi = require "ffi"
local context = require "moonshine.context"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local wait = require "moonshine.wait"

local C, ffi_string = ffi.C, ffi.string
local Context, dead = context.methods, context.dead
local out, other = ffi.new "moon_bytes", ffi.new "moon_bytes"
local cursor = ffi.new "moon_cursor"

local CHUNK = 65536

-- `for piece in file.read, file do` passes the last piece where a size goes.
local function size_of(max)
    return type(max) == "number" and max or CHUNK
end

local function pread(handle, from, length)
    local buffer = ffi.new("char[?]", length)
    local got = tonumber(C.moon_req_body_pread(handle, from, buffer, length))
    if got < 0 then
        return nil, "the body cannot be read", 500
    end
    return ffi_string(buffer, got)
end

--- The whole body, also if it was spooled to a file.
---@return string
function Context:body()
    local handle = self[1]
    if not handle then
        dead(self)
    end
    local kind = C.moon_req_body(handle, out)
    if kind == 1 then
        return ffi_string(out.ptr, out.len)
    elseif kind == 2 then
        local text, message = pread(handle, 0, tonumber(out.len))
        return text or error(message, 0)
    end
    fault.raise('c:body: the body of this route is streamed (body = "stream"): use c:read()')
end

---@class moonshine.BodyFile
---@field size integer
local BodyFile = {}
BodyFile.__index = BodyFile

--- The next piece, up to `max` bytes; nil at the end.
---@param max? integer Default 65536.
---@return string?
function BodyFile:read(max)
    local handle = self.c[1]
    if not handle then
        dead(self.c)
    end
    local text, message = pread(handle, self.at, math.min(size_of(max), self.size - self.at))
    if not text then
        error(message, 0)
    end
    self.at = self.at + #text
    return text ~= "" and text or nil
end

--- Goes to an offset from the start.
---@param offset integer
function BodyFile:seek(offset)
    self.at = math.max(0, math.min(offset, self.size))
end

--- Copies the whole body to a file, replacing it at once when it is complete.
---@param path string Relative to the application's directory.
---@return boolean? ok
---@return string? message
---@return integer? code
function BodyFile:save(path)
    path = path:sub(1, 1) == "/" and path or context.app_dir .. "/" .. path
    local part = path .. ".part"
    local file, message = io.open(part, "wb")
    if not file then
        return nil, message, 500
    end
    local at, ok = self.at, true
    self.at = 0
    for piece in self.read, self do
        ok, message = file:write(piece)
        if not ok then
            break
        end
    end
    self.at = at
    local closed, close_message = file:close()
    if not ok or not closed then
        os.remove(part)
        return nil, message or close_message, 500
    end
    ok, message = os.rename(part, path)
    if not ok then
        return nil, message, 500
    end
    return true
end

--- The body as a file: size, read([max]), seek(offset), save(path).
---@return moonshine.BodyFile
function Context:body_file()
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if C.moon_req_body(handle, out) == 0 then
        fault.raise('c:body_file: the body of this route is streamed: use c:read()')
    end
    return setmetatable({ c = self, size = tonumber(out.len), at = 0 }, BodyFile)
end

--- The next piece of a streamed body (route option body = "stream"); nil at the
--- end, nil, "closed" when the client left in the middle.
---@param max? integer Default 65536.
---@return string?
---@return string?
function Context:read(max)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if C.moon_req_body(handle, out) ~= 0 then
        -- Buffered: hand it out in pieces all the same.
        local file = self:get(BodyFile) or self:body_file()
        self:set(BodyFile, file)
        return file:read(max)
    end
    while true do
        local code = C.moon_req_read(handle, size_of(max), out)
        if code == 1 then
            return ffi_string(out.ptr, out.len)
        elseif code == 0 then
            return nil
        elseif code == -2 then
            return nil, "closed"
        elseif code == -3 then
            error(failure.new("too_large", 413, "the body is larger than allowed"), 0)
        end
        wait.check("c:read")
        if C.moon_req_wait_readable(handle) ~= 0 then
            return nil, "closed"
        end
        wait.suspend()
    end
end

-- ---- bodies as tables ----

local max_args = native.info().max_args
local FORM = {}

local function pairs_of(c)
    local known = c:get(FORM)
    if known then
        return known
    end
    local mime = (c:header("Content-Type") or ""):lower()
    if not mime:find("^application/x%-www%-form%-urlencoded") then
        error(failure.new("bad_request", 415, "a form is expected"), 0)
    end
    local text = c:body()
    cursor.ptr, cursor.len = text, #text
    local list = {}
    while C.moon_lua_form_next(cursor, out, other) do
        if #list == max_args then
            error(failure.new("bad_request", 400, "too many form fields"), 0)
        end
        list[#list + 1] = { ffi_string(out.ptr, out.len), ffi_string(other.ptr, other.len) }
    end
    c:set(FORM, list)
    return list
end

--- The first value of a field of the form in the body.
---@param name string
---@return string?
function Context:form(name)
    fault.want(name, "string", "c:form: the name")
    for _, pair in ipairs(pairs_of(self)) do
        if pair[1] == name then
            return pair[2]
        end
    end
    return nil
end

--- The first value of each field of the form in the body.
---@return table<string, string>
function Context:forms()
    local map = {}
    for _, pair in ipairs(pairs_of(self)) do
        if map[pair[1]] == nil then
            map[pair[1]] = pair[2]
        end
    end
    return map
end

local function media_type(c)
    return ((c:header("Content-Type") or ""):match("^%s*([^;%s]*)") or ""):lower()
end

local function read_table(c)
    local mime = media_type(c)
    if mime == "application/json" or mime:find("%+json$") then
        return native.json.decode(c:body())
    elseif mime == "application/x-www-form-urlencoded" then
        return c:forms()
    elseif mime == "" and c:body() == "" then
        return nil, "a body is expected", 400
    end
    return nil, "a body of this type cannot be read: send application/json", 415
end

--- The body as a value, by its Content-Type: JSON or a form; or nil, message, code.
---@return any
---@return string?
---@return integer?
function Context:try_bind()
    if not self[1] then
        dead(self)
    end
    return read_table(self)
end

--- The body as a value, by its Content-Type; answers 400 or 415 if that fails.
---@return any
function Context:bind()
    local value, message, code = self:try_bind()
    if value == nil then
        error(failure.new("bad_request", code, message), 0)
    end
    return value
end

return Context
