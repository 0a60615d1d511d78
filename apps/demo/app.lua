-- A tour of Moonshine: apps/run, then http://127.0.0.1:8080/
-- Change a line here, `moonshine reload`, and ask again.
local moonshine = require "moonshine"
local people = require "people"

local app = moonshine.app()

-- Middleware: code before and after the handler. It covers what is registered
-- after this line.
local function timed(c, proceed)
    local began = moonshine.clock()
    local body, status = proceed(c)
    local took = (moonshine.clock() - began) * 1000
    c:set_header("Server-Timing", ("app;dur=%.1f"):format(took))
    return body, status
end
app:use(timed)

app:get("/", function(c)
    c:send_file("public/index.html")
end)
app:static("/static", "public", { max_age = 60 })

app:get("/hello", function()
    return "Hello, World!"
end)

-- Who answers: ask several times, and see the connections spread.
app:get("/whoami", function(c)
    return {
        node = moonshine.node(),
        worker = moonshine.worker().id,
        generation = c:generation(),
        ip = c:ip(),
    }
end)

-- Groups share a prefix and middleware.
local function require_key(c, proceed)
    if c:header("X-Api-Key") ~= "moon" then
        c:fail(401, "send the header X-Api-Key: moon")
    end
    return proceed(c)
end

app:group("/api", require_key, function(api)
    api:get("/people", function()
        return { people = people.list() }
    end)

    api:get("/people/:id<int>", function(c)
        local person = people.find(c:param("id"))
        if not person then
            c:fail(404, "nobody has this number")
        end
        return person
    end, { name = "person" })
end)

-- A response in pieces (server-sent events). The handler yields between them,
-- and the worker serves others meanwhile.
app:get("/clock", function(c)
    c:set_header("Content-Type", "text/event-stream")
    c:set_header("Cache-Control", "no-store")
    c:stream(function(write)
        for _ = 1, 10 do
            local ok = write("data: " .. os.date("!%H:%M:%S") .. "\n\n")
            if not ok or c:closing() then
                return
            end
            moonshine.sleep(1)
        end
    end)
end)

app:get("/slow", function()
    moonshine.sleep(2)
    return "slept for two seconds, and held up nobody"
end)

-- What goes wrong in one request stays in that request. The first answers 500,
-- the others 503, and the log says where it happened.
app:get("/panic", function()
    error("this handler always fails")
end)

app:get("/spin", function()
    while true do end
end)

app:get("/hog", function()
    local hoard = {}
    while true do
        hoard[#hoard + 1] = ("x"):rep(1024) .. #hoard
    end
end)

app:on(404, { error = "no such page", see = "/" })

return app
