-- Here nothing stands behind the gateway: what it does then is what matters most.
local t = require "moonshine.test"
local moonshine = require "moonshine"
local app = require "app"

describe("the gateway", function()
    local client

    before_each(function()
        client = t.client(app)
        client.headers["X-Key"] = "demo"
    end)

    it("asks for a key", function()
        local r = t.request(app, "GET", "/v1/home")
        assert(r.status == 401)
        assert(t.request(app, "GET", "/health").body == "fine\n")
    end)

    it("says what is missing when its services are gone", function()
        local r = client:get("/v1/home")
        assert(r.status == 502)
        t.same(r:json(), { client = "a demo", state = { news = "missing", weather = "missing" } })
        assert(client:get("/v1/feed").status == 502)
    end)

    it("tells how long each part took", function()
        local timing = client:get("/v1/home"):header("Server-Timing")
        t.match(timing, "news;dur=%d+%.%d")
        t.match(timing, "weather;dur=%d+%.%d")
        t.match(timing, "all;dur=%d+%.%d$")
    end)

    it("serves what it knew", function()
        moonshine.shared("known"):set("weather", '{"sky":"dark"}')
        moonshine.shared("known"):set("rates", '{"EUR":1}')
        local home = client:get("/v1/home"):json()
        assert(home.weather.sky == "dark" and home.state.weather == "stale")
        t.same(client:get("/v1/rates/eur"):json(), { currency = "EUR", rate = 1 })
        assert(client:get("/v1/rates/usd").status == 404)
        assert(client:get("/v1/rates/1").status == 404)
    end)
end)
