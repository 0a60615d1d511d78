--- Methods of the context that read a form: urlencoded or multipart, uploads.
local ffi = require "ffi"
local context = require "moonshine.context"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local jobs = require "moonshine.jobs"
local native = require "moonshine.native"
local shape_text = require "moonshine.shape_text"

local C, ffi_string = ffi.C, ffi.string
local Context, dead = context.methods, context.dead
local out, other = ffi.new "moon_bytes", ffi.new "moon_bytes"
local cursor = ffi.new "moon_cursor"
local part = ffi.new "moon_part_info"
local max_args = native.info().max_args

local URLENCODED, MULTIPART = 2, 3 -- of moon_req_body_type
local FORM = {} -- the key under which a context keeps its form

-- ---- uploads ----

-- An upload is a range of the request's body. `[1]` is the context, `[2]` where
-- the range begins, `[3]` where the next piece does, `[4]` the job that holds
-- its temporary file.
---@class moonshine.Upload
---@field field string Name of the form's field.
---@field filename string The last component of what the client called it; may be empty.
---@field type string Content type as the client says; "" if it did not.
---@field size integer Bytes.
---@field path string A temporary file with its bytes; made when asked for, gone after the request.
local Upload = {}

local function handle_of(upload)
    local handle = upload[1][1]
    return handle or dead(upload[1])
end

--- The whole file, or (with `max`) the next piece of up to that many bytes and nil
--- at the end.
---@param max? integer
---@return string?
function Upload:read(max)
    local handle = handle_of(self)
    if max == nil then
        return context.read_range(handle, self[2], self.size)
    end
    local left = self.size - self[3]
    if left == 0 then
        return nil
    end
    local piece = context.read_range(handle, self[2] + self[3], math.min(max, left))
    self[3] = self[3] + #piece
    return piece
end

--- Copies the file to a path, replacing what is there at once when it is complete.
---@param path string Relative to the application's directory.
---@return boolean? ok
---@return string? message
---@return integer? code
function Upload:save(path)
    fault.want(path, "string", "save: the path")
    return jobs.save(handle_of(self), self[2], self.size, path, "save")
end

local function temporary(upload)
    if not upload[4] then
        local handle, c = handle_of(upload), upload[1]
        local job, message, code = jobs.run(C.moon_job_temp(handle, upload[2], upload.size), "path")
        if not job then
            error(failure.new(code == 503 and "overload" or "error", code, message), 0)
        end
        handle_of(upload) -- it may be over meanwhile
        upload[4] = job
        local more = context.more_of(c)
        more.jobs = more.jobs or {}
        table.insert(more.jobs, job)
    end
    return ffi_string(C.moon_job_path(upload[4]))
end

local known = fault.set "field filename type size path read save"

function shape_text.UPLOAD.__index(upload, key)
    if key == "path" then
        return temporary(upload)
    end
    return Upload[key] or fault.raise("an upload has no '%s'%s", tostring(key),
        fault.hint(key, known))
end

function shape_text.UPLOAD.__newindex(_, key)
    fault.raise("upload.%s cannot be assigned", tostring(key))
end

local function new_upload(c, name)
    return setmetatable({
        c, tonumber(part.from), 0, false, field = name,
        filename = ffi_string(part.filename.ptr, part.filename.len),
        type = ffi_string(part.type.ptr, part.type.len), size = tonumber(part.len),
    }, shape_text.UPLOAD)
end

-- ---- reading ----

-- What `cursor` points into: a pointer alone keeps no string from being collected,
-- nor does a local that compiled code needs no more.
local reading -- luacheck: ignore 231

local function read_urlencoded(c)
    local text, list = c:body(), {}
    ffi.fill(cursor, ffi.sizeof(cursor))
    reading = text
    cursor.ptr, cursor.len = text, #text
    while C.moon_lua_form_next(cursor, out, other) do
        if #list == max_args then
            error(failure.new("too_large", 413, "the form has more than " .. max_args
                .. " fields"), 0)
        end
        list[#list + 1] = { ffi_string(out.ptr, out.len), ffi_string(other.ptr, other.len) }
    end
    reading = nil
    return list
end

local function read_multipart(c)
    local handle = c[1]
    local job, message, code = jobs.run(C.moon_job_form(handle), "c:form")
    if not job then
        local kind = code == 503 and "overload" or code == 413 and "too_large" or "bad_request"
        error(failure.new(kind, code, message), 0)
    end
    if not c[1] then -- it is over meanwhile; this is another task
        dead(c)
    end
    local list = {}
    for i = 0, C.moon_job_parts(job) - 1 do
        C.moon_job_part(job, i, part)
        local name = ffi_string(part.name.ptr, part.name.len)
        local value = part.is_file and new_upload(c, name)
            or context.read_range(handle, tonumber(part.from), tonumber(part.len))
        list[#list + 1] = { name, value }
    end
    jobs.free(job)
    return list
end

--- The fields of the form in the body: a list of { name, text or upload }.
function context.form_pairs(c)
    local list = c:get(FORM)
    if list then
        return list
    end
    local kind = C.moon_req_body_type(c[1])
    if kind == MULTIPART then
        list = read_multipart(c)
    elseif kind == URLENCODED then
        list = read_urlencoded(c)
    else
        error(failure.new("bad_request", 415, "a form is expected"), 0)
    end
    c:set(FORM, list)
    return list
end

--- The first value of each name.
function context.first_of_each(list)
    local map = {}
    for _, pair in ipairs(list) do
        if map[pair[1]] == nil then
            map[pair[1]] = pair[2]
        end
    end
    return map
end

-- ---- methods ----

local function is_upload(value)
    return getmetatable(value) == shape_text.UPLOAD
end

local function first(c, name, upload, what)
    fault.want(name, "string", what .. ": the name")
    for _, pair in ipairs(context.form_pairs(c)) do
        if pair[1] == name and is_upload(pair[2]) == upload then
            return pair[2]
        end
    end
    return nil
end

--- The first value of a text field of the form in the body.
---@param name string
---@return string?
function Context:form(name)
    return first(self, name, false, "c:form")
end

--- The first value of each text field of the form in the body.
---@return table<string, string>
function Context:forms()
    local texts = {}
    for _, pair in ipairs(context.form_pairs(self)) do
        if not is_upload(pair[2]) then
            texts[#texts + 1] = pair
        end
    end
    return context.first_of_each(texts)
end

--- The first file of a field of the form in the body.
---@param name string
---@return moonshine.Upload?
function Context:upload(name)
    return first(self, name, true, "c:upload")
end

--- All files of the form in the body, in order.
---@return moonshine.Upload[]
function Context:uploads()
    local list = {}
    for _, pair in ipairs(context.form_pairs(self)) do
        if is_upload(pair[2]) then
            list[#list + 1] = pair[2]
        end
    end
    return list
end

return Context
