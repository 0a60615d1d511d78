local moonshine = require "moonshine"
local support = require "specs.support"

return {
    ["sleep sleeps"] = function()
        local began = moonshine.clock()
        moonshine.sleep("20ms")
        assert(moonshine.clock() - began >= 0.019)
        moonshine.sleep(0)
    end,

    ["all runs side by side"] = function()
        local order = {}
        local a, none, c = moonshine.all(
            function() moonshine.sleep("20ms") table.insert(order, "a") return 1 end,
            function() table.insert(order, "b") end,
            function() moonshine.sleep("1ms") table.insert(order, "c") return 3 end)
        assert(a == 1 and none == nil and c == 3)
        support.same(order, { "b", "c", "a" })
        assert(select("#", moonshine.all()) == 0)
        support.raises("must be a function", moonshine.all, function() end, 1)
    end,

    ["all within all"] = function()
        local function pair(a, b)
            return function()
                return table.concat({ moonshine.all(a, b) })
            end
        end
        local function leaf(text)
            return function() moonshine.sleep("1ms") return text end
        end
        local x, y = moonshine.all(pair(leaf "a", leaf "b"), pair(leaf "c", leaf "d"))
        assert(x .. y == "abcd")
    end,

    ["the first error ends the others"] = function()
        local finished, thrown = false, {}
        local ok, value = pcall(moonshine.all, function()
            moonshine.sleep("30ms")
            finished = true
        end, function()
            moonshine.sleep("1ms")
            error(thrown)
        end)
        assert(not ok and value == thrown)
        moonshine.sleep("50ms")
        assert(not finished)
    end,

    ["the parts of a task that ends, end"] = function()
        local finished = false
        local task = moonshine.spawn(moonshine.all, function()
            moonshine.sleep("30ms")
            finished = true
        end)
        moonshine.sleep("5ms")
        task:cancel()
        moonshine.sleep("50ms")
        assert(task.done and not finished)
    end,

    ["spawn and wait"] = function()
        local task = moonshine.spawn(function(...)
            moonshine.sleep("1ms")
            return select("#", ...), ...
        end, 1, nil)
        support.same({ task:wait() }, { true, 2, 1, nil })
        support.same({ task:wait(0) }, { true, 2, 1, nil })
        local slow = moonshine.spawn(moonshine.sleep, 60)
        support.same({ slow:wait("5ms") }, { nil, "timeout", 504 })
        slow:cancel()
        local ok, message, code = slow:wait("5s")
        assert(ok == nil and message:find("cancel") and code == 500, message)
    end,

    ["a sleep is not cut short by what was waited for before"] = function()
        local task = moonshine.spawn(function() moonshine.sleep("10ms") end)
        assert(task:wait("1ms") == nil)
        local began = moonshine.clock()
        moonshine.sleep("30ms")
        assert(moonshine.clock() - began >= 0.029 and task.done)
    end,

    ["several wait for one"] = function()
        local task = moonshine.spawn(function() moonshine.sleep("5ms") return 7 end)
        local function waiter()
            local _, value = task:wait("5s")
            return value
        end
        support.same({ moonshine.all(waiter, waiter, waiter) }, { 7, 7, 7 })
    end,

    ["tasks that never began leave nothing behind"] = function()
        -- More than max_tasks in sum: a leak would end in "too many tasks".
        for _ = 1, 600 do
            local ok, message = pcall(moonshine.all, function() error("first", 0) end,
                function() moonshine.sleep(60) end, function() moonshine.sleep(60) end)
            assert(not ok and message == "first", message)
            moonshine.spawn(moonshine.sleep, 60):cancel()
        end
    end,

    ["many tasks"] = function()
        local functions, sum = {}, 0
        for i = 1, 200 do
            functions[i] = function() moonshine.sleep("1ms") return i end
        end
        for _, value in ipairs { moonshine.all(unpack(functions)) } do
            sum = sum + value
        end
        assert(sum == 20100)
    end,
}
