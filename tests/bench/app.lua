-- Routes that the benchmarks ask for: small, so that the server is measured.
local moonshine = require "moonshine"
local app = moonshine.app()

app:get("/hello", function() return "Hello, World!" end)

app:get("/worker", function() return tostring(moonshine.worker().id) end)

-- For `bench/instructions --status 429 --others 1 /refused`.
app:get("/refused", moonshine.limit.token_bucket { rate = 1, per = "1h", burst = 1 },
    function() return "passed" end)

local counted = moonshine.metrics.counter("counted_total", "What /counted has served", { "method" })

app:get("/counted", function()
    counted:inc("GET")
    return "Hello, World!"
end)

local function pass(c, proceed)
    return proceed(c)
end

local function header(c, proceed)
    c:set_header("X-Served-By", "bench")
    return proceed(c)
end

app:group("/", pass, header, function(api)
    api:use(function(c, proceed)
        local body, status = proceed(c)
        return body, status
    end)
    api:get("/users/:id", function(c)
        return { id = c:param("id"), name = "Anna" }
    end)
end)

app:post("/orders", function(c)
    return c:bind {
        item = "string(1..80)", count = "integer(1..99)", price = "number",
        gift = "boolean", color = "'red'|'green'",
    }
end)

-- A page: 20 rows of four values, some of which need escaping.
local rows = {}
for i = 1, 20 do
    rows[i] = {
        id = i, name = "User number " .. i, email = "user" .. i .. "@example.com",
        note = i % 5 == 0 and "likes <b>bold</b> & \"quotes\"" or "plain",
    }
end
app:get("/table", function(c)
    c:render("table", { title = "List", items = rows })
end)

return app
