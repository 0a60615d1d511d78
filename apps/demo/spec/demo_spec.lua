-- The demo's own tests: moonshine test apps/demo
local t = require "moonshine.test"
local app = require "app"
local moonshine = require "moonshine"

describe("users", function()
    it("are JSON, through three middleware", function()
        local response = t.request(app, "GET", "/users/1")
        assert(response.status == 200)
        t.same(response:json(), { id = 1, name = "user 1", admin = true })
        t.match(response:header("Server-Timing"), "^app;dur=%d")
        t.equal(response:header("Cache-Control"), "no-store")
    end)
    it("have numbers", function()
        t.equal(t.request(app, "GET", "/users/moon").status, 404)
    end)
end)

describe("what breaks", function()
    it("hurts only itself", function()
        t.equal(t.request(app, "GET", "/panic").status, 500)
        t.match(t.log()[1].message, "faults.lua:%d+: attempt to index local 'user'")
        t.equal(t.request(app, "GET", "/spin").status, 503)
        t.equal(t.request(app, "GET", "/hello").body, "Hello, World!\n")
    end)
end)

it("lets ten through, then five a second", function()
    local function ask()
        return t.request(app, "GET", "/limited", { ip = "192.0.2.1" }).status
    end
    for _ = 1, 10 do
        t.equal(ask(), 200)
    end
    t.equal(ask(), 429)
    t.advance("1s")
    for _ = 1, 5 do
        t.equal(ask(), 200)
    end
    t.equal(ask(), 429)
end)

it("is limited", function()
    local function ask()
        return t.request(app, "GET", "/limited-cluster", { ip = "192.0.2.1" })
    end
    for _ = 1, 3 do
        t.equal(ask().status, 200)
    end
    local refused = ask()
    t.equal(refused.status, 429)
    t.equal(refused:header("Retry-After"), "2")
    t.advance("2s")
    t.equal(ask().status, 200)
end)

it("sleeps without holding up anybody", function()
    local sleeper = moonshine.spawn(function()
        return t.request(app, "GET", "/sleep?ms=10000").body
    end)
    t.equal(t.request(app, "GET", "/hello").status, 200)
    t.advance("10s") -- nobody waits for it here
    t.same({ sleeper:wait("5s") }, { true, "slept 10000 ms\n" })
end)

it("answers with the body", function()
    local response = t.request(app, "POST", "/echo", { json = { a = 1 } })
    t.equal(response:header("X-Body-Bytes"), "7")
    t.same(response:json(), { a = 1 })
end)

describe("sessions", function()
    it("count for each visitor", function()
        local ann, bob = t.client(app), t.client(app)
        t.same(ann:get("/counter"):json(), { count = 1 })
        t.same(ann:get("/counter"):json(), { count = 2 })
        t.same(bob:get("/counter"):json(), { count = 1 })
        t.same(t.request(app, "GET", "/counter", { session = { count = 41 } }):json(),
            { count = 42 })
    end)
    it("know who is in, under a new id", function()
        local client = t.client(app)
        client:get("/counter")
        local before = client:cookie("id")
        t.same(client:post("/login", { json = { user = "ann" } }):json(), { user = "ann" })
        assert(client:cookie("id") ~= before)
        t.same(client:get("/counter"):json(), { count = 2, user = "ann" })
        t.equal(client:post("/logout").status, 204)
        t.equal(client:cookie("id"), nil)
        t.same(client:get("/counter"):json(), { count = 1 })
        t.equal(client:post("/login", { json = {} }).status, 422)
    end)
    it("end half an hour after the last request", function()
        local client = t.client(app)
        for count = 1, 3 do
            t.equal(client:get("/counter"):json().count, count)
            t.advance("29m")
        end
        t.advance("1m")
        t.equal(client:get("/counter"):json().count, 1)
    end)
end)

it("has a page for what is not there", function()
    local response = t.request(app, "GET", "/nowhere")
    t.equal(response.status, 404)
    t.match(response.body, "/nowhere")
end)
