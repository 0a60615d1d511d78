-- The smallest application: moonshine run apps/hello
local moonshine = require "moonshine"

local app = moonshine.app()

app:get("/", function()
    return "Hello, World!"
end)

app:get("/hello/:name", function(c)
    return "Hello, " .. c:param("name") .. "!"
end)

return app
