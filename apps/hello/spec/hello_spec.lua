local t = require "moonshine.test"
local app = require "app"

it("greets the world", function()
    t.equal(t.request(app, "GET", "/").body, "Hello, World!\n")
end)

it("greets who asks", function()
    t.same(t.request(app, "GET", "/hello/the%20moon"):json(), { hello = "the moon" })
end)
