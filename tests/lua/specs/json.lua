local json = require("moonshine").json
local support = require "specs.support"

return {
    ["round trip"] = function()
        local text = '{"a":[1,2.5,"x",true,null,[],{}]}'
        local value = json.decode(text)
        assert(value.a[5] == json.null)
        assert(json.is_array(value.a[6]) and not json.is_array(value.a[7]))
        assert(json.encode(value) == text)
    end,

    ["bad text"] = function()
        local value, message, code = json.decode("{]")
        assert(value == nil and message:find("line 1") and code == 400)
    end,

    ["bad value"] = function()
        support.raises(".a[2]", json.encode, { a = { 1, print } })
    end,
}
