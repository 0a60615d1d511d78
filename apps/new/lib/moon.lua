-- How the moon looks: good to a few hours, which is enough to look up.
local M = {}

local MONTH = 29.530588853 * 86400  -- from new moon to new moon
local NEW_MOON = 947182440          -- 2000-01-06 18:14 UTC
local NAMES = {
    "new moon", "waxing crescent", "first quarter", "waxing gibbous",
    "full moon", "waning gibbous", "last quarter", "waning crescent",
}

--- Noon of a day, in UTC.
---@param date string "2026-01-31"
---@return number time seconds since 1970
function M.noon(date)
    local year, month, day = date:match("^(%d+)-(%d+)-(%d+)$")
    year, month, day = tonumber(year), tonumber(month), tonumber(day)
    -- Days since 1970-01-01, in years that begin with March.
    if month <= 2 then
        year, month = year - 1, month + 12
    end
    local days = 365 * year + math.floor(year / 4) - math.floor(year / 100)
        + math.floor(year / 400) + math.floor((153 * month - 457) / 5) + day - 719469
    return days * 86400 + 43200
end

--- The moon at a time.
---@param time number seconds since 1970
---@return { name: string, lit: integer, age: number, shape: string } moon
--- lit: percent; age: days since new moon; shape: its bright part, a path for SVG
--- in a circle of radius 50
function M.at(time)
    local phase = (time - NEW_MOON) % MONTH / MONTH -- 0 new, 0.5 full
    local lit = (1 - math.cos(2 * math.pi * phase)) / 2
    -- The bright limb from top to bottom, then back along the shadow's edge.
    local shape = ("M0-50A50 50 0 0 %d 0 50A%.2f 50 0 0 %d 0-50Z"):format(
        phase < 0.5 and 1 or 0, 50 * math.abs(1 - 2 * lit),
        (phase < 0.25 or phase >= 0.5 and phase < 0.75) and 0 or 1)
    return {
        name = NAMES[math.floor(phase * 8 + 0.5) % 8 + 1],
        lit = math.floor(lit * 100 + 0.5),
        age = math.floor(phase * MONTH / 8640) / 10,
        shape = shape,
    }
end

return M
