local json = require "moonshine.json"
local same = require "moonshine.test.same"
local show = require "moonshine.test.show"

-- What a diff must look like, without the indent of this file.
local function lines(text)
    return (text:gsub("^\n", ""):gsub("\n[ ]*$", ""):gsub("%f[^\n%z] +|", ""))
end

local function check(actual, expected, wanted)
    local got = same.diff(actual, expected)
    wanted = lines(wanted)
    assert(got == wanted, ("got:\n%s\nwanted:\n%s"):format(tostring(got), wanted))
end

local function cyclic()
    local t = { name = "t" }
    t.self = t
    return t
end

return {
    ["equal values are the same"] = function()
        assert(same.same(1, 1) and same.same("a", "a") and same.same(nil, nil))
        assert(same.same(0 / 0, 0 / 0))
        assert(same.same({ 1, { a = { true } } }, { 1, { a = { true } } }))
        assert(same.same(json.decode "[]", {}))
        assert(same.same(setmetatable({ 1 }, { __index = { b = 2 } }), { 1 }))
        assert(same.same(cyclic(), cyclic()))
    end,

    ["others are not"] = function()
        assert(not same.same(1, "1") and not same.same(nil, false) and not same.same({}, nil))
        assert(not same.same({ 1 }, { 1, 2 }) and not same.same({ 1, 2 }, { 1 }))
        assert(not same.same({ a = { b = 1 } }, { a = { b = 2 } }))
        assert(not same.same({}, json.null))
        local t = cyclic()
        t.name = "u"
        assert(not same.same(t, cyclic()))
    end,

    ["values on one line"] = function()
        assert(show.show { 1, "a\n\"b\"\27", x = true, ["a b"] = 1.5, [2.5] = 0, ["end"] = 1 }
            == [[{ 1, "a\n\"b\"\x1b", [2.5] = 0, ["a b"] = 1.5, ["end"] = 1, x = true }]])
        assert(show.show {} == "{}" and show.show(json.null) == "json.null")
        assert(show.show(cyclic()) == '{ name = "t", self = {...} }')
        assert(show.show(0.1 + 0.2) == "0.30000000000000004")
        assert(show.show(2 ^ 53) == "9007199254740992")
        local long = show.show(("é"):rep(40))
        assert(#long <= 76 and long:sub(-3) == "..." and not long:find("\195%."), long)
        local list = {}
        for i = 1, 40 do
            list[i] = i
        end
        assert(#show.show(list) < 90)
    end,

    ["plain values need no diff"] = function()
        assert(same.diff(1, 2) == nil and same.diff("a", "b") == nil and same.diff({}, 1) == nil)
    end,

    ["a changed, a missing and a further key"] = function()
        check({ id = 8, name = "x", new = { 1 } }, { id = 7, name = "x", old = true }, [[
            |  {
            |-   id = 7,
            |+   id = 8,
            |    name = "x",
            |+   new = {
            |+     1,
            |+   },
            |-   old = true,
            |  }
        ]])
    end,

    ["lists are aligned"] = function()
        check({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, { 1, 2, 3, 4, 5, 55, 6, 7, 8, 9 }, [[
            |  {
            |    ...
            |    4,
            |    5,
            |-   55,
            |    6,
            |    7,
            |    ...
            |  }
        ]])
        check({ { id = 1 }, { id = 2, ok = true } }, { { id = 1 }, { id = 2, ok = false } }, [[
            |  {
            |    { id = 1 },
            |    {
            |      id = 2,
            |-     ok = false,
            |+     ok = true,
            |    },
            |  }
        ]])
    end,

    ["lists with much in common"] = function()
        check({ "a", "b", "c", "d" }, { "b", "a", "c", "x", "d" }, [[
            |  {
            |+   "a",
            |    "b",
            |-   "a",
            |    "c",
            |-   "x",
            |    "d",
            |  }
        ]])
        check({ "x", "y", 1 }, { "y", "x", 2 }, [[
            |  {
            |+   "x",
            |    "y",
            |-   "x",
            |+   1,
            |-   2,
            |  }
        ]])
    end,

    ["a tree on one side only"] = function()
        check({ tree = cyclic() }, {}, [[
            |- {}
            |+ {
            |+   tree = {
            |+     name = "t",
            |+     self = {...},
            |+   },
            |+ }
        ]])
    end,

    ["what is far from a difference is left out"] = function()
        local actual, expected = {}, {}
        for i = 1, 9 do
            actual["k" .. i], expected["k" .. i] = i, i
        end
        actual.deep = { a = { b = { c = 1, d = 2 } } }
        expected.deep = { a = { b = { c = 1, d = 3 } } }
        check(actual, expected, [[
            |  {
            |    deep = {
            |      a = {
            |        b = {
            |          c = 1,
            |-         d = 3,
            |+         d = 2,
            |        },
            |      },
            |    },
            |    ...
            |  }
        ]])
    end,

    ["holes in lists are seen"] = function()
        check({ 1, nil, 3 }, { 1, 2, 3 }, [[
            |  {
            |    1,
            |-   2,
            |-   3,
            |+   [3] = 3,
            |  }
        ]])
    end,

    ["texts are compared by line"] = function()
        check("one\ntwo\nthree\nfour\nfive", "one\ntwo\n3\nfour\nfive", [[
            |  one
            |  two
            |- 3
            |+ three
            |  four
            |  five
        ]])
    end,

    ["a table and something else"] = function()
        check({ 1 }, {}, [[
            |- {}
            |+ {
            |+   1,
            |+ }
        ]])
    end,

    ["a long diff is cut, a cyclic one ends"] = function()
        local actual, expected = {}, {}
        for i = 1, 101 do
            actual[i], expected[i] = i, -i
        end
        local _, count = same.diff(actual, expected):gsub("\n", "\n")
        assert(count == 200, count)
        local t = cyclic()
        t.name = "u"
        check(t, cyclic(), [[
            |  {
            |-   name = "t",
            |+   name = "u",
            |-   self = { name = "t", self = {...} },
            |+   self = { name = "u", self = {...} },
            |  }
        ]])
    end,
}
