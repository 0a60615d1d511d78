--- What r:pipeline and r:multi send: commands that are written down first.
local commands = require "moonshine.redis_commands"
local fault = require "moonshine.fault"
local native = require "moonshine.native"

local text_of = native.redis.text
local READ_ONLY, ATOMIC = 1, 2 -- of state/redis.h

local M = {}

-- Any command is a method and returns the recorder, so that they chain.
local Recorder = {}

local function add(self, spec, ...)
    local list = rawget(self, 1)
    if not list then
        fault.raise("redis: %s: what %s records ends with its function", spec.name, self[3])
    end
    local block = commands.check(spec, self[2], ...)
    if block and self[4] then
        fault.raise("redis: %s cannot block within a transaction", spec.name)
    end
    local command = {
        spec.name, key = spec.key, read_only = spec.read_only,
        map = spec.map ~= nil and spec.map(...),
    }
    if type(command.key) ~= "number" then
        command.key = command.key(...)
    end
    for i = 1, select("#", ...) do
        local value = select(i, ...)
        command[i + 1] = type(value) == "number" and text_of(value) or value
        if type(command[i + 1]) ~= "string" then
            fault.raise("redis: %s: argument %d must be a string or a number, not a %s", spec.name,
                i, type(value))
        end
    end
    list[#list + 1] = command
    self[5] = self[5] + (block or 0)
    return self
end

function Recorder.call(self, name, ...)
    return add(self, commands.find(name, "redis: call"), ...)
end

local nested = fault.set "pipeline multi prepare dedicated subscribe psubscribe"

function Recorder.__index(self, name)
    if name == "call" then
        return Recorder.call
    elseif nested[name] then
        fault.raise("redis: %s is a method of the client, not of what %s records", name, self[3])
    end
    local spec = commands.find(name, "redis")
    return function(recorder, ...)
        if recorder ~= self then
            fault.raise("redis: %s: call it with a colon", spec.name)
        end
        return add(self, spec, ...)
    end
end

--- Runs fn with a recorder: the list of its commands, and for how long they may block in
--- milliseconds.
function M.record(own, atomic, what, fn)
    local recorder = setmetatable({ {}, own, what, atomic, 0 }, Recorder)
    fn(recorder)
    local list = recorder[1]
    recorder[1] = false
    return list, recorder[5]
end

--- How the core is to send them.
function M.flags(list, atomic)
    if atomic then
        return ATOMIC
    end
    for _, command in ipairs(list) do
        if not command.read_only then
            return 0
        end
    end
    return READ_ONLY
end

return M
