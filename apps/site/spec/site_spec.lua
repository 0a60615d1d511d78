local t = require "moonshine.test"
local app = require "app"

local PNG = "\137PNG\r\n\26\n" .. ("pixels"):rep(50)

describe("the site", function()
    local browser

    -- The form of a page as a browser fills it in.
    local function submit(path, form, files)
        local token = browser:get(path).body:match('name="_csrf" value="([^"]+)"')
        form._csrf = token
        return browser:post(path, { form = form, files = files })
    end

    before_each(function()
        browser = t.client(app)
    end)

    it("asks who somebody is before they add a picture", function()
        local r = browser:get("/new")
        assert(r.status == 302 and r:header("Location") == "/login")
        t.match(browser:get("/login").body, "Say who you are first")
        assert(not browser:get("/login").body:find("Say who you are first"))
    end)

    it("knows somebody until they leave", function()
        local r = submit("/login", { name = "Anna <b>" })
        assert(r.status == 303)
        local home = browser:get("/").body
        t.match(home, "Hello, Anna &lt;b&gt;")
        t.match(home, "Leave, Anna")
        local token = home:match('name="_csrf" value="([^"]+)"')
        assert(browser:post("/logout", { form = { _csrf = token } }).status == 303)
        assert(not browser:get("/").body:find("Leave"))
    end)

    it("takes pictures and shows them", function()
        submit("/login", { name = "Ben" })
        local r = submit("/new", { title = "A & B" }, {
            picture = { filename = "moon.png", type = "image/png", data = PNG } })
        assert(r.status == 303, r.body)
        local path = r:header("Location")
        local shown = browser:get(path).body
        t.match(shown, "Your picture is up")
        t.match(shown, "<h1>A &amp; B</h1>")
        local file = browser:get(path .. "/file")
        assert(file.body == PNG and file:header("Content-Type") == "image/png")
        t.match(browser:get("/").body, "A &amp; B")
    end)

    it("says what is wrong with a picture", function()
        submit("/login", { name = "Ben" })
        local r = submit("/new", { title = "" }, {
            picture = { filename = "x.png", type = "image/png", data = "not one" } })
        assert(r.status == 422)
        t.match(r.body, "must be a string of 1 to 80 characters")
        r = submit("/new", { title = "kept" }, {
            picture = { filename = "x.png", type = "image/png", data = "not one" } })
        t.match(r.body, "must be a PNG")
        t.match(r.body, 'value="kept"')
    end)

    it("refuses forms of other sites", function()
        local r = browser:post("/login", { form = { name = "x" },
            headers = { Origin = "https://elsewhere.example" } })
        assert(r.status == 403)
    end)

    it("has pages of its own for failures", function()
        local r = browser:get("/nowhere")
        assert(r.status == 404)
        t.match(r.body, "There is no page at this address")
    end)
end)
