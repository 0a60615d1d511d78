-- What tests/bench/run asks of Moonshine.
local moonshine = require "moonshine"
local app = moonshine.app()

app:get("/text", function() return "Hello, World!" end)

-- Three middleware: before, instead and after.
local served = 0

local function served_by(c, proceed)
    c:set_header("X-Served-By", "bench")
    return proceed(c)
end

local function require_key(c, proceed)
    if c:header("X-Key") ~= "moon" then
        c:fail(401, "send X-Key")
    end
    return proceed(c)
end

local function count(c, proceed)
    local body, status = proceed(c)
    served = served + 1
    return body, status
end

app:group("/users", served_by, require_key, count, function(users)
    users:get("/:id", function(c)
        return { id = c:param("id"), name = "Anna" }
    end)
end)

app:post("/echo", function(c) return c:bind() end)

local big = ("x"):rep(65536)
app:get("/big", function() return big end)

app:get("/refused", moonshine.limit.token_bucket { rate = 1, per = "1h", burst = 1 },
    function() return "passed" end)

app:static("/static", "static")

app:get("/login", function(c)
    c:session():set("user", "anna")
    return "welcome"
end)

app:get("/session", function(c)
    local session = c:session()
    session:set("count", (session:get("count") or 0) + 1)
    return session:get("user")
end)

app:get("/count", function(c) return tostring(c:session():get("count")) end)

app:get("/version", function() return "VERSION" end)

return app
