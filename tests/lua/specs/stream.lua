-- The formats of c:stream: what write() makes of what it is given.
local support = require "specs.support"
local stream = require "moonshine.stream"
local null = require("moonshine.json").null

local function encoder(name)
    local encode = stream.format(name).encode
    return function(value, want)
        local got = encode(value)
        assert(got == want, ("%q is not %q"):format(got, want))
    end, function(words, value)
        support.raises(words, encode, value)
    end
end

return {
    text = function()
        for _, name in ipairs { false, "text/plain", "image/x; a=b" } do
            local is, refuses = encoder(name or nil)
            is("a", "a")
            is("", "")
            is(1.5, "1.5")
            refuses("write() takes a string, not a table", {})
            refuses("write() takes a string, not nil", nil)
            refuses("write() takes a string, not a boolean", true)
        end
        assert(stream.format("image/x").mime == "image/x")
    end,

    csv = function()
        local is, refuses = encoder "csv"
        is({ "a", "b" }, "a,b\r\n")
        is({ "a,b", 'say "x"', "two\nlines", "cr\r", "" },
            '"a,b","say ""x""","two\nlines","cr\r",\r\n')
        is({ 1, -2.5, 2 ^ 53 - 1, 1e15, 0.1, 1e300, 1 / 0, true, false },
            "1,-2.5,9007199254740991,1000000000000000,0.1,1e+300,inf,true,false\r\n")
        is({ null, "x", null }, ",x,\r\n")
        is({ n = 3, "a", nil, nil }, "a,,\r\n")
        is({ n = 2 }, ",\r\n")
        is({ "" }, '""\r\n')
        is({ null }, '""\r\n')
        is({}, "\r\n")
        is({ "=1+1", "+1", "-1", "@x", "\tx" }, "=1+1,+1,-1,@x,\tx\r\n")
        is({ " a ", "ü", "\0" }, " a ,ü,\0\r\n")
        refuses("takes a list, the fields of a row, not a string", "a,b")
        refuses("takes a list, the fields of a row, not nil", nil)
        refuses("this table has names", { name = "x" })
        refuses("field 2 of the row is a table", { 1, {} })
        refuses("field 1 of the row is a function", { print })
    end,

    ndjson = function()
        local is, refuses = encoder "ndjson"
        is({ a = 1 }, '{"a":1}\n')
        is("a\nb", '"a\\nb"\n')
        is(1, "1\n")
        is(null, "null\n")
        is({}, "{}\n")
        refuses("write(): ", print)
        refuses("write(): ", { a = { print } })
    end,

    events = function()
        local is, refuses = encoder "events"
        is("a", "data: a\n\n")
        is("", "data: \n\n")
        is("a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n")
        is(7, "data: 7\n\n")
        is({ data = "a" }, "data: a\n\n")
        is({ data = { n = 1 } }, 'data: {"n":1}\n\n')
        is({ data = false }, "data: false\n\n")
        is({ event = "tick", id = 7, retry = "2s", data = "x" },
            "event: tick\nid: 7\nretry: 2000\ndata: x\n\n")
        is({ id = "" }, "id: \n\n")
        is({ retry = 0.5 }, "retry: 500\n\n")
        is({ comment = "still\nhere" }, ": still\n: here\n\n")
        refuses("takes a string or an event, not nil", nil)
        refuses("takes a string or an event, not a boolean", true)
        refuses("an event has no option 'events', did you mean 'event'?", { events = "x" })
        refuses("an event has no option '1'", { "x" })
        refuses("an event needs data", {})
        refuses("event must not contain a line break", { event = "a\ndata: evil", data = "x" })
        refuses("id must not contain a line break or NUL", { id = "a\0", data = "x" })
        refuses("event must be a string, not a table", { event = {}, data = "x" })
        refuses("retry must be a duration", { retry = "soon" })
        refuses("write(): ", { data = { print } })
    end,

    ["the name of the format"] = function()
        support.raises("the format must be csv, ndjson, events or a content type, not 'event', "
            .. "did you mean 'events'?", stream.format, "event")
        support.raises("the format must be a string, not a table", stream.format, {})
        support.raises("has a byte that is not allowed", stream.format, "text/x\r\nX: y")
    end,
}
