-- Routes whose code must be compiled, beyond those of the demo: for bench/traces.
local moonshine = require "moonshine"
local json = moonshine.json
local app = moonshine.app()

app:get("/text/:name", function(c)
    return "Hello, " .. c:param("name") .. "!"
end)

app:post("/json", function(c)
    local value = json.decode(c:body())
    return { seen = value.name, count = #value.tags }
end)

app:post("/bind", function(c)
    local form = c:bind {
        name = "string(1..40)", age = "integer(0..150)",
        tags = { "string(1..20)", max = 5, optional = true },
    }
    return { hello = form.name, next = form.age + 1 }, 201
end)

app:get("/search", function(c)
    local page = c:query_int("page", { default = 1, min = 1, max = 100 })
    return { page = page, word = c:query("word") }
end)

app:get("/counter", function(c)
    local session = c:session()
    local count = (session:get("count") or 0) + 1
    session:set("count", count)
    return ("%d\n"):format(count)
end)

app:get("/visitor", function(c)
    local session = c:session()
    if not session:get("name") then
        session:set("name", "Anna")
    end
    return session:get("name")
end)

app:get("/visits", function(c)
    local session = c:session()
    local visits = session:get("visits") or { places = {} }
    visits.places[1] = "moon"
    session:set("name", "Anna")
    session:set("visits", visits)
    session:delete("old")
    return tostring(#visits.places)
end)

return app
