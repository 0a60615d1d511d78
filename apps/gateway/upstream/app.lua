-- The services behind the gateway, all in one. /break makes one fail, /slow makes
-- one late, so that it can be seen what the gateway makes of it.
local moonshine = require "moonshine"
local app = moonshine.app()
local state = moonshine.shared("state")

local function service(name, value)
    app:get("/" .. name, function(c)
        if state:get("broken " .. name) then
            c:fail(503, "broken on purpose")
        end
        moonshine.sleep(state:get("slow " .. name) or 0)
        c:set_header("X-Seen-Id", c:header("X-Request-Id"))
        return value
    end)
end

service("rates", { EUR = 1, USD = 1.08, JPY = 163.2 })
service("news", { { title = "A moon was seen" }, { title = "It shone" } })
service("weather", { sky = "clear", degrees = 4 })

app:post("/break/:name", function(c)
    state:set("broken " .. c:param("name"), c:query("off") == nil)
end)
app:post("/slow/:name", function(c)
    state:set("slow " .. c:param("name"), c:query_int("ms", { default = 0 }) / 1000)
end)

app:get("/feed", function(c)
    c:stream(function(write)
        for i = 1, c:query_int("count", { default = 1000 }) do
            if not write("event " .. i) then
                return
            end
            moonshine.sleep("200ms")
        end
    end)
end)

return app
