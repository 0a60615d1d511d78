-- @NAME@: what it answers. Save this file while `moonshine run --dev` serves it,
-- and the browser has the new version.
local moonshine = require "moonshine"
local moon = require "moon" -- lib/moon.lua

local app = moonshine.app()

app:security_headers { csp = "default-src 'self'", frame = "DENY" }

-- A page: views/home.html, with these names in it.
app:get("/", function(c)
    c:render("home", { moon = moon.at(moonshine.now()) })
end, { name = "home" })

-- Text, with a part of the path.
app:get("/hello/:name", function(c)
    return "Hello, " .. c:param("name") .. "!\n"
end)

-- JSON. What it takes is checked before it runs: another `date` is answered 400,
-- and says why. A `body` shape does the same for POST.
app:get("/api/moon", function(_, input)
    local date = input.query.date
    return moon.at(date and moon.noon(date) or moonshine.now())
end, { input = { query = { date = "date?" } } })

-- Files, without Lua.
app:static("/assets", "public", { max_age = "1h" })

-- What goes wrong looks like the other pages, or is JSON for programs. Nobody is
-- told about bugs: the log says more, and so does the page of --dev.
local function failed(c, err)
    local message = err.message
    if err.status == 404 then
        message = "there is no " .. c:path()
    elseif err.status >= 500 then
        message = "a fault of ours, " .. c:request_id()
    end
    if c:accepts("json", "html") == "html" then
        c:render("error", { status = err.status, message = message }, err.status)
        return
    end
    return { error = message, details = err.details }, err.status
end
app:on(404, failed)
app:on_error(failed)

return app
