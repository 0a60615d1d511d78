local moonshine = require "moonshine"

local app = moonshine.app()

app:get("/", function() return "Hello, World!\n" end)
app:get("/hello/:name", function(c)
    return { hello = c:param("name") }
end)

return app
