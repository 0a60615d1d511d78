-- What the error page of --dev is made of.
local code = require "moonshine.dev_code"
local facts = require "moonshine.dev_facts"
local page = require "moonshine.dev_page"
local value = require "moonshine.dev_value"

local function shows(given, wanted)
    local got = value.describe(given)
    assert(got == wanted, ("%s, not %s"):format(got, wanted))
end

local function never()
    error("a metamethod was called")
end

local files = {
    ["app.lua"] = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten",
    ["views/x.html"] = "<b>\n",
}

local function read(name)
    return files[name]
end

return {
    ["values of each type"] = function()
        shows(nil, "nil")
        shows(true, "true")
        shows(2 ^ 53, "9007199254740992")
        shows(-0.5, "-0.5")
        shows(1 / 0, "inf")
        shows("a\n\t\"\\\0b", [["a\n\t\"\\\0b"]])
        shows(print, "function (C)" == value.describe(print) and "function (C)"
            or value.describe(print))
        assert(value.describe(never):find("^function specs/dev%.lua:%d+$"))
        shows(coroutine.create(never), "thread")
        shows(io.stdout, "userdata")
        shows(require("ffi").new("int[2]"), "cdata int [2]")
        shows(-5LL, "-5LL")
    end,

    ["tables"] = function()
        shows({}, "{}")
        shows({ 1, "x", a = true, ["b c"] = 2, [10] = 3 },
            '{ 1, "x", [10] = 3, a = true, ["b c"] = 2 }')
        shows({ { { 1 } } }, "{ { { ... } } }")
        local loop = { name = "loop" }
        loop.self = loop
        shows(loop, '{ name = "loop", self = { again } }')
        local many = {}
        for i = 1, 100 do
            many[i] = i
        end
        assert(value.describe(many):find(", 12, ... 88 more }", 1, true))
    end,

    ["long values are cut"] = function()
        local text = value.describe(("x"):rep(10000))
        assert(#text < 300 and text:find("(10000 bytes)", 1, true))
        local list = {}
        for i = 1, 12 do
            list[i] = { ("y"):rep(500), ("z"):rep(500), ("w"):rep(500) }
        end
        assert(#value.describe(list) < 1300)
    end,

    ["no metamethod is called"] = function()
        local hostile = setmetatable({ 1, a = 2 }, {
            __index = never, __newindex = never, __tostring = never, __len = never,
            __pairs = never, __call = never, __eq = never, __lt = never, __concat = never,
            __metatable = false,
        })
        shows(hostile, "{ 1, a = 2 }")
        shows({ [hostile] = hostile }, "{ [{ ... }] = { 1, a = 2 } }")
        local proxy = newproxy(true)
        getmetatable(proxy).__tostring = never
        shows(proxy, "userdata")
    end,

    ["source is coloured, and escaped"] = function()
        assert(code.line('local x = "<&" -- it\'s') ==
            '<span class="w">local</span> x = <span class="s">&quot;&lt;&amp;&quot;</span> '
            .. '<span class="c">-- it&#39;s</span>')
        assert(code.line([[f('a\'b', [=[ ]] .. "]]" .. [[ ]=], 0xff, end_)]]) ==
            "f(<span class=\"s\">&#39;a\\&#39;b&#39;</span>, <span class=\"s\">[=[ ]] ]=]</span>, "
            .. '<span class="n">0xff</span>, end_)')
        assert(code.line("'open") == '<span class="s">&#39;open</span>')
        assert(code.line("") == "")
        -- Nothing is lost of whatever line.
        for i = 0, 255, 5 do
            local line = string.char(i) .. 'x"' .. string.char(i) .. "[[--" .. string.char(i)
            local plain = code.line(line):gsub("<[^>]*>", "")
            assert(plain == require("moonshine.encode").html(line), i)
        end
    end,

    ["the lines around a line"] = function()
        local around = facts.excerpt(read, "app.lua", 9)
        assert(around.first == 3 and #around.lines == 8 and around.lines[7] == "nine")
        around = facts.excerpt(read, "app.lua", 1)
        assert(around.first == 1 and #around.lines == 7)
        assert(#facts.excerpt(read, "app.lua", 900).lines == 0)
        assert(facts.excerpt(read, "none.lua", 1) == nil)
    end,

    ["facts of a text"] = function()
        local f = facts.from_text("app.lua:4: bad luck\nmore\nstack traceback:\n"
            .. "\tlib/a.lua:2: in function 'luck'\n\tapp.lua:4: in main chunk", read)
        assert(f.message == "app.lua:4: bad luck\nmore" and f.kind == "load")
        assert(#f.frames == 2 and f.focus == 2 and f.frames[2].name == "main chunk")
        f = facts.from_text("worker 1: views/x.html:1: oh", read)
        assert(#f.frames == 1 and f.frames[1].file == "views/x.html" and f.frames[1].line == 1)
        f = facts.from_text("no such thing", read)
        assert(#f.frames == 0)
    end,

    ["a page of any facts"] = function()
        local html = page.render(facts.from_text("app.lua:4: <b>&", read))
        assert(html:find("<h1>&lt;b&gt;&amp;</h1>", 1, true))
        assert(html:find('<span class="here"><i>4</i>four</span>', 1, true))
        html = page.render(facts.from_text("views/x.html:1: $title $1 %1", read))
        assert(html:find("<h1>$title $1 %1</h1>", 1, true))
        assert(html:find("&lt;b&gt;", 1, true))
        assert(not html:find("<script", 1, true))
    end,
}
