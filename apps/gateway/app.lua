-- In front of other services: asks several at once, survives those that are slow
-- or gone, refreshes in the background, passes streams on.
local moonshine = require "moonshine"
local http = require "http"
local marks = require "marks"

local app = moonshine.app()
local upstream = moonshine.config().upstream
local known = moonshine.shared("known") -- the last good answer of each service

-- ---- middleware, from the outside in ----

app:security_headers {}
app:use(marks.timing)

-- What goes on to a service carries the id under which this request is logged.
local function headers_for(c)
    return { ["X-Request-Id"] = c and c:request_id() or "refresh", ["Accept"] = "application/json" }
end

local function require_key(c, proceed)
    local client = moonshine.config().keys[c:header("X-Key") or ""]
    if not client then
        c:fail(401, "send X-Key")
    end
    c:set("client", client)
    return proceed(c)
end

-- ---- asking ----

-- The JSON of a service: fresh, or what it said last; nil if it never answered.
local function ask(name, c)
    local answer, message = http.get(upstream .. "/" .. name, {
        timeout = "500ms", headers = headers_for(c),
    })
    if answer and answer.status == 200 then
        known:set(name, answer.body)
        return moonshine.json.decode(answer.body), "fresh"
    end
    moonshine.log.warn(name .. " does not answer", {
        why = message or "status " .. answer.status })
    local last = known:get(name)
    return last and moonshine.json.decode(last), last and "stale" or "missing"
end

-- Rates are always there already: one worker asks for them, all of them answer.
moonshine.every("5s", function() ask("rates") end, { name = "refresh rates", now = true })

-- ---- routes ----

app:get("/health", function() return "fine\n" end)

app:group("/v1", require_key, function(v1)
    -- Two services at once; the answer says how good each part is.
    v1:get("/home", function(c)
        local parts = { client = c:get("client"), state = {} }
        local function part(name)
            return function()
                local stop = marks.start(c, name)
                parts[name], parts.state[name] = ask(name, c)
                stop()
            end
        end
        moonshine.all(part "news", part "weather")
        return parts, parts.state.news == "missing" and 502 or 200
    end, { timeout = "2s" })

    v1:get("/rates/:currency<alpha>", function(c)
        local rates = moonshine.json.decode(known:get("rates") or "{}")
        local rate = rates[c:param("currency"):upper()] or c:fail(404, "no such currency")
        return { currency = c:param("currency"):upper(), rate = rate }
    end)

    -- Events of a service, passed on as they come; ends with either side.
    v1:get("/feed", function(c)
        local feed, message = http.open(upstream .. "/feed", { headers = headers_for(c) })
        if not feed then
            c:fail(502, "the feed is not there: " .. message)
        end
        c:stream(function(write)
            for piece in feed.pieces do
                if not write({ data = piece }) then
                    break
                end
            end
            feed.close()
        end, "events")
    end)
end)

return app
