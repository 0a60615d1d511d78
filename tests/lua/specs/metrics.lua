local moonshine = require "moonshine"
local support = require "specs.support"
local metrics = moonshine.metrics

local raises = support.raises

return {
    ["names"] = function()
        for _, name in ipairs { "", "1a", "a-b", "a b", "a:b", "ä", "a\n", ("a"):rep(128) } do
            raises("must be of letters, digits and _", metrics.counter, name, "help")
        end
        raises("must be a string", metrics.counter, nil, "help")
        raises("belong to the server", metrics.gauge, "moonshine_x", "help")
        metrics.counter("spec_" .. ("a"):rep(122), "help")
        metrics.counter("_Spec9", "help")
    end,

    ["help"] = function()
        for _, help in ipairs { "", 1, {} } do
            raises("needs a help text", metrics.counter, "spec_help", help)
        end
        raises("needs a help text", metrics.counter, "spec_help")
        raises("more than 255 bytes", metrics.counter, "spec_help", ("x"):rep(256))
        raises("control characters", metrics.counter, "spec_help", "a\0b")
    end,

    ["labels"] = function()
        for _, label in ipairs { "", "1a", "a-b", "__a", "a:b", 1 } do
            raises("must be of letters, digits and _", metrics.counter, "spec_labels", "help",
                { label })
        end
        raises("must be a table", metrics.counter, "spec_labels", "help", "method")
        raises("has the label 'a' twice", metrics.counter, "spec_labels", "help", { "a", "a" })
        raises("is its bounds", metrics.histogram, "spec_labels", "help", { "le" })
        local many = {}
        for i = 1, 11 do
            many[i] = "l" .. i
        end
        raises("more than 10 labels", metrics.counter, "spec_labels", "help", many)
        metrics.counter("spec_labels", "help", { "le", "a_9", unpack(many, 1, 8) })
    end,

    ["buckets"] = function()
        for _, buckets in ipairs { { 1, 1 }, { 2, 1 }, { 0 / 0 }, { "1" }, { -math.huge } } do
            raises("must be rising numbers", metrics.histogram, "spec_buckets", "help", nil,
                buckets)
        end
        raises("from 1 to 30 buckets", metrics.histogram, "spec_buckets", "help", nil, {})
        raises("from 1 to 30 buckets", metrics.histogram, "spec_buckets", "help", nil,
            { math.huge })
        local many = {}
        for i = 1, 31 do
            many[i] = i
        end
        raises("from 1 to 30 buckets", metrics.histogram, "spec_buckets", "help", nil, many)
        metrics.histogram("spec_buckets", "help", nil, { unpack(many, 1, 30) })
        metrics.histogram("spec_endless", "help", nil, { -1, 0.5, math.huge })
    end,

    ["the same again is the same"] = function()
        local labels = { "a", "b" }
        local counter = metrics.counter("spec_same", "help", labels)
        assert(metrics.counter("spec_same", "other help", labels) == counter)
        local histogram = metrics.histogram("spec_same_seconds", "help", nil, { 1, 2 })
        assert(metrics.histogram("spec_same_seconds", "help", {}, { 1, 2, math.huge }) == histogram)
    end,

    ["another of the name is refused, with both places"] = function()
        metrics.counter("spec_other", "help", { "a" })
        local line = debug.getinfo(1, "l").currentline - 1
        local place = ("at specs/metrics.lua:%d as a counter of a"):format(line)
        raises(place, metrics.gauge, "spec_other", "help", { "a" })
        raises(place, metrics.counter, "spec_other", "help")
        raises("declared here as a counter of a, b, and " .. place, metrics.counter, "spec_other",
            "help", { "a", "b" })
        metrics.histogram("spec_hist", "help", nil, { 1 })
        raises("with the buckets 1", metrics.histogram, "spec_hist", "help", nil, { 1, 2 })
        raises("prints lines of the name spec_hist_count, as spec_hist does (declared at specs/",
            metrics.counter, "spec_hist_count", "help")
        metrics.counter("spec_late_sum", "help")
        raises("prints lines of the name spec_late_sum", metrics.histogram, "spec_late", "help")
    end,

    ["how much, and the label values"] = function()
        local none = metrics.counter("spec_none", "help")
        none:inc()
        none:inc(0.5)
        none:add(2)
        raises("takes how much (1 if left out) and no label, not 2 arguments", none.inc, none, 1, 2)
        raises("spec_none:add takes how much and no label, not 0 arguments", none.add, none)
        local two = metrics.counter("spec_two", "help", { "method", "status" })
        two:inc("GET", 200)
        two:inc(3, "GET", "200")
        two:add(0, "GET", true)
        raises("and the labels method, status, not 1 argument", two.inc, two, "GET")
        raises("and the labels method, status, not 4 arguments", two.inc, two, 1, 2, 3, 4)
        raises("the label 'status' of spec_two must be a string or a number, not nil", two.inc, two,
            1, "GET", nil)
        raises("the label 'method' of spec_two must be a string or a number, not nan", two.inc, two,
            0 / 0, "x")
        raises("not table", two.inc, two, {}, "x")
    end,

    ["numbers that are refused"] = function()
        local counter = metrics.counter("spec_numbers", "help")
        for _, n in ipairs { -1, 0 / 0, math.huge, "1", {} } do
            raises("spec_numbers:inc takes a number that is not negative", counter.inc, counter, n)
            raises("spec_numbers:add takes a number that is not negative", counter.add, counter, n)
        end
        local gauge = metrics.gauge("spec_gauge", "help")
        gauge:add(-1)
        gauge:inc(-1)
        gauge:set(math.huge)
        for _, n in ipairs { 0 / 0, "1" } do
            raises("spec_gauge:set takes a number, not", gauge.set, gauge, n)
        end
        raises("spec_gauge:add takes a number, not inf", gauge.add, gauge, math.huge)
        local histogram = metrics.histogram("spec_histogram", "help")
        raises("spec_histogram:observe takes a number, not nan", histogram.observe, histogram,
            0 / 0)
        raises("takes the value and no label, not 0", histogram.observe, histogram)
    end,

    ["names that are not there"] = function()
        local gauge = metrics.gauge("spec_methods", "help")
        raises("a gauge has no method 'sett', did you mean 'set'?", function() gauge:sett(1) end)
        raises("a counter has no method 'set'", function()
            metrics.counter("spec_methods_total", "help"):set(1)
        end)
        raises("call inc with a colon", gauge.inc, 1)
        raises("moonshine.metrics has no 'couter', did you mean 'counter'?", function()
            return metrics.couter
        end)
    end,
}
