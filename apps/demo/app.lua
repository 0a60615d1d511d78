-- The demo: one route for each thing that the server does, good and bad.
-- Edit a route, send SIGUSR1 (or run `moonshine reload`), and look again.
local moonshine = require "moonshine"
local faults = require "faults"

local app = moonshine.app()

-- Middleware: code before and after the rest of the chain.
local function timed(c, proceed)
    local started = moonshine.clock()
    local body, status = proceed(c)
    c:set_header("Server-Timing",
        ("app;dur=%.2f"):format((moonshine.clock() - started) * 1e3))
    return body, status
end

local function versioned(c, proceed)
    c:set_header("X-Generation", c:generation())
    return proceed(c)
end

local function no_store(c, proceed)
    c:set_header("Cache-Control", "no-store")
    return proceed(c)
end

app:security_headers { csp = "default-src 'self'; style-src 'self'", frame = "DENY" }

app:get("/", function(c)
    c:render("home", {
        node = moonshine.node(),
        worker = moonshine.worker(),
        generation = moonshine.generation(),
        version = moonshine.version,
    })
end, { name = "home" })

app:get("/hello", function() return "Hello, World!\n" end)

app:group("/users", timed, versioned, no_store, function(users)
    users:get("/:id<int>", function(c)
        local id = c:param("id")
        return { id = id, name = "user " .. id, admin = id == 1 }
    end, { name = "user" })
end)

-- What comes back is as anybody wrote it: only of a type that no browser runs.
local HARMLESS = { ["application/json"] = true, ["text/plain"] = true }

app:post("/echo", function(c)
    local kind = c:header("Content-Type")
    c:set_header("X-Body-Bytes", tostring(#c:body()))
    return c:bytes(c:body(), HARMLESS[kind] and kind or "application/octet-stream")
end, { body_limit = "4m" })

-- Ten at once, then five a second, for each client.
app:get("/limited", moonshine.limit.token_bucket { rate = 5, burst = 10 }, function()
    return "one of ten\n"
end)

-- Three at once, then one every two seconds: by all nodes that share a Redis, which
-- `--set redis.url=redis://127.0.0.1` names; by this one without.
app:get("/limited-cluster", moonshine.limit.token_bucket {
    rate = 1, per = "2s", burst = 3, scope = "cluster", name = "demo",
}, function() return "one of three\n" end)

-- What the core keeps of a browser. It begins when something is set, and two
-- requests at the same time count as two.
app:get("/counter", no_store, function(c)
    local session = c:session()
    local count, message, code = session:update(function(view)
        local count = (view:get("count") or 0) + 1
        view:set("count", count)
        return count
    end)
    if not count then
        c:fail(code, message)
    end
    return { count = count, user = session:get("user") }
end)

-- A new id for who comes in: whoever knew the old one is not let in with them.
app:post("/login", function(c)
    local user = c:bind({ user = "string(1..40)" }).user
    local session = c:session()
    session:renew()
    session:subject(user)
    session:set("user", user)
    return { user = user }
end)

app:post("/logout", function(c)
    c:session():destroy()
end)

-- Waits without holding up anybody else on this worker.
app:get("/sleep", function(c)
    local ms = c:query_int("ms", { default = 100, min = 0, max = 10000 })
    moonshine.sleep(ms / 1000)
    return ("slept %d ms\n"):format(ms)
end)

-- Ten lines, one every 100 ms: chunked, and it ends early if the client left. If the
-- server stops it goes on: it has an end of its own, for which the server waits.
app:get("/stream", function(c)
    local count = c:query_int("count", { default = 10, min = 1, max = 1000 })
    local ms = c:query_int("ms", { default = 100, min = 0, max = 1000 })
    c:stream(function(write)
        for i = 1, count do
            local line = ("line %d of generation %d\n"):format(i, moonshine.generation())
            local _, why = write(line)
            if why == "closed" then
                return
            end
            moonshine.sleep(ms / 1000)
        end
    end)
end)

-- What breaks, and hurts only itself.
app:get("/panic", faults.panic)
app:get("/spin", faults.spin)
app:get("/hog", faults.hog)
if moonshine.dev then
    app:get("/crash", faults.crash)
end

app:static("/assets", "public", { max_age = "1h" })

app:on(404, function(c)
    c:render("not_found", {}, 404)
end)

return app
