-- A JSON API: who may call it, what it takes, what it answers when something is
-- wrong. Each user has a list of their own.
local moonshine = require "moonshine"
local auth = require "auth"
local store = require "store"

local app = moonshine.app()

-- Every failure looks the same to a client, whatever raised it. What a bug says
-- is for the log.
app:on_error(function(c, err)
    return {
        error = err.kind, details = err.details,
        message = err.status < 500 and err.message or "see the log",
        request_id = c:request_id(),
    }, err.status
end)
app:on(404, { error = "not_found", message = "there is no such thing" })

local title, due = "string(1..200)", "date|null"

app:group("/todos", auth.bearer, function(todos)
    -- A page of them, with links to the pages around it.
    todos:get("", function(c, input)
        local query = input.query
        local page, total = store.page(c:get("user"), query)
        local last = math.max(1, math.ceil(total / query.per))
        local function link(number, rel)
            if number >= 1 and number <= last and number ~= query.page then
                local url = c:url("todos", nil, { page = number, per = query.per })
                c:add_header("Link", ('<%s>; rel="%s"'):format(url, rel))
            end
        end
        link(query.page - 1, "prev")
        link(query.page + 1, "next")
        return { items = page, page = query.page, per = query.per, total = total }
    end, { name = "todos", input = { query = {
        page = "integer(1..100000) = 1", per = "integer(1..100) = 20", done = "boolean?",
    } } })

    todos:post("", function(c, input)
        local todo = store.add(c:get("user"), input.body)
        c:set_header("Location", c:url("todo", { id = todo.id }))
        return todo, 201
    end, { input = { body = { title = title, due = due .. "?" } } })

    todos:get("/:id<int>", function(c)
        local todo = store.get(c:get("user"), c:param("id")) or c:fail(404)
        if c:etag(todo.version) then
            return
        end
        return todo
    end, { name = "todo" })

    todos:patch("/:id<int>", function(c, input)
        local user, id = c:get("user"), c:param("id")
        -- A client that sends the version it saw loses no change of another.
        c:etag((store.get(user, id) or c:fail(404)).version)
        return store.change(user, id, input.body) or c:fail(404)
    end, { input = { body = { title = title .. "?", due = due .. "?", done = "boolean?" } } })

    todos:delete("/:id<int>", function(c)
        if not store.remove(c:get("user"), c:param("id")) then
            c:fail(404)
        end
    end)
end)

-- All of a user's, a line each, for programs.
app:get("/export", auth.bearer, function(c)
    local list = store.all(c:get("user"))
    c:stream(function(write)
        for _, todo in ipairs(list) do
            if not write(todo) then
                return
            end
        end
    end, "ndjson")
end)

return app
