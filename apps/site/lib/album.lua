-- The pictures: files in a directory, what is known of them in a shared dictionary.
-- A service would have a database here, behind the same functions.
local moonshine = require "moonshine"
local json = moonshine.json

local M = { dir = moonshine.config().pictures }

local PER_PAGE = 12
local dict = moonshine.shared("album")

-- What the bytes say, whatever the client calls them.
local kinds = {
    { head = "\137PNG\r\n\26\n", type = "image/png", extension = ".png" },
    { head = "\255\216\255", type = "image/jpeg", extension = ".jpg" },
    { head = "GIF8", type = "image/gif", extension = ".gif" },
    { head = "RIFF....WEBP", type = "image/webp", extension = ".webp" },
}

--- The kind of an upload, from its first bytes; nil if it is no picture.
function M.kind_of(upload)
    local head = upload:read(16) or ""
    for _, kind in ipairs(kinds) do
        if head:find("^" .. kind.head) then
            return kind
        end
    end
    return nil
end

--- One, or nil.
function M.get(id)
    local text = dict:get("picture " .. id)
    return text and json.decode(text)
end

--- Those of a page, the newest first; and how many pages there are.
function M.page(number)
    local last = dict:get("last") or 0
    local pictures = json.array {}
    local from = last - (number - 1) * PER_PAGE
    for id = from, math.max(from - PER_PAGE + 1, 1), -1 do
        pictures[#pictures + 1] = M.get(id)
    end
    return pictures, math.max(1, math.ceil(last / PER_PAGE))
end

--- Keeps an upload and returns what is known of it.
function M.add(title, upload, kind, user)
    local id = dict:incr("last", 1, 0)
    local picture = {
        id = id, title = title, user = user, type = kind.type, size = upload.size,
        file = id .. kind.extension, added = moonshine.http_time(),
    }
    assert(upload:save(M.dir .. "/" .. picture.file))
    assert(dict:set("picture " .. id, json.encode(picture)))
    return picture
end

return M
