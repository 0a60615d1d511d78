local t = require "moonshine.test"
local app = require "app"
local moonshine = require "moonshine"

local function client(token)
    local c = t.client(app)
    c.headers["Authorization"] = "Bearer " .. token
    return c
end

describe("todos", function()
    local anna, ben

    before_each(function()
        anna, ben = client("anna-secret"), client("ben-secret")
        for _, c in ipairs { anna, ben } do
            for _, todo in ipairs(c:get("/todos?per=100"):json().items) do
                c:delete("/todos/" .. todo.id)
            end
        end
    end)

    local function add(c, title)
        return c:post("/todos", { json = { title = title } }):json()
    end

    it("are for those who say who they are", function()
        local r = t.request(app, "GET", "/todos")
        assert(r.status == 401)
        assert(r:header("WWW-Authenticate") == 'Bearer realm="todo"')
        t.match(r:json().message, "Authorization: Bearer")
        assert(client("guess"):get("/todos").status == 401)
    end)

    it("are added, changed and removed", function()
        local r = anna:post("/todos", { json = { title = "buy milk", due = "2026-12-24" } })
        assert(r.status == 201)
        local url = r:header("Location")
        t.same(anna:get(url):json(), r:json())
        assert(anna:patch(url, { json = { done = true } }):json().done == true)
        assert(anna:patch(url, { json = { due = moonshine.json.null } }).status == 200)
        assert(anna:get(url):json().due == moonshine.json.null)
        assert(anna:delete(url).status == 204)
        assert(anna:get(url).status == 404)
        assert(anna:delete(url).status == 404)
    end)

    it("belong to one user each", function()
        local todo = add(anna, "mine")
        assert(ben:get("/todos/" .. todo.id).status == 404)
        assert(ben:get("/todos"):json().total == 0)
    end)

    it("come in pages", function()
        for i = 1, 5 do
            add(anna, "todo " .. i)
        end
        anna:patch("/todos/" .. anna:get("/todos"):json().items[1].id, { json = { done = true } })
        local r = anna:get("/todos?per=2&page=2")
        local page = r:json()
        assert(page.total == 5 and #page.items == 2 and page.items[1].title == "todo 3")
        t.match(r:header("Link"), 'page=1&per=2>; rel="prev"')
        t.match(r:header("Link"), 'page=3&per=2>; rel="next"')
        assert(anna:get("/todos?done=true"):json().total == 1)
        assert(anna:get("/todos?done=false"):json().total == 4)
    end)

    it("say what is wrong with each field", function()
        local r = anna:post("/todos", { json = { titl = "x", due = "tomorrow" } })
        assert(r.status == 422)
        t.same(r:json().details, {
            due = "must be a date such as 2026-01-31 or null",
            title = "is missing", titl = "is unknown, did you mean 'title'?",
        })
        assert(anna:get("/todos?page=0").status == 400)
        assert(anna:post("/todos", { body = "{", headers = {
            ["Content-Type"] = "application/json" } }).status == 400)
    end)

    it("are not sent again to who has them", function()
        local todo = add(anna, "once")
        local etag = anna:get("/todos/" .. todo.id):header("ETag")
        local r = anna:get("/todos/" .. todo.id, { headers = { ["If-None-Match"] = etag } })
        assert(r.status == 304)
        local stale = { ["If-Match"] = '"99"' }
        r = anna:patch("/todos/" .. todo.id, { json = { done = true }, headers = stale })
        assert(r.status == 412)
    end)

    it("are exported a line each", function()
        add(anna, "one")
        add(anna, "two")
        local r = anna:get("/export")
        assert(r:header("Content-Type") == "application/x-ndjson")
        local titles = {}
        for line in r.body:gmatch("[^\n]+") do
            table.insert(titles, moonshine.json.decode(line).title)
        end
        t.same(titles, { "one", "two" })
    end)
end)
