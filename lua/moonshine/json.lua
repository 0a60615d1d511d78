--- moonshine.json: the codec of the core (RFC 8259, strict).
---@class moonshine.json
---@field encode fun(value: any): string Raises, naming the path, for what has no JSON form.
---@field decode fun(text: string): any, string?, integer? Value, or nil, message, 400.
---@field null userdata Stands for null, which a table cannot hold.
---@field array fun(t?: table): table Marks a list, so that an empty one prints as [].
---@field is_array fun(t: any): boolean
return require("moonshine.native").json
