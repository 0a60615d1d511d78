-- What would be a database: a module of the demo, reloaded with it.
local M = {}

local people = {
    { id = 1, name = "Ada", field = "notes on the engine" },
    { id = 2, name = "Grace", field = "compilers" },
    { id = 3, name = "Katherine", field = "trajectories" },
}

function M.list()
    return people
end

function M.find(id)
    return people[id]
end

return M
