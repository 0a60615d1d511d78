--- Methods of the context that read the request's body.
local ffi = require "ffi"
local context = require "moonshine.context"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local jobs = require "moonshine.jobs"
local wait = require "moonshine.wait"

local C, ffi_string = ffi.C, ffi.string
local Context, dead = context.methods, context.dead
local out = ffi.new "moon_bytes"

local CHUNK = 65536

-- `for piece in file.read, file do` passes the last piece where a size goes.
local function size_of(max)
    return type(max) == "number" and max or CHUNK
end

local function pread(handle, from, length)
    local buffer = ffi.new("char[?]", length)
    local got = tonumber(C.moon_req_body_pread(handle, from, buffer, length))
    if got < 0 then
        error("the body cannot be read", 0)
    end
    return (ffi_string(buffer, got))
end

--- Bytes of the body from an offset.
context.read_range = pread

--- The whole body, also if it was spooled to a file.
---@return string
function Context:body()
    local handle = self[1]
    if not handle then
        dead(self)
    end
    local kind = C.moon_req_body(handle, out)
    if kind == 1 then
        return (ffi_string(out.ptr, out.len))
    elseif kind == 2 then
        return pread(handle, 0, tonumber(out.len))
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
    local text = pread(handle, self.at, math.min(size_of(max), self.size - self.at))
    self.at = self.at + #text
    return text ~= "" and text or nil
end

--- Goes to an offset from the start; one behind the end is the end.
---@param offset integer Bytes.
function BodyFile:seek(offset)
    fault.want(offset, "number", "seek: the offset")
    self.at = math.max(0, math.min(offset, self.size))
end

--- Copies the whole body to a file, replacing what is there at once when it is
--- complete.
---@param path string Relative to the application's directory.
---@return boolean? ok
---@return string? message
---@return integer? code
function BodyFile:save(path)
    local handle = self.c[1]
    if not handle then
        dead(self.c)
    end
    fault.want(path, "string", "save: the path")
    return jobs.save(handle, 0, self.size, path, "save")
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
            return (ffi_string(out.ptr, out.len))
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
        if not self[1] then -- it is over meanwhile; this is another task
            dead(self)
        end
    end
end

return Context
