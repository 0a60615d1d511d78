-- Where the todos are: a shared dictionary, one JSON text for each user. It lives
-- as long as the node. A service would have a database here, behind the same
-- functions.
local moonshine = require "moonshine"
local json = moonshine.json

local M = {}

local dict = moonshine.shared("todos")

local function read(user)
    local text = dict:get(user)
    return text and json.decode(text) or { next_id = 1, items = json.array {} }
end

-- Changes a user's list, one request at a time, and keeps it.
local function update(user, change)
    local _, result = moonshine.lock("todos of " .. user, "5s", function()
        local list = read(user)
        local result = change(list)
        assert(dict:set(user, json.encode(list)))
        return result
    end, { wait = "5s" })
    return result
end

local function find(list, id)
    for index, todo in ipairs(list.items) do
        if todo.id == id then
            return todo, index
        end
    end
    return nil
end

--- All of a user's todos, oldest first.
function M.all(user)
    return read(user).items
end

--- One page of those that are done, not done, or (nil) all; and how many there are.
function M.page(user, query)
    local page, total = json.array {}, 0
    local first = (query.page - 1) * query.per
    for _, todo in ipairs(M.all(user)) do
        if query.done == nil or todo.done == query.done then
            total = total + 1
            if total > first and #page < query.per then
                page[#page + 1] = todo
            end
        end
    end
    return page, total
end

--- One, or nil.
function M.get(user, id)
    return (find(read(user), id))
end

--- Adds one and returns it.
function M.add(user, values)
    return update(user, function(list)
        local todo = {
            id = list.next_id, version = 1, title = values.title, due = values.due, done = false,
        }
        list.next_id = list.next_id + 1
        table.insert(list.items, todo)
        return todo
    end)
end

--- Changes the fields that `values` has; the todo, or nil.
function M.change(user, id, values)
    return update(user, function(list)
        local todo = find(list, id)
        if todo then
            for key, value in pairs(values) do
                todo[key] = value
            end
            todo.version = todo.version + 1
        end
        return todo
    end)
end

--- Removes one. Was it there?
function M.remove(user, id)
    return update(user, function(list)
        local todo, index = find(list, id)
        if todo then
            table.remove(list.items, index)
        end
        return todo ~= nil
    end)
end

return M
