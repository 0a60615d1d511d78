-- Views with each other: include, layout, block, and what is theirs alone.
local moonshine = require "moonshine"
local support = require "specs.support"

local render = moonshine.render

local function is(got, want)
    assert(got == want, ("%q is not %q"):format(got, want))
end

local function deep(depth)
    return { name = tostring(depth), children = depth > 0 and { deep(depth - 1) } or {} }
end

return {
    ["names and extensions"] = function()
        is(render("hello"), "<p>nobody, nil</p>")
        is(render("hello.html", { name = "<a>" }), "<p>&lt;a&gt;, nil</p>")
        is(render("mail.txt", { name = "<a>" }), "<a> & <b>")
        is(render("feed.xml", { name = [["<'>&]] }), '<r a="&quot;&lt;&#39;&gt;&amp;"/>')
        is(render("data.json", { name = "</a>\n" }), [[{"name":"\u003c/a\u003e\n"}]])
        is(render("parts/row", { name = 1 }), "[-:1]")
    end,

    ["wrong use"] = function()
        support.raises("specs/support.lua:6: moonshine.render: there is no view 'helo' "
            .. "(views/helo.html), did you mean 'hello'?", render, "helo")
        support.raises("there is no view 'mail' (views/mail.html)", render, "mail")
        support.raises("(views/a.txt)", render, "a.txt")
        support.raises("must be a string, not nil", render)
        support.raises("the data must be a table, not a string", render, "hello", "x")
        -- Not views: modules, and what editors leave.
        for _, name in ipairs { "module.lua", "hello.html~", "#hello.html#", "NOTES", "../app" } do
            support.raises("there is no view", render, name)
        end
    end,

    include = function()
        is(render("list", { name = "<n>" }), "[1:&lt;n&gt;][2:own][-:&lt;n&gt;]")
        is(render("any", { which = "mail.txt", name = "<n>" }), "<n> & <b>")
        support.raises("views/any.html:1: include: there is no view 'lst' (views/lst.html), "
            .. "did you mean 'list'?", render, "any", { which = "lst" })
        is(render("tree", deep(3)), "<ul><li>2<ul><li>1<ul><li>0<ul></ul></li></ul></li></ul></li>"
            .. "</ul>")
        assert(#render("tree", deep(90)) > 900)
    end,

    ["layouts and blocks"] = function()
        is(render("page", { name = "<n>", title = "of the data" }), [[
<h1>the page</h1>
<i>&lt;n&gt;</i>[-:&lt;n&gt;]
(before&lt;n&gt;after of the data
)
foot of the page]])
    end,

    ["large pages and many at once"] = function()
        local big = ("x"):rep(200000)
        for _ = 1, 3 do
            is(#render("mail.txt", { name = big }), 200000 + #" & <b>")
        end
        local jobs = {}
        for i = 1, 60 do
            jobs[i] = function()
                return render("waits", { name = i, wait = function() moonshine.sleep(0) end })
            end
        end
        local results = { moonshine.all(unpack(jobs)) }
        for i = 1, 60 do
            is(results[i], (("%d%d[-:%d]%d%d"):gsub("%%d", tostring(i))))
        end
    end,

    ["circles end"] = function()
        support.raises("views/circle_b.html:1: include: more than 100 views within each other: "
            .. "... > circle_b.html > circle.html > circle_b.html > circle.html", render, "circle")
        support.raises("layout: more than 20 around each other, views/round.html again", render,
            "round")
        support.raises("more than 100 views", render, "tree", deep(200))
    end,

    ["an error in the middle leaves nothing behind"] = function()
        for _ = 1, 100 do
            is(render("careful", { name = "n" }), "a\nfalse, views/broken.html:2: attempt to index "
                .. "local &#39;nothing&#39; (a nil value)\nn")
            support.raises("views/broken.html:2:", render, "broken")
            is(render("hello"), "<p>nobody, nil</p>")
        end
    end,

    ["renders may wait in the middle of each other"] = function()
        local function one(name)
            return function()
                return render("waits", { name = name, wait = function() moonshine.sleep(0) end })
            end
        end
        for _ = 1, 50 do
            local a, b, c = moonshine.all(one "a", one "<b>", one "c")
            assert(a == "aa[-:a]aa" and c == "cc[-:c]cc", a .. c)
            assert(b == "&lt;b&gt;&lt;b&gt;[-:&lt;b&gt;]&lt;b&gt;&lt;b&gt;", b)
        end
    end,
}
