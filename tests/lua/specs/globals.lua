local moonshine = require "moonshine"
local support = require "specs.support"

return {
    ["new globals"] = function()
        support.raises("assignment to the new global 'leak_of_a_spec'", function()
            leak_of_a_spec = 1 -- luacheck: ignore
        end)
        assert(rawget(_G, "leak_of_a_spec") == nil)
    end,

    ["undefined globals"] = function()
        support.raises("the global 'no_such_global' is not defined", function()
            return no_such_global -- luacheck: ignore
        end)
        support.raises("did you mean 'string'", function()
            return strin -- luacheck: ignore
        end)
    end,

    ["what is forbidden"] = function()
        support.raises("os.exit would end the worker", os.exit) -- luacheck: ignore
        support.raises("debug.sethook is taken", debug.sethook)
        support.raises("would let memory run out", collectgarbage, "stop")
        assert(collectgarbage("count") > 0)
    end,

    ["the public table"] = function()
        support.raises("moonshine has no 'slep', did you mean 'sleep'", function()
            return moonshine.slep
        end)
    end,

    ["the public table is closed"] = function()
        support.raises("moonshine.extra cannot be assigned", function()
            moonshine.extra = 1
        end)
    end,

    ["random numbers differ between VMs"] = function()
        assert(math.random() ~= 0.79420629243124) -- the first of LuaJIT's own seed
    end,

    ["load is there and stoppable"] = function()
        assert(assert(loadstring("return ...", "=x"))(5) == 5)
        assert(loadstring("syntax error") == nil)
    end,
}
