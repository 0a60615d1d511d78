--- What C enters: loading the app, and main, which tasks run. A request is not
--- among them: C calls its chain, which main would only stand in the way of.
local ffi = require "ffi"
local app_module = require "moonshine.app"
local chain = require "moonshine.chain"
local context = require "moonshine.context"
local coro = require "moonshine.coro"
local fail = require "moonshine.fail"
local fault = require "moonshine.fault"
local freeze = require "moonshine.freeze"
local guard = require "moonshine.guard"
local loader = require "moonshine.loader"
local native = require "moonshine.native"
local respond = require "moonshine.respond"
local tasks = require "moonshine.tasks"
require "moonshine.request"
require "moonshine.response"
require "moonshine.body"
require "moonshine.bind"
require "moonshine.session"
require "moonshine.negotiate"
require "moonshine"

local C = ffi.C
local SERVE, CALL, FAIL, SERVE_LATE = 1, 2, 3, 5 -- BOOT is 4
local START, CHECK, STOP, ACTIVATE, SPEC = 1, 2, 3, 4, 5

local chains = freeze.chains

local M = { contexts = chain.contexts }
local app      -- what app.lua returned
local starting -- the task that runs on_start, until it is over
local testing  -- the task that runs a spec file

-- A LuaJIT with room for the traces of many routes.
jit.opt.start("maxtrace=4000", "maxrecord=8000", "maxmcode=8192", "maxirconst=1000")

function fault.route_place()
    local c = chain.contexts[C.moon_req_current()]
    return c and c[8] and c[8].source
end

-- --dev: describes a failure to load or to start, for the page about it.
local function report(message, trace)
    if fail.dev and native.info().report then
        pcall(fail.dev.report, message, trace)
    end
end

local function run_starts(with_checks)
    starting = C.moon_task_current()
    -- Named for tracebacks.
    for _, on_start in ipairs(app.starts) do
        on_start()
    end
    if with_checks and #app.checks > 0 then
        -- The kit is loaded only where checks run.
        require("moonshine.test.request").app = app
        local kit = require "moonshine.test"
        for _, check in ipairs(app.checks) do
            check(kit)
        end
    end
    starting = nil
    C.moon_vm_started(true, "", 0)
end

-- For tests, and to tell whether a fault is the compiler's.
if os.getenv("MOONSHINE_JIT") == "off" then
    jit.off()
end

local traces = os.getenv("MOONSHINE_TRACES")
if traces and traces ~= "" then
    require("moonshine.traces").start(traces)
end

local function run_boot(what)
    if what == START or what == CHECK then
        run_starts(what == CHECK)
    elseif what == STOP then
        for _, on_stop in ipairs(app.stops) do
            on_stop()
        end
    elseif what == ACTIVATE then
        tasks.activate()
    elseif what == SPEC then
        testing = C.moon_task_current()
        require("moonshine.test.request").app = app
        require("moonshine.test.spec").run(app)
        testing = nil
    end
end

local function run_fail(slot, number, kind, value, traceback)
    tasks.clean_up(number)
    if tasks.failed(number, kind, value, traceback) then
        return
    end
    if slot ~= 0 then
        fail.request(slot, kind, value, traceback)
        return
    end
    local trace = fault.trim(traceback or "")
    local message = fail.message_of(value, trace)
    local text = message .. (trace ~= "" and "\n" .. trace or "")
    if starting == number then
        starting = nil
        report(message, trace)
        C.moon_vm_started(false, text, #text)
    elseif testing == number then
        require("moonshine.test.spec").failed(text)
    else
        require("moonshine.log").error("on_stop failed: " .. text)
    end
end

local function serve_late(slot, chain_number, seconds)
    tasks.sleep(seconds)
    return chains[chain_number](slot)
end

-- Runs one task; its coroutine is used again. It calls nothing but at its end: a
-- trace that began above cannot return into it, since it is not compiled, so
-- that what it runs are the roots of traces.
function M.main(kind, a, b, c, d, e)
    if kind == CALL then
        return tasks.run(a)
    elseif kind == FAIL then
        return run_fail(a, b, c, d, e)
    elseif kind == SERVE_LATE then
        return serve_late(a, b, c)
    elseif kind == SERVE then
        return chains[b](a)
    end
    return run_boot(a)
end

-- With --dev, what is on the stack when an error is raised is kept for the page
-- about it; then the error goes on and ends the coroutine as it would have.
local function guarded(ok, value)
    if not ok then
        error(value, 0)
    end
end

if native.info().dev then
    local plain = M.main

    function M.main(kind, a, b, c, d, e)
        if kind == FAIL then
            return plain(kind, a, b, c, d, e)
        end
        return guarded(xpcall(plain, native.capture, kind, a, b, c))
    end
    jit.off(plain)
end

jit.off(M.main)

--- What is wrong with a load: the message, and where the application was.
function M.explain(value)
    local trace = fault.trim(debug.traceback("", 2))
    local text = fail.message_of(value, trace)
    if fail.dev then
        native.capture(value)
        report(text, trace)
    end
    return trace == "" and text or text .. "\n" .. trace
end

local function what_is(value)
    if value == nil then
        return "nothing"
    elseif rawequal(value, package.loaded.moonshine) then
        return "the module moonshine"
    end
    return "a " .. type(value)
end

--- Loads app.lua and what it requires; raises with file and line.
function M.load(file)
    local info = native.info()
    context.app_dir = info.app_dir
    respond.dev, fail.dev = info.dev, info.dev and require "moonshine.dev" or nil
    coro.install()
    loader.install(info.app_dir)
    guard.install()
    if info.probe then
        require("moonshine.test.clock").install()
    end

    local text = native.read_file(file)
    if not text then
        error(file .. ": no such file", 0)
    end
    if #native.list_files("views/") > 0 then
        require("moonshine.views").load()
    end
    app = loader.load_file(file, text)()
    if not app_module.is(app) then
        -- At its last line, which is where the mistake is.
        local _, lines = text:gsub("\n", "\n")
        error(("%s:%d: %s must end with `return app`, where app = moonshine.app(); it returned %s")
            :format(file, text:sub(-1) == "\n" and lines or lines + 1, file, what_is(app)), 0)
    end
    freeze.freeze(app)
    guard.close()
end

return M
