-- What specs share.
local M = {}

--- Raises unless fn raises a text that contains `words`.
function M.raises(words, fn, ...)
    local ok, message = pcall(fn, ...)
    assert(not ok, "it did not raise: " .. words)
    assert(tostring(message):find(words, 1, true), ("%q is not in %q"):format(words,
        tostring(message)))
end

--- Raises unless both are equal, deeply.
function M.same(a, b, where)
    where = where or "value"
    if type(a) == "table" and type(b) == "table" then
        for key in pairs(a) do
            M.same(a[key], b[key], where .. "." .. tostring(key))
        end
        for key in pairs(b) do
            M.same(a[key], b[key], where .. "." .. tostring(key))
        end
    elseif a ~= b then
        error(("%s: %s is not %s"):format(where, tostring(a), tostring(b)), 2)
    end
end

return M
