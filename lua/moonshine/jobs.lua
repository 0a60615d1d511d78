--- Jobs that the core does aside while the task waits: see vm/file_job.h.
local ffi = require "ffi"
local context = require "moonshine.context"
local wait = require "moonshine.wait"

local C, ffi_string, ffi_gc = ffi.C, ffi.string, ffi.gc
local out = ffi.new "moon_bytes"
local M = {}

--- Runs a job that was just made and waits for it; the job, or nil, message,
--- status. It is freed with what the caller keeps of it, at the latest when it
--- is collected.
function M.run(job, what)
    if job == nil then
        return nil, "out of memory", 503
    end
    job = ffi_gc(job, C.moon_job_free)
    wait.check(what)
    local started = C.moon_job_start(job)
    if started == 1 then
        wait.suspend()
    elseif started < 0 then
        return nil, "too many files at once", 503
    end
    local status = C.moon_job_result(job, out)
    if status ~= 0 then
        return nil, ffi_string(out.ptr, out.len), status
    end
    return job
end

--- Frees it now.
function M.free(job)
    ffi_gc(job, nil)
    C.moon_job_free(job)
end

--- Copies `len` bytes of a request's body from an offset to a file: true, or
--- nil, message, 500 or 503.
function M.save(handle, from, len, path, what)
    path = path:sub(1, 1) == "/" and path or context.app_dir .. "/" .. path
    local job, message, code = M.run(C.moon_job_save(handle, from, len, path, #path), what)
    if not job then
        return nil, message, code
    end
    M.free(job)
    return true
end

return M
