local moonshine = require "moonshine"
local support = require "specs.support"
local encode, decode = moonshine.encode, moonshine.decode

local every_byte = {}
for i = 0, 255 do
    every_byte[i + 1] = string.char(i)
end
every_byte = table.concat(every_byte)

return {
    ["base64 of RFC 4648"] = function()
        local vectors = {
            [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v",
            foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy",
        }
        for plain, coded in pairs(vectors) do
            assert(encode.base64(plain) == coded)
            assert(decode.base64(coded) == plain)
            assert(encode.base64url(plain) == (coded:gsub("=", "")))
            assert(decode.base64url((coded:gsub("=", ""))) == plain)
        end
    end,

    ["round trips"] = function()
        for _, codec in ipairs { "base64", "base64url", "hex", "url" } do
            assert(decode[codec](encode[codec](every_byte)) == every_byte, codec)
        end
    end,

    ["what is refused"] = function()
        local bad = {
            base64 = { "Zg", "Zg=", "Z", "Zh==", "Z===", "Zg==Zg==", "Zm 9v", "Zm-v" },
            base64url = { "Z", "Zh", "Zm+v", "Zg=" },
            hex = { "a", "zz", "0x" },
            url = { "%", "%4", "%zz" },
        }
        for codec, list in pairs(bad) do
            for _, text in ipairs(list) do
                local value, message, code = decode[codec](text)
                assert(value == nil and message and code == 400, codec .. " " .. text)
            end
        end
    end,

    ["html and url"] = function()
        assert(encode.html([[<a href="x">'&]]) == "&lt;a href=&quot;x&quot;&gt;&#39;&amp;")
        assert(encode.url("a b/ü~") == "a%20b%2F%C3%BC~")
        assert(encode.url(12) == "12")
        support.raises("must be a string", encode.url, {})
    end,

    query = function()
        assert(encode.query { b = "x y", a = { 1, 2 }, c = true } == "a=1&a=2&b=x%20y&c=true")
        support.same(decode.query("a=1&b=x+y%20z&a=2&&c&=d&e=%zz"), {
            a = "1", b = "x y z", c = "", [""] = "d", e = "%zz",
        })
    end,

    ["HTTP dates"] = function()
        assert(moonshine.http_time(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT")
        for _, text in ipairs {
            "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        } do
            assert(moonshine.http_time(text) == 784111777, text)
        end
        local value, _, code = moonshine.http_time("yesterday")
        assert(value == nil and code == 400)
    end,
}
