--- moonshine.metrics: counters, gauges and histograms of the application, printed
--- by /-/metrics of the admin listener.
---
--- The values are numbers in memory that all workers share, each writing its own
--- part; they outlive this code.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local methods = require "moonshine.metrics_methods"

local C = ffi.C
local M = {}

-- As in state/metrics.h.
local NAME_MAX, HELP_MAX, LABELS_MAX, LABEL_NAMES_MAX, BUCKETS_MAX = 127, 255, 10, 255, 30
local COUNTER, GAUGE, HISTOGRAM = 1, 2, 3
local kind_names = methods.kind_names

local default_buckets = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }

local texts, kept = ffi.new "moon_bytes[3]", ffi.new "bool[1]"

-- ---- declaring ----

local function check_name(name)
    fault.want(name, "string", "metrics: the name")
    if not name:find("^[%a_][%w_]*$") or #name > NAME_MAX then
        fault.raise("metrics: the name %q must be of letters, digits and _, not start with a "
            .. "digit, and have at most %d characters", name, NAME_MAX)
    elseif name:sub(1, 10) == "moonshine_" or name:sub(1, 8) == "process_" then
        fault.raise("metrics: names that start with moonshine_ or process_ belong to the server")
    end
end

local function check_help(help, name)
    if type(help) ~= "string" or help == "" then
        fault.raise("metrics: %s needs a help text: what does it count?", name)
    elseif #help > HELP_MAX then
        fault.raise("metrics: the help text of %s has more than %d bytes", name, HELP_MAX)
    elseif help:find("[%z\1-\9\11-\31\127]") then
        fault.raise("metrics: the help text of %s has control characters", name)
    end
end

local function check_labels(kind, labels, name)
    local list, seen = {}, {}
    for i, label in ipairs(labels == nil and {} or fault.want(labels, "table",
        "metrics: the labels of " .. name)) do
        if type(label) ~= "string" or not label:find("^[%a_][%w_]*$")
            or label:sub(1, 2) == "__" then
            fault.raise("metrics: the label %q of %s must be of letters, digits and _, and not "
                .. "start with a digit or with __", tostring(label), name)
        elseif kind == HISTOGRAM and label == "le" then
            fault.raise("metrics: the label 'le' of a histogram is its bounds")
        elseif seen[label] then
            fault.raise("metrics: %s has the label '%s' twice", name, label)
        end
        list[i], seen[label] = label, true
    end
    if #list > LABELS_MAX or #table.concat(list, ",") > LABEL_NAMES_MAX then
        fault.raise("metrics: %s has more than %d labels, or their names are too long", name,
            LABELS_MAX)
    end
    return list
end

local function check_buckets(buckets, name)
    buckets = buckets == nil and default_buckets
        or fault.want(buckets, "table", "metrics: the buckets of " .. name)
    local list = {}
    for i, bound in ipairs(buckets) do
        if type(bound) ~= "number" or bound ~= bound or bound == -math.huge
            or i > 1 and bound <= buckets[i - 1] then
            fault.raise("metrics: the buckets of %s must be rising numbers", name)
        end
        if bound < math.huge then -- the last one is there anyway
            list[i] = bound
        end
    end
    if #list == 0 or #list > BUCKETS_MAX then
        fault.raise("metrics: %s must have from 1 to %d buckets", name, BUCKETS_MAX)
    end
    return list
end

local known = {}  -- by name
local samples = {} -- the metric that prints lines of a name

