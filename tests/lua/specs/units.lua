local units = require "moonshine.units"
local support = require "specs.support"

return {
    durations = function()
        for text, seconds in pairs {
            ["250ms"] = 0.25, ["30s"] = 30, ["1.5h"] = 5400, ["12h"] = 43200, ["2"] = 2,
            ["1d"] = 86400,
        } do
            assert(units.seconds(text, "x") == seconds, text)
        end
        assert(units.seconds(0.5, "x") == 0.5)
        assert(units.milliseconds("1.5ms", "x") == 2)
    end,

    ["bad durations"] = function()
        for _, bad in ipairs { "1x", "", "ms", "-1s", "1 s", -1, math.huge, 0 / 0, {}, true } do
            support.raises("must be a duration", units.seconds, bad, "it")
        end
    end,

    sizes = function()
        for text, bytes in pairs {
            ["64k"] = 65536, ["10m"] = 10485760, ["1G"] = 1073741824, ["7"] = 7, ["2kb"] = 2048,
        } do
            assert(units.bytes(text, "x") == bytes, text)
        end
        assert(units.bytes(12, "x") == 12)
        for _, bad in ipairs { "huge", "1kk", "", -1, {} } do
            support.raises("must be a size", units.bytes, bad, "it")
        end
    end,
}
