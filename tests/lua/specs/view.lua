-- The compiler of views: every construct, and every error with its line.
local buffer = require "string.buffer"
local support = require "specs.support"
local texts = require "moonshine.view_text"
local view = require "moonshine.view"
local parser = require "moonshine.view_parser"

local globals = { ipairs = ipairs, string = string, pcall = pcall, type = type }
local bound = {
    content = function(frame) return frame.content end,
    include = function() return function(name) return "[" .. name .. "]" end end,
}

local function compile(text)
    return view.compile("views/t.html", text, globals, bound)
end

local function render(text, data, escaper)
    local o = buffer.new()
    compile(text)(o, escaper or texts.html, texts.raw, { content = "inner" }, data or {}, globals,
        bound)
    return o:tostring()
end

local function gives(text, want, data)
    local got = render(text, data)
    assert(got == want, ("%q gives %q, not %q"):format(text, got, want))
end

local function refuses(text, words, data)
    support.raises(words, render, text, data)
end

local function names(text)
    local list = {}
    for name in text:gmatch("%S+") do
        list[name] = name
    end
    return list
end

return {
    ["text is left as it is"] = function()
        for _, text in ipairs { "", "a", "\n", "a\n\nb", "\r\n", "a\rb", "\0\1\2", "\\n", '"',
            "]]", "%", "%>", "%%>", "< %", "\0001", "ü", "\27LJ", "--", "${a}", "{{ a }}" } do
            gives(text, text)
        end
        gives("\239\187\191a", "a")
    end,

    ["values"] = function()
        gives("<%= a %>", "1", { a = 1 })
        gives("<%=a%>|<%= a-%>\n|<%=  a  %>", "1|1|1", { a = 1 })
        gives("<%= a %><%= b %>", "x1.5", { a = "x", b = 1.5 })
        gives("<%= a %> <%= b %>", "true false", { a = true, b = false })
        gives("<%= a .. (b or '') %>", "x", { a = "x" })
        gives("<%= f() %>", "1", { f = function() return 1, 2 end })
        gives("<%= [[a]] %><%= 'b' %><%= \"c\" %>", "abc")
        gives("<%= a -- a comment %>", "1", { a = 1 })
        gives("<%=\n a\n + 1\n%>", "2", { a = 1 })
    end,

    ["escaping"] = function()
        local all = [[<a href="x">'&amp;'</a>]]
        gives("<%= a %>", "&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;&#39;&lt;/a&gt;", { a = all })
        gives("<%- a %>", all, { a = all })
        assert(render("<%= a %>", { a = all }, texts.plain) == all)
        for length = 0, 40 do
            for at = 1, length do
                local text = ("x"):rep(at - 1) .. "<" .. ("y"):rep(length - at)
                gives("<%= a %>", (text:gsub("<", "&lt;")), { a = text })
            end
        end
        gives("<%= a %>", "\0&lt;\255\226\128\168", { a = "\0<\255\226\128\168" })
    end,

    ["code"] = function()
        gives("<% if a then %>yes<% else %>no<% end %>", "yes", { a = 1 })
        gives("<% if a then %>yes<% else %>no<% end %>", "no")
        gives("<% for i = 1, 3 do %><%= i %>,<% end %>", "1,2,3,")
        gives("<% local n = 0 while n < 2 do n = n + 1 %>x<% end %>", "xx")
        gives("<% local function f(x) %>(<%= x %>)<% end f(1) f(2) %>", "(1)(2)")
        gives("<% for _, x in ipairs(l) do -- each %>\n<%= x %><% end %>", "\na\nb",
            { l = { "a", "b" } })
        gives("<% for i = 1, 3 do if i == 2 then goto next end %><%= i %><% ::next:: end %>",
            "13")
        gives("a<% if true then return end %>b", "a")
        gives("<% local s = [[ -- ]] %><%= s %><% local t = '--' %><%= t %>", " -- --")
        gives("<% --[[ all\n of it ]] %>a", "a")
    end,

    ["comments and literal tags"] = function()
        gives("a<%# anything %>b", "ab")
        gives("a<%# <% if %>b", "ab")
        gives("<%% x %>", "<% x %>")
        gives("<%%= a %><%= a %>", "<%= a %>1", { a = 1 })
    end,

    ["a minus at the end eats the line break"] = function()
        gives("a\n<% -%>\nb", "a\nb")
        gives("a<%# x -%>\r\nb", "ab")
        gives("<%= 1 -%>\n\nb", "1\nb")
        gives("<%- 1 -%>\nb", "1b")
        gives("<% -%> \nb", " \nb")
        gives("<% if true then -%>\nx\n<% end -%>\ny", "x\ny")
        gives("<%= 3 - 1 %>", "2")
    end,

    ["what is left open does not swallow the text"] = function()
        for _, code in ipairs { "local x =", "x", "return", "local x = a or", "f(", "while true",
            "for i = 1, 2", "if true", "local t = {" } do
            refuses("\n<% " .. code .. " %>text", "views/t.html:2:", { a = 1 })
            refuses("\n<% " .. code .. " %><%= 1 %>", "views/t.html:2:", { a = 1 })
        end
        refuses("<% for i = 1, 3 %>x<% end %>", "near '%>'")
    end,

    ["lines of errors are the view's own"] = function()
        local before = { "", "a\n", "<%# a\nb %>\n", "<% -%>\n", "<% local a\n = 1 %>",
            "<%= 1 -%>\n", "<%%\n", "<%=\n1\n%>", "a\r\n", "<% -%>\r\n",
            "<%= [[\n]] %>\n", "<%= 1 %>a\nb" }
        for _, one in ipairs(before) do
            for _, other in ipairs(before) do
                local text = one .. other
                local _, lines = text:gsub("\n", "")
                local place = "views/t.html:" .. lines + 1 .. ":"
                refuses(text .. "<%= nothing %>", place)
                refuses(text .. "<% error 'x' %>", place)
                refuses(text .. "<% x = %>", place)
                refuses(text .. "<%= %>", place)
                refuses(text .. "<% never closed", place)
            end
        end
        refuses("<%=\n\nnothing\n%>", "views/t.html:1: 'nothing' is nil")
    end,

    ["what cannot be printed"] = function()
        refuses("<%= user.name %>",
            "views/t.html:1: 'user.name' is nil; write <%= user.name or \"\" %>", { user = {} })
        refuses("<%- a %>", "'a' is nil; write <%- a or \"\" %>")
        refuses("<%= a %>", "'a' is json.null; write", { a = require("moonshine.json").null })
        refuses("<%= a %>", "'a' is a table, not text", { a = {} })
        refuses("<%- a %>", "'a' is a function, not text", { a = print })
        refuses("<%= a\n   .b %>", "'a .b' is nil", { a = {} })
        refuses("<%= " .. ("x"):rep(100) .. " %>", "'" .. ("x"):rep(57) .. "...' is nil")
        refuses("<%= a['100%'] %>", "'a['100%']' is nil", { a = {} })
    end,

    ["syntax errors"] = function()
        refuses("a\n<% if x then %>\nb", "views/t.html:3: 'end' expected (to close 'if' at line 2)")
        refuses("a\n<% end %>", "views/t.html:2: '<eof>' expected near 'end'")
        refuses("a\n\n<%= 1 + %>", "views/t.html:3: unexpected symbol near ')'")
        refuses("<%= a b %>", "views/t.html:1: ')' expected near 'b'")
        refuses("<%= a, b %>", "views/t.html:1: ')' expected near ','")
        refuses("a\n<%=\n 'a %>'", "views/t.html:3: a string or comment is not finished")
        refuses("<% --[[ a %> ]]", "views/t.html:1: a string or comment is not finished")
        refuses("<% if a %>b<% end %>", "views/t.html:1: 'then' expected near '%>'")
        refuses("<% if if %>b<% end %>", "views/t.html:1: unexpected symbol near 'if'")
    end,

    ["tags that are not closed"] = function()
        refuses("a\n<% if x then\n", "views/t.html:2: <% is not closed: no %> follows")
        refuses("a\n\n<%", "views/t.html:3: <% is not closed: no %> follows")
        refuses("a\n<%= x >\n<%= y %>", "views/t.html:2: <% is not closed: another <% follows")
        refuses("a\n<%# x", "views/t.html:2: <% is not closed")
        refuses("<%= %>", "views/t.html:1: the tag <%= %> is empty")
        refuses("<%- -%>", "views/t.html:1: the tag <%- %> is empty")
        gives("<%%>", "<%>")
    end,

    ["globals are not assigned"] = function()
        refuses("a\n<% total = 1 %>",
            "views/t.html:2: assignment to the global 'total': make it local")
        refuses("<% local function f()\n total = 1 end %>", "views/t.html:2: assignment")
        refuses("<% function f() end %>", "views/t.html:1: assignment to the global 'f'")
        gives("<% local total = 1 total = total + 1 %><%= total %>", "2")
    end,

    ["names are those of the data, then what all have"] = function()
        gives("<%= type(a) %>", "nil")
        gives("<%= type(a) %>", "boolean", { a = false })
        gives("<%= string %>", "mine", { string = "mine" })
        gives("<%= ('x'):rep(2) .. string.rep('y', 2) %>", "xxyy")
        gives("<%= content %>", "inner")
        gives("<%= content %>", "mine", { content = "mine" })
        gives("<%= include('a') %>", "[a]")
        gives("<%= a %>", "by metatable", setmetatable({}, { __index = names "a" and
            function() return "by metatable" end }))
        gives("<% local f = function() return function() return a end end %><%= f()() %>", "1",
            { a = 1 })
        refuses("<%= print %>", "'print' is nil")
        refuses("<%= _G %>", "'_G' is nil")
        refuses("<%= ... %>", "", {})
    end,

    ["many names"] = function()
        local text, data, want = {}, {}, {}
        for i = 1, 150 do
            text[i], data["n" .. i], want[i] = ("<%%= n%d %%>"):format(i), i, tostring(i)
        end
        gives(table.concat(text), table.concat(want), data)
        refuses(table.concat(text) .. "<%= more %>", "more than 150 names")
        refuses("<% local a" .. (", a"):rep(60) .. " %>" .. table.concat(text),
            "local variables: put some of the data into tables")
        refuses("<% local function f() %>" .. table.concat(text) .. "<% end %>",
            "put some of the data into tables")
    end,

    ["references"] = function()
        local function find(text)
            local _, list = compile(text)
            local found = {}
            for i, one in ipairs(list) do
                found[i] = ("%s %s %d"):format(one.helper, one.target, one.line)
            end
            return table.concat(found, ", ")
        end
        local function is(text, want)
            local got = find(text)
            assert(got == want, ("%q refers to %q, not %q"):format(text, got, want))
        end
        is("<%- include('a') %>", "include a 1")
        is("\n<%- include \"a/b.txt\" %>", "include a/b.txt 2")
        is("<%- \ninclude(\n'a', { x = 1 }) .. include('b') %>", "include a 3, include b 3")
        is("<% include('a') %>", "include a 1")
        is("<%- include('a' .. 'b') %><%- include(a) %>", "")
        is("<%- include('a' ) %>", "include a 1")
        is("<%# include('a') %><% --[[ include('b') ]] -- include('c') %>", "")
        is("<%= \"include('a')\" %><%= [[include('b')]] %>", "")
        is("<%= a.include('x') %><%= a:include('y') %><%= my_include('z') %>", "")
        is("<% local include = print %><%- include('a') %>", "")
        is("<% layout('a') %>", "layout a 1")
    end,

    ["code without its comments"] = function()
        local function is(code, stripped, blank)
            local a, b = parser.strip(code)
            assert(a == stripped and b == blank, ("%q: %q, %q"):format(code, a, b))
        end
        is("a -- b", "a ", "a ")
        is("a -- b\nc", "a -- b\nc", "a     \nc")
        is("'--'", "'--'", "'  '")
        is("\"a\\\"b\" -- c", "\"a\\\"b\" ", "\"    \" ")
        is("a[b[1]]", "a[b[1]]", "a[b[1]]")
        is("[==[ ]] -- ]==] x", "[==[ ]] -- ]==] x", "[             ] x")
        is("--[[ a\nb ]] c", "--[[ a\nb ]] c", "      \n     c")
        is("a - b", "a - b", "a - b")
        is("a --[[ b ]]", "a --[[ b ]]", "a          ")
        for _, code in ipairs { "a 'b -- x", "a \"b\\\"", "a --[[ b", "a [=[ b ]]", "a 'b\nc'" } do
            local _, _, open_at = parser.strip(code)
            assert(open_at == 3, code)
        end
    end,

    -- Hot enough to be compiled, with every kind of value in every place.
    ["compiled views print the same"] = function()
        local text = "<% for i, v in ipairs(list) do %>(<%= v %>|<%- v %>)<%= i %><% end %>"
        local fn = compile(text)
        local kinds = { "plain", "a<b", 7, -0.5, true, false, "", 1e15, "x&y", 2 ^ 40 }
        local seed = 1
        local function pick()
            seed = (seed * 16807) % 2147483647
            return kinds[seed % #kinds + 1]
        end
        for _ = 1, 300 do
            local list, want = {}, {}
            for i = 1, 20 do
                local v = pick()
                list[i] = v
                local shown = tostring(v)
                want[i] = ("(%s|%s)%d"):format(shown:gsub("&", "&amp;"):gsub("<", "&lt;"), shown, i)
            end
            local o = buffer.new()
            fn(o, texts.html, texts.raw, {}, { list = list }, globals, bound)
            local got = o:tostring()
            assert(got == table.concat(want), got)
        end
    end,

    json = function()
        local json = texts.json
        assert(json { a = "</script>&" } == [[{"a":"\u003c/script\u003e\u0026"}]])
        assert(json "\226\128\168\226\128\169\226\128\170" == '"\\u2028\\u2029\226\128\170"')
        assert(json(1) == "1" and json "ü" == '"ü"' and json {} == "{}")
        support.raises("json: ", json, print)
    end,
}