local function describe(kind, labels, buckets)
    local text = "a " .. kind_names[kind]
    text = text .. (#labels == 0 and " without labels" or " of " .. table.concat(labels, ", "))
    return buckets and text .. " with the buckets " .. table.concat(buckets, ", ") or text
end

local function sample_names(kind, name)
    if kind == HISTOGRAM then
        return { name, name .. "_bucket", name .. "_sum", name .. "_count" }
    end
    return { name }
end

-- One that was declared before, if it is the same; raises if it is another.
local function find_known(kind, name, labels, buckets)
    local same = known[name]
    local shape = describe(kind, labels, buckets)
    if same and same.shape == shape then
        return same.metric
    elseif same then
        fault.raise("metrics: %s is declared here as %s, and at %s as %s", name, shape, same.place,
            same.shape)
    end
    for _, sample in ipairs(sample_names(kind, name)) do
        local other = samples[sample]
        if other then
            fault.raise("metrics: %s prints lines of the name %s, as %s does (declared at %s)",
                name, sample, other.name, other.place)
        end
    end
    return nil
end

local failures = {
    [-13] = "there are too many metrics (1000)",
    [-8] = "somebody holds the table of metrics",
}

local function add_to_table(kind, name, help, labels, buckets)
    local bounds = ffi.new("double[?]", buckets and #buckets or 1, buckets or {})
    local names = table.concat(labels, ",")
    for i, text in ipairs { name, help, names } do
        texts[i - 1].ptr, texts[i - 1].len = text, #text
    end
    local number = C.moon_metrics_add(kind, texts, bounds, buckets and #buckets or 0)
    if number < 0 then
        fault.raise("metrics: %s: %s", name, failures[number] or "out of memory")
    end
    return number, bounds
end

local function declare(kind, name, help, labels, buckets)
    check_name(name)
    check_help(help, name)
    labels = check_labels(kind, labels, name)
    buckets = kind == HISTOGRAM and check_buckets(buckets, name) or nil
    local same = find_known(kind, name, labels, buckets)
    if same then
        return same
    end
    local class = methods.class_of(kind, #labels)
    local number, bounds = add_to_table(kind, name, help, labels, buckets)
    local metric = setmetatable({
        kind = kind, name = name, labels = labels, number = number, cache = {},
        at = #labels == 0 and C.moon_metrics_cell(number, texts, 0, kept) or nil,
        buckets = bounds, bucket_count = buckets and #buckets or 0,
    }, class)
    local entry = { metric = metric, name = name, shape = describe(kind, labels, buckets),
        place = fault.where() or "?" }
    known[name] = entry
    for _, sample in ipairs(sample_names(kind, name)) do
        samples[sample] = entry
    end
    return metric
end

---@class moonshine.metrics.Counter
---@field inc fun(self, n?: number, ...: string|number) Adds n (1 if left out) for these labels.
---@field add fun(self, n: number, ...: string|number) The same, with n.

--- A number that only grows. Its name should end in _total.
---@param name string
---@param help string
---@param labels? string[]
---@return moonshine.metrics.Counter
function M.counter(name, help, labels)
    return declare(COUNTER, name, help, labels)
end

---@class moonshine.metrics.Gauge
---@field inc fun(self, n?: number, ...: string|number) Adds n (1 if left out) for these labels.
---@field add fun(self, n: number, ...: string|number) The same, with n, which may be negative.
---@field set fun(self, value: number, ...: string|number)

--- A number that goes up and down: the sum of what the workers that live say.
---@param name string
---@param help string
---@param labels? string[]
---@return moonshine.metrics.Gauge
function M.gauge(name, help, labels)
    return declare(GAUGE, name, help, labels)
end

---@class moonshine.metrics.Histogram
---@field observe fun(self, value: number, ...: string|number)

--- How values are spread: how many were at most each bound, and their sum.
---@param name string
---@param help string
---@param labels? string[]
---@param buckets? number[] Rising bounds, at most 30; default 0.005 to 10, for seconds.
---@return moonshine.metrics.Histogram
function M.histogram(name, help, labels, buckets)
    return declare(HISTOGRAM, name, help, labels, buckets)
end

return setmetatable(M, {
    __index = function(_, key)
        fault.raise("moonshine.metrics has no '%s'%s", tostring(key), fault.hint(key, M))
    end,
})
