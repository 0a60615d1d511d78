local moonshine = require "moonshine"
local support = require "specs.support"

local function nap()
    moonshine.sleep("1ms")
end

return {
    ["values pass both ways across a wait"] = function()
        local co = coroutine.create(function(a, b)
            nap()
            local c = coroutine.yield(a + b)
            nap()
            local d, e = coroutine.yield(c, nil, 3)
            return d, e, nil
        end)
        support.same({ coroutine.resume(co, 1, 2) }, { true, 3 })
        assert(coroutine.status(co) == "suspended")
        local ok, x, y, z = coroutine.resume(co, "c")
        assert(ok and x == "c" and y == nil and z == 3)
        assert(select("#", coroutine.resume(co, "d", "e")) == 4)
        assert(coroutine.status(co) == "dead")
        local again, message = coroutine.resume(co)
        assert(not again and message:find("dead"))
    end,

    ["nested wraps"] = function()
        local outer = coroutine.wrap(function()
            local inner = coroutine.wrap(function()
                for i = 1, 3 do
                    nap()
                    coroutine.yield(i)
                end
            end)
            for _ = 1, 3 do
                local value = inner()
                nap()
                coroutine.yield(value * 10)
            end
            return "end"
        end)
        support.same({ outer(), outer(), outer(), outer() }, { 10, 20, 30, "end" })
    end,

    ["errors keep their value"] = function()
        local thrown = { "thrown" }
        local co = coroutine.create(function()
            nap()
            error(thrown)
        end)
        local ok, value = coroutine.resume(co)
        assert(not ok and value == thrown)
        local wrapped = coroutine.wrap(function()
            nap()
            error(thrown)
        end)
        ok, value = pcall(wrapped)
        assert(not ok and value == thrown)
    end,

    ["a waiting coroutine cannot be resumed by others"] = function()
        local co
        co = coroutine.create(function() moonshine.sleep("20ms") return "done" end)
        local first, seen, status
        moonshine.all(function()
            first = { coroutine.resume(co) }
        end, function()
            nap()
            status = coroutine.status(co)
            seen = { coroutine.resume(co) }
        end)
        support.same(first, { true, "done" })
        assert(seen[1] == false and seen[2]:find("waits in a Moonshine call"))
        assert(status == "normal")
    end,

    ["pcall inside and outside"] = function()
        local ok, message = pcall(function()
            local inside = { pcall(function()
                nap()
                error("inner", 0)
            end) }
            support.same(inside, { false, "inner" })
            nap()
            error("outer", 0)
        end)
        assert(not ok and message == "outer")
    end,

    ["yield outside a coroutine"] = function()
        support.raises("attempt to yield from outside a coroutine", coroutine.yield)
    end,

    ["iterators may wait"] = function()
        local list = {}
        for value in coroutine.wrap(function()
            for i = 1, 3 do
                nap()
                coroutine.yield(i)
            end
        end) do
            list[#list + 1] = value
        end
        support.same(list, { 1, 2, 3 })
    end,

    ["callbacks of C cannot wait, and nothing is left waiting"] = function()
        support.raises("cannot wait here", string.gsub, "abc", "b", nap)
        support.raises("cannot wait here", table.sort, { 2, 1 }, function(a, b)
            nap()
            return a < b
        end)
        local wrapped = function()
            return coroutine.wrap(function() nap() return "x" end)()
        end
        support.raises("cannot wait here", string.gsub, "abc", "b", wrapped)
        nap()
    end,

    ["coroutines within each other have an end"] = function()
        local deepest = 0
        local function dig(n)
            deepest = n
            return coroutine.wrap(dig)(n + 1)
        end
        local ok, message = pcall(dig, 0)
        assert(not ok and message:find("C stack overflow", 1, true), message)
        assert(deepest >= 200)
        -- Those are gone: there is room again.
        assert(coroutine.wrap(function() return "again" end)() == "again")
    end,

    ["callbacks of C functions within each other have an end"] = function()
        local function replace()
            return (("x"):gsub("x", replace))
        end
        local ok, message = pcall(replace)
        assert(not ok and message:find("C stack overflow", 1, true), message)
        local function dig(n)
            return coroutine.wrap(function()
                return (("x"):gsub("x", function() return dig(n + 1) end))
            end)()
        end
        ok, message = pcall(dig, 0)
        assert(not ok and message:find("C stack overflow", 1, true), message)
        local function sort()
            table.sort({ 1, 2, 3 }, sort)
        end
        assert(not pcall(sort))
        assert(("a-b"):gsub("%-", "+") == "a+b")
    end,
}
