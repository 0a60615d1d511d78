local moonshine = require "moonshine"
local support = require "specs.support"
local test = require "moonshine.test"

return {
    ["all clocks move"] = function()
        local clock, now, date = moonshine.clock(), moonshine.now(), moonshine.http_time()
        local seconds = os.time()
        test.advance("1d")
        -- Real time passes, too.
        local function moved(by)
            return by >= 86400 and by < 86460
        end
        assert(moved(moonshine.clock() - clock) and moved(moonshine.now() - now))
        assert(moved(os.time() - seconds + 1))
        assert(os.time { year = 2000, month = 1, day = 1 } < seconds)
        assert(moonshine.http_time() ~= date)
        assert(os.date("!%Y-%m-%d") == os.date("!%Y-%m-%d", os.time()))
        assert(os.date("!%d", 0) == "01")
    end,

    ["what waits is woken in order"] = function()
        local order = {}
        for i = 1, 20 do
            moonshine.spawn(function()
                moonshine.sleep(i / 10000)
                table.insert(order, i)
                moonshine.sleep(30 - i)
                table.insert(order, -i)
            end)
        end
        test.advance(0.0025)
        local wanted = {}
        for i = 1, 20 do
            wanted[i] = i
        end
        support.same(order, wanted)
        test.advance("1m")
        for i = 20, 1, -1 do
            table.insert(wanted, -i)
        end
        support.same(order, wanted)
    end,

    ["a clock in a task shows when it was due"] = function()
        local began, seen = moonshine.clock(), {}
        moonshine.spawn(function()
            for i = 1, 3 do
                moonshine.sleep(10)
                seen[i] = moonshine.clock() - began
            end
        end)
        test.advance(35)
        assert(#seen == 3)
        for i, at in ipairs(seen) do
            assert(at >= 10 * i and at < 10 * i + 2, at)
        end
    end,

    ["a wait that is not over goes on"] = function()
        local woken = false
        local task = moonshine.spawn(function()
            moonshine.sleep("1h")
            woken = true
        end)
        test.advance("59m")
        assert(not woken)
        test.advance("1m")
        assert(woken and task:wait(0))
    end,

    ["timeouts of wait"] = function()
        local task = moonshine.spawn(moonshine.sleep, "1h")
        local waiter = moonshine.spawn(function() return task:wait("1m") end)
        test.advance("1m")
        support.same({ waiter:wait(0) }, { true, nil, "timeout", 504 })
        task:cancel()
    end,

    ["a task that never rests does not hold it up"] = function()
        local stop = false
        moonshine.spawn(function()
            while not stop do
                moonshine.sleep(0)
            end
        end)
        local before = moonshine.clock()
        test.advance("1m")
        stop = true
        assert(moonshine.clock() - before >= 60)
    end,

    ["wrong use"] = function()
        support.raises("must be a duration", test.advance, "soon")
        support.raises("must be a duration", test.advance, -1)
        support.raises("did you mean 'advance'?", function() return test.advanec end)
    end,
}
