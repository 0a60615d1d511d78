-- A small web site: pages made on the server, forms, pictures. No script needed.
local moonshine = require "moonshine"
local album = require "album"

local app = moonshine.app()

app:security_headers { csp = "default-src 'self'", frame = "DENY" }
app:static("/assets", "public", { max_age = "1h" })
app:use(moonshine.csrf {})

-- What every page needs beside its own data.
local function page(c, view, data, status)
    data.notice = c:session():flash("notice")
    data.user = c:session():get("user")
    c:render(view, data, status)
end

local function require_user(c, proceed)
    if not c:session():get("user") then
        c:session():flash("notice", "Say who you are first.")
        return c:redirect(c:url("login"))
    end
    return proceed(c)
end

-- ---- pictures ----

app:get("/", function(c)
    local number = c:query_int("page", { default = 1, min = 1, max = 10000 })
    local pictures, pages = album.page(number)
    page(c, "index", { pictures = pictures, page = number, pages = pages })
end, { name = "home" })

app:get("/pictures/:id<int>", function(c)
    page(c, "picture", { picture = album.get(c:param("id")) or c:fail(404) })
end, { name = "picture" })

app:get("/pictures/:id<int>/file", function(c)
    local picture = album.get(c:param("id")) or c:fail(404)
    c:set_header("Content-Type", picture.type)
    c:send_file(picture.file, { root = album.dir, max_age = "30d" })
end, { name = "file" })

app:get("/new", require_user, function(c)
    page(c, "new", { values = {}, errors = {} })
end, { name = "new" })

app:post("/new", require_user, function(c)
    local values, _, status, errors = c:try_bind {
        title = "string(1..80)", picture = "upload(1..5m)", _csrf = "any?",
    }
    local kind = values and album.kind_of(values.picture)
    if values and not kind then
        values, status, errors = nil, 422, { picture = "must be a PNG, JPEG, GIF or WebP picture" }
    end
    if not values then
        return page(c, "new", { values = c:forms(), errors = errors or {} }, status)
    end
    local picture = album.add(values.title, values.picture, kind, c:session():get("user"))
    c:session():flash("notice", "Your picture is up.")
    c:redirect(c:url("picture", { id = picture.id }))
end, { body_limit = "6m" })

-- ---- who ----

app:get("/login", function(c) page(c, "login", { name = "" }) end, { name = "login" })

-- Whoever says a name is taken at their word; a password would be checked here with
-- moonshine.crypto.password_verify.
app:post("/login", function(c)
    local values, message = c:try_bind { name = "string(1..40)", _csrf = "any?" }
    if not values then
        return page(c, "login", { name = c:form("name") or "", problem = message }, 422)
    end
    local session = c:session()
    session:renew() -- a new id whenever rights change
    session:subject(values.name)
    session:set("user", values.name)
    session:flash("notice", "Hello, " .. values.name .. ".")
    c:redirect(c:url("home"))
end)

app:post("/logout", function(c)
    c:session():destroy()
    c:redirect(c:url("home"))
end, { name = "logout" })

-- ---- failures ----

app:on(404, function(c)
    page(c, "message", { title = "Nothing here", text = "There is no page at this address." }, 404)
end)
app:on(403, function(c, err)
    page(c, "message", { title = "Not from here", text = err.message }, 403)
end)
app:on(413, { error = "the picture is larger than 5 MiB" })

return app
