local cookies = require "moonshine.test.cookies"
local moonshine = require "moonshine"
local support = require "specs.support"
local test = require "moonshine.test"

-- "a=1; b=2" of what a jar sends.
local function sent(jar, host, path, secure)
    local list = {}
    for _, cookie in ipairs(jar:matching(host or "app.test", path or "/", secure or false)) do
        list[#list + 1] = cookie.name .. "=" .. cookie.value
    end
    return table.concat(list, "; ")
end

local function jar_with(...)
    local jar = cookies.jar()
    for _, field in ipairs { ... } do
        jar:set(field, "app.test", "/a/b")
    end
    return jar
end

return {
    ["dates"] = function()
        local when = 784111777
        for _, text in ipairs {
            "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994", "Sun, 06-Nov-1994 08:49:37 GMT", "6 nov 1994 8:49:37",
            "08:49:37 1994 November 06",
        } do
            assert(cookies.date(text) == when, text)
        end
        assert(cookies.date("Thu, 01 Jan 1970 00:00:00 GMT") == 0)
        assert(cookies.date("Sat, 29 Feb 2020 23:59:59 GMT") == 1583020799)
        assert(cookies.date("Fri, 31 Dec 69 23:59:59 GMT") == 3155759999)
        for _, text in ipairs {
            "", "tomorrow", "Sun, 06 Nov 1994", "Sun, 31 Feb 2021 00:00:00 GMT",
            "06 Nov 1994 24:00:00", "00 Nov 1994 00:00:00", "06 Nov 1600 00:00:00",
        } do
            assert(cookies.date(text) == nil, text)
        end
    end,

    ["what a field says"] = function()
        support.same(cookies.parse("a=b=c; Path=/x; DOMAIN=.App.Test; secure ;HttpOnly; Max-Age=60;"
            .. " Expires=Sun, 06 Nov 1994 08:49:37 GMT; SameSite=Lax; odd"), {
            name = "a", value = "b=c", path = "/x", domain = "app.test", secure = true,
            http_only = true, max_age = 60, expires = 784111777, same_site = "Lax",
        })
        support.same(cookies.parse("  a  =  b  "), {
            name = "a", value = "b", secure = false, http_only = false,
        })
        assert(cookies.parse("novalue") == nil and cookies.parse("=v") == nil)
        assert(cookies.parse("a=1; Max-Age=soon; Expires=never").max_age == nil)
    end,

    ["paths"] = function()
        local jar = jar_with("here=1", "root=2; Path=/", "deep=3; Path=/a/b", "odd=4; Path=x")
        assert(sent(jar, nil, "/a/b") == "deep=3; here=1; odd=4; root=2")
        assert(sent(jar, nil, "/a/bc") == "here=1; odd=4; root=2")
        assert(sent(jar, nil, "/a") == "here=1; odd=4; root=2")
        assert(sent(jar, nil, "/ab") == "root=2" and sent(jar, nil, "/") == "root=2")
    end,

    ["domains"] = function()
        local jar = cookies.jar()
        jar:set("own=1; Path=/", "www.app.test", "/")
        jar:set("all=2; Path=/; Domain=app.test", "www.app.test", "/")
        jar:set("other=3; Path=/; Domain=api.app.test", "www.app.test", "/")
        jar:set("top=4; Path=/; Domain=test", "www.app.test", "/")
        jar:set("address=5; Path=/; Domain=2.0.0.1", "192.2.0.0.1", "/")
        assert(sent(jar, "www.app.test") == "own=1; all=2")
        assert(sent(jar, "app.test") == "all=2" and sent(jar, "x.app.test") == "all=2")
        assert(sent(jar, "notapp.test") == "" and sent(jar, "other.test") == "")
        jar:set("ip=1; Domain=0.0.1", "127.0.0.1", "/")
        assert(sent(jar, "127.0.0.1") == "")
        jar:set("local=1; Domain=localhost", "localhost", "/")
        assert(sent(jar, "localhost") == "local=1")
    end,

    ["secure ones need https, prefixes keep their promise"] = function()
        local jar = jar_with("s=1; Secure; Path=/", "__Host-a=1; Secure; Path=/",
            "__Host-b=1; Path=/", "__Host-c=1; Secure; Path=/; Domain=app.test",
            "__Host-d=1; Secure", "__Secure-e=1; Path=/", "__Secure-f=1; Secure; Path=/")
        assert(sent(jar) == "")
        assert(sent(jar, nil, nil, true) == "s=1; __Host-a=1; __Secure-f=1")
    end,

    ["replacing and removing"] = function()
        local jar = jar_with("a=1; Path=/", "b=2; Path=/", "a=3; Path=/", "a=4; Path=/a")
        assert(sent(jar) == "a=3; b=2" and jar:find("a").value == "4")
        jar:set("a=; Path=/; Max-Age=0", "app.test", "/")
        assert(sent(jar) == "b=2")
        jar:set("b=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "app.test", "/")
        jar:set("a=; Path=/a; Max-Age=-1", "app.test", "/")
        assert(#jar.list == 0 and jar:find("a") == nil)
    end,

    ["they end by the moved clock"] = function()
        local jar = jar_with("short=1; Path=/; Max-Age=60", "session=2; Path=/",
            "dated=3; Path=/; Expires=" .. moonshine.http_time(moonshine.now() + 3600),
            "both=4; Path=/; Max-Age=60; Expires=" .. moonshine.http_time(0))
        assert(sent(jar) == "short=1; session=2; dated=3; both=4")
        test.advance("59s")
        assert(sent(jar) == "short=1; session=2; dated=3; both=4")
        test.advance("1s")
        assert(sent(jar) == "session=2; dated=3")
        test.advance("1h")
        assert(sent(jar) == "session=2")
    end,
}
