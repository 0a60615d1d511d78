--- Spec files: describe, it and their hooks collected, then run one after
--- another, each in a task of its own.
---
--- C hears of each step (core/vm/vm_test.h) and keeps the account: a test that
--- takes the whole process down is one that began and did not end.
local ffi = require "ffi"
local assertion = require "moonshine.test.assertion"
local explain = require "moonshine.test.explain"
local fault = require "moonshine.fault"
local loader = require "moonshine.loader"
local native = require "moonshine.native"
local show = require "moonshine.test.show"
local tasks = require "moonshine.tasks"
local wait = require "moonshine.wait"

local C = ffi.C
local M = {}

-- As in core/vm/vm_test.h.
local PLAN, BEGIN, STEP, END, DONE = 1, 2, 3, 4, 5
local PASSED, FAILED, ERROR, PENDING = 0, 1, 2, 3

local root   -- the file's block
local block  -- the one whose describe runs now; nil once all is collected
local result -- of the test that runs now

local function report(event, number, text)
    C.moon_test_report(event, number, text, #text)
end

-- ---- collecting ----

local function new_block(name, parent)
    return {
        name = name, parent = parent, items = {},
        before_each = {}, after_each = {}, setup = {}, teardown = {},
    }
end

local function full_name(owner, name)
    while owner and owner.name do
        name = owner.name .. " " .. name
        owner = owner.parent
    end
    return name
end

local function need_block(what)
    if not block then
        fault.raise("%s belongs into a describe or the file, not into a test or a hook", what)
    end
end

local function add_test(name, fn)
    table.insert(block.items, {
        name = full_name(block, name), fn = fn, place = fault.where(3) or "?",
    })
end

-- A group whose function fails is an error of its own; what it had collected
-- runs.
local function collect(inner, fn)
    local before = block
    block = inner
    local ok, failure = xpcall(fn, function(value)
        return explain.failure("error", value, debug.traceback("", 2))
    end)
    block = before
    if not ok then
        inner.failure = failure
    end
end

local globals = {}

--- Groups tests; groups nest.
---@param name string
---@param fn fun()
function globals.describe(name, fn)
    need_block("describe")
    fault.want(name, "string", "describe: the name")
    fault.want(fn, "function", "describe: the second argument")
    local inner = new_block(name, block)
    inner.place = fault.where(2) or "?"
    table.insert(block.items, inner)
    collect(inner, fn)
end

--- A test. Without a function it is pending.
---@param name string
---@param fn? fun()
function globals.it(name, fn)
    need_block("it")
    fault.want(name, "string", "it: the name")
    if fn ~= nil then
        fault.want(fn, "function", "it: the second argument")
    end
    add_test(name, fn)
end

local Pending = {}

--- A test that is not written yet; inside a test: ends it as pending.
---@param name? string
---@param fn? fun() not run
function globals.pending(name, fn) -- luacheck: ignore fn
    if result then
        error(setmetatable({ name ~= nil and tostring(name) or "" }, Pending), 0)
    end
    need_block("pending")
    fault.want(name, "string", "pending: the name")
    add_test(name, nil)
end

for _, kind in ipairs { "before_each", "after_each", "setup", "teardown" } do
    globals[kind] = function(fn)
        need_block(kind)
        fault.want(fn, "function", kind .. ": the argument")
        table.insert(block[kind], { fn = fn, what = kind .. " at " .. (fault.where(2) or "?") })
    end
end

-- ---- running one function ----

-- Runs fn in a task of its own, with its time. What ended it, or nil.
local function call(fn)
    local me, over, failure = C.moon_task_current(), false, nil
    local number = tasks.start({
        fn = fn,
        args = { n = 0 },
        finished = function()
            over = true
            C.moon_task_unpark(me)
        end,
        died = function(_, kind, value, traceback)
            over, failure = true, explain.failure(kind, value, traceback)
            C.moon_task_unpark(me)
        end,
    }, false)
    if not number then
        return explain.failure("error", "too many tasks run (max_tasks)")
    end
    C.moon_test_limit(number)
    while not over do
        wait.park(nil, "test")
    end
    C.moon_test_limit(0)
    return failure
end

-- Everything that a test runs, in order: what failed first decides.
local function attempt(fn, where)
    local failure = call(fn)
    if not failure or result.text then
        return failure == nil
    elseif getmetatable(failure.value) == Pending then
        result.outcome, result.reason = PENDING, failure.value[1]
        result.text = explain.plain("pending", result.place, result.reason)
    else
        result.outcome = explain.is_assertion(failure) and FAILED or ERROR
        result.text = explain.text(failure, where, result.place)
    end
    return false
end

-- ---- running the file ----

-- From the outermost block to this one.
local function path_to(owner)
    local list = {}
    while owner do
        table.insert(list, 1, owner)
        owner = owner.parent
    end
    return list
end

local function step(what)
    report(STEP, 0, what)
end

-- False and the hook that failed, or true.
local function run_hooks(list)
    for _, hook in ipairs(list) do
        step(hook.what)
        if not attempt(hook.fn, hook.what) then
            return false, hook.what
        end
    end
    return true
end

-- `planned`: 1 for a test of the plan, 0 for what comes on top.
local function begin(name, place, planned)
    C.moon_test_log_clear()
    assertion.last = nil
    result = { outcome = PASSED, place = place }
    report(BEGIN, planned, show.clean(name) .. "\0" .. place)
end

local function finish()
    report(END, result.outcome, result.text or "")
    result = nil
end

-- Runs what was not set up yet. False if something was not, now or earlier.
local function set_up(path)
    for _, outer in ipairs(path) do
        if outer.broken then
            result.outcome = outer.skipped and PENDING or ERROR
            result.text = explain.plain("setup", result.place, outer.skipped
                or "not run, because " .. outer.broken .. " failed")
            return false
        elseif not outer.is_set_up then
            outer.is_set_up = true
            local good, what = run_hooks(outer.setup)
            if not good then
                outer.broken, outer.skipped = what, result.reason
                return false
            end
        end
    end
    return true
end

local function run_parts(test, owner)
    local path = path_to(owner)
    if not set_up(path) then
        return
    end
    local good = true
    for _, outer in ipairs(path) do
        good = good and run_hooks(outer.before_each)
    end
    if good then
        step("")
        attempt(test.fn)
    end
    for i = #path, 1, -1 do
        run_hooks(path[i].after_each)
    end
end

local function run_test(test, owner)
    begin(test.name, test.place, 1)
    if test.fn then
        run_parts(test, owner)
    else
        result.outcome = PENDING
        result.text = explain.plain("pending", test.place, "")
    end
    finish()
end

-- A failure that is no test's: of the file, of a describe, of a teardown.
local function report_outside(name, place, failure)
    begin(name, place, 0)
    result.outcome, result.text = ERROR, explain.text(failure, nil, place)
    finish()
end

local function tear_down(owner)
    for _, hook in ipairs(owner.is_set_up and owner.teardown or {}) do
        step(hook.what)
        local failure = call(hook.fn)
        if failure then
            report_outside(full_name(owner, "teardown"), owner.place, failure)
        end
    end
end

local function run_block(owner)
    if owner.failure then
        report_outside(full_name(owner.parent, owner.name or ""), owner.place, owner.failure)
    end
    for _, item in ipairs(owner.items) do
        if item.items then
            run_block(item)
        elseif item.selected then
            run_test(item, owner)
        end
    end
    tear_down(owner)
end

local function select_tests(owner, filter)
    local count = 0
    for _, item in ipairs(owner.items) do
        if item.items then
            count = count + select_tests(item, filter)
        elseif not filter or item.name:find(filter, 1, true) then
            item.selected = true
            count = count + 1
        end
    end
    return count
end

local function load_file(file)
    local text = native.read_file(file)
    if not text then
        error(file .. ": no such file", 0)
    end
    block = root
    loader.load_file(file, text)()
end

local function install(app)
    for name, fn in pairs(globals) do
        rawset(_G, name, fn)
    end
    rawset(_G, "assert", assertion.assert)
    -- What a test prints is for whoever runs it, not for the log.
    rawset(_G, "print", function(...)
        local parts = {}
        for i = 1, select("#", ...) do
            parts[i] = tostring((select(i, ...)))
        end
        io.stdout:write(table.concat(parts, "\t"), "\n")
    end)
    package.loaded["app"] = app
end

--- Runs the spec file that native.info().test names.
---@param app moonshine.App
function M.run(app)
    local plan = native.info().test
    root = new_block(nil, nil)
    root.place = plan.file
    explain.file, explain.limit = plan.file, plan.limit
    install(app)
    step(plan.file)
    local failure = call(function() load_file(plan.file) end)
    block = nil
    report(PLAN, select_tests(root, plan.filter), "")
    if failure then
        report_outside("", plan.file, failure)
    end
    run_block(root)
    report(DONE, 0, "")
end

--- The runner itself failed.
function M.failed(text)
    report(BEGIN, 0, "\0")
    report(END, ERROR, explain.plain("error", "", text))
    report(DONE, 0, "")
end

return M
