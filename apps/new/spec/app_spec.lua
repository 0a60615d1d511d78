-- moonshine test runs this against the real server.
local t = require "moonshine.test"
local app = require "app"
local moon = require "moon"

local BROWSER = { headers = { accept = "text/html" } }
local PROGRAM = { headers = { accept = "application/json" } }

describe("the moon", function()
    it("was new and full when the almanac says", function()
        t.equal(moon.at(moon.noon("2024-04-08")).name, "new moon") -- an eclipse of the sun
        t.equal(moon.at(moon.noon("2025-03-14")).name, "full moon") -- and one of itself
    end)

    it("is JSON", function()
        local response = t.request(app, "GET", "/api/moon?date=2025-03-14")
        t.equal(response.status, 200)
        t.equal(response:json().lit, 100)
    end)

    it("wants a day that exists", function()
        local response = t.request(app, "GET", "/api/moon?date=2025-02-30")
        t.equal(response.status, 400)
        t.match(response.body, "date")
    end)

    it("moves on", function()
        local before = t.request(app, "GET", "/api/moon"):json()
        t.advance("168h")
        local after = t.request(app, "GET", "/api/moon"):json()
        assert(before.age ~= after.age)
    end)
end)

describe("pages", function()
    it("greet", function()
        t.equal(t.request(app, "GET", "/hello/moon").body, "Hello, moon!\n")
        t.match(t.request(app, "GET", "/").body, "<h1>@NAME@ is up</h1>")
    end)

    it("come with a style sheet", function()
        t.equal(t.request(app, "GET", "/assets/style.css").status, 200)
    end)

    it("say what is not there, to people and to programs", function()
        local page = t.request(app, "GET", "/nowhere", BROWSER)
        t.equal(page.status, 404)
        t.match(page.body, "dark side")
        local json = t.request(app, "GET", "/nowhere", PROGRAM)
        t.equal(json.status, 404)
        t.equal(json:json().error, "there is no /nowhere")
    end)
end)
