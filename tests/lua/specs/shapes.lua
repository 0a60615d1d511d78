-- Shapes: what they take, what they refuse, and in which words.
local json = require "moonshine.json"
local shape = require "moonshine.shape"
local shape_code = require "moonshine.shape_code"
local shape_text = require "moonshine.shape_text"
local support = require "specs.support"

local T = {}

-- Checks a JSON text against a shape: the result as JSON (keys in order where it
-- matters by having one), or the complaints.
local function check(wanted, value, text)
    local result, err = shape_code.compile(shape.read(wanted), text)(value)
    if not err then
        return json.encode(result)
    elseif type(err) == "string" then
        return err
    end
    local parts = {}
    for i, one in ipairs(err) do
        parts[i] = one[1] .. " " .. one[2]
    end
    return table.concat(parts, "; ")
end

local function check_json(wanted, text)
    local value, message = json.decode(text)
    assert(not message, message)
    return check(wanted, value)
end

local function expect(samples, fn)
    for _, sample in ipairs(samples) do
        local got = fn(sample[1], sample[2])
        if got ~= sample[3] then
            error(("%s against %s: %q, not %q"):format(sample[2], tostring(sample[1]), got,
                sample[3]), 0)
        end
    end
end

function T.plain_types()
    expect({
        { "string", '"x"', '"x"' }, { "string", "1", "must be a string" },
        { "string", "null", "must be a string" },
        { "string(1..3)", '""', "must be a string of 1 to 3 characters" },
        { "string(1..3)", '"äöü"', '"äöü"' }, { "string(1..3)", '"äöüx"',
            "must be a string of 1 to 3 characters" },
        { "string(2)", '"ab"', '"ab"' }, { "string(2)", '"a"', "must be a string of 2 characters" },
        { "string(..2)", '"abc"', "must be a string of at most 2 characters" },
        { "string(2..)", '"a"', "must be a string of at least 2 characters" },
        { "integer", "7", "7" }, { "integer", "-7", "-7" }, { "integer", "7.0", "7" },
        { "integer", "7.5", "must be an integer" }, { "integer", '"7"', "must be an integer" },
        { "integer", "1e300", "must be an integer" },
        { "integer(1..99)", "0", "must be an integer from 1 to 99" },
        { "integer(1..99)", "99", "99" },
        { "integer(-5..-1)", "-5", "-5" },
        { "number(0..1)", "0.5", "0.5" }, { "number(0..1)", "1.1", "must be a number from 0 to 1" },
        { "boolean", "false", "false" }, { "boolean", "0", "must be true or false" },
        { "null", "null", "null" }, { "any", "[1]", "[1]" },
        { "object", '{"a":1}', '{"a":1}' }, { "object", "[]", "must be an object" },
        { "array", "[]", "[]" }, { "array", "{}", "must be a list" },
        { "array(1..2)", "[]", "must be a list of 1 to 2 items" },
        { "string|null", "null", "null" }, { "string | integer", "1.5",
            "must be a string or an integer" },
        { "'red'|'green'", '"red"', '"red"' },
        { "'red'|'green'|null", '"blue"', 'must be "red", "green" or null' },
        { "uuid", '"123e4567-e89b-12d3-a456-426614174000"',
            '"123e4567-e89b-12d3-a456-426614174000"' },
        { "uuid", '"123e4567e89b12d3a456426614174000"', "must be a UUID" },
        { "email", '"a.b+c@example.org"', '"a.b+c@example.org"' },
        { "email", '"a@b@c"', "must be an e-mail address" },
        { "email", '"a b@c"', "must be an e-mail address" },
        { "date", '"2024-02-29"', '"2024-02-29"' },
        { "date", '"2023-02-29"', "must be a date such as 2026-01-31" },
    }, check_json)
end

function T.tables()
    expect({
        { { a = "integer" }, '{"a":1}', '{"a":1}' },
        { { a = "integer" }, "{}", "a is missing" },
        { { a = "integer" }, "[]", "must be an object" },
        { { a = "integer" }, "7", "must be an object" },
        { { a = "integer?" }, "{}", "{}" },
        { { a = "integer?" }, '{"a":null}', "a must be an integer" },
        { { ["a?"] = { b = "string" } }, "{}", "{}" },
        { { ["a?"] = { b = "string" } }, '{"a":{}}', "a.b is missing" },
        { { a = { b = { c = "string" } } }, '{"a":{"b":{"c":1}}}', "a.b.c must be a string" },
        { { a = "integer = 5" }, "{}", '{"a":5}' },
        { { a = "string='x y'" }, "{}", '{"a":"x y"}' },
        { { a = "boolean = true" }, "{}", '{"a":true}' },
        { { count = "integer?" }, '{"counts":1}', "counts is unknown, did you mean 'count'?" },
        { { ["*"] = "integer" }, '{"x":1}', '{"x":1}' },
        { { ["*"] = "integer" }, '{"x":"1"}', "x must be an integer" },
        { { ["a?"] = "string", ["*"] = "any" }, '{"b":[]}', '{"b":[]}' },
        { { "string", max = 2 }, '["a","b"]', '["a","b"]' },
        { { "string", max = 2 }, '["a","b","c"]', "must be a list of at most 2 items" },
        { { "string", min = 1 }, "[]", "must be a list of at least 1 item" },
        { { "string" }, '["a",1]', "2 must be a string" },
        { { { id = "integer" } }, '[{"id":1},{}]', "2.id is missing" },
        { { tags = { "string", optional = true } }, "{}", "{}" },
    }, check_json)
end

function T.values_from_text()
    local array = json.array
    local function check_text(wanted, value)
        return check(wanted, value, true)
    end
    expect({
        { { a = "integer" }, { a = "7" }, '{"a":7}' },
        { { a = "integer" }, { a = "7x" }, "a must be an integer" },
        { { a = "integer" }, { a = "0x10" }, "a must be an integer" },
        { { a = "integer" }, { a = "" }, "a is missing" },
        { { a = "integer?" }, { a = "" }, "{}" },
        { { a = "integer = 3" }, { a = "" }, '{"a":3}' },
        { { a = "integer = 3" }, {}, '{"a":3}' },
        { { a = "integer" }, { a = 7 }, '{"a":7}' },
        { { a = "number" }, { a = "-1.5" }, '{"a":-1.5}' },
        { { a = "number" }, { a = "1e5" }, "a must be a number" },
        { { a = "number" }, { a = "nan" }, "a must be a number" },
        { { a = "boolean" }, { a = "on" }, '{"a":true}' },
        { { a = "boolean" }, { a = "0" }, '{"a":false}' },
        { { a = "boolean" }, { a = "yes" }, "a must be true or false" },
        { { a = "string" }, { a = "" }, '{"a":""}' },
        { { a = "string|null" }, { a = "" }, '{"a":""}' },
        { { a = "integer|null" }, { a = "" }, '{"a":null}' },
        { { a = "integer|string" }, { a = "7" }, '{"a":7}' },
        { { a = "integer|string" }, { a = "x" }, '{"a":"x"}' },
        { { a = "string" }, { a = array { "first", "second" } }, '{"a":"first"}' },
        { { a = { "integer" } }, { a = "1" }, '{"a":[1]}' },
        { { a = { "integer" } }, { a = array { "1", "2" } }, '{"a":[1,2]}' },
        { { a = { "integer" } }, { a = { ["0"] = "1", ["10"] = "3", ["2"] = "2" } },
            '{"a":[1,2,3]}' },
        { { a = { "integer" } }, { a = { x = "1" } }, "a must be a list" },
        { { a = { b = "integer" } }, { a = { b = "1" } }, '{"a":{"b":1}}' },
        { { a = "string" }, { a = "\255" }, "a must be a string" },
        { { a = "date" }, { a = "2026-11-25" }, '{"a":"2026-11-25"}' },
    }, check_text)
end

function T.functions_decide()
    local function even(v)
        if type(v) ~= "number" or v % 2 ~= 0 then
            return nil, "must be even"
        end
        return v / 2
    end
    assert(check_json({ a = even }, '{"a":4}') == '{"a":2}')
    assert(check_json({ a = even }, '{"a":3}') == "a must be even")
    assert(check_json({ a = function() return true end }, '{"a":3}') == '{"a":3}')
    assert(check_json({ a = function() return false end }, '{"a":3}') == "a is not valid")
end

function T.names_with_brackets_make_tables()
    for _, sample in ipairs {
        { { { "a", "1" } }, '{"a":"1"}' },
        { { { "a", "1" }, { "a", "2" }, { "a", "3" } }, '{"a":["1","2","3"]}' },
        { { { "a[]", "1" } }, '{"a":["1"]}' },
        { { { "a[b]", "1" } }, '{"a":{"b":"1"}}' },
        { { { "a[b][]", "1" }, { "a[b][]", "2" } }, '{"a":{"b":["1","2"]}}' },
        { { { "a[0][x]", "1" } }, '{"a":{"0":{"x":"1"}}}' },
        { { { "a[", "1" } }, '{"a[":"1"}' },
        { { { "a]b", "1" } }, '{"a]b":"1"}' },
        { { { "[a]", "1" } }, '{"[a]":"1"}' },
        { { { "a[b]c", "1" } }, '{"a[b]c":"1"}' },
        { { { "", "1" } }, '{"":"1"}' },
        { { { "a[1][2][3][4][5][6][7][8][9]", "x" } }, '{"a[1][2][3][4][5][6][7][8][9]":"x"}' },
    } do
        local got = json.encode(shape_text.tree(sample[1]))
        assert(got == sample[2], got .. " is not " .. sample[2])
    end
    -- A text in the way of a table: nothing is lost.
    local tree = shape_text.tree { { "a", "1" }, { "a[b]", "2" } }
    assert(tree.a == "1" and tree["a[b]"] == "2")
end

function T.malformed_shapes_say_what_is_wrong()
    local function read(wanted, words)
        support.raises(words, shape.read, wanted)
    end
    read({ a = "sting" }, "the shape of a: there is no type 'sting', did you mean 'string'?")
    read({ a = "string(1..x)" }, "'x' is not a number")
    read({ a = "integer(9..1)" }, "the wrong way round")
    read({ a = "boolean(1..2)" }, "'boolean' takes no range")
    read({ a = "string()" }, "is empty")
    read({ a = { b = 7 } }, "the shape of a.b: it must be text or a table, not a number")
    read({ a = { "string", most = 3 } }, "it has no 'most'")
    read({ a = "integer = many" }, "the default many")
    read("", "there is no type ''")
    read({ [true] = "string" }, "a field's name must be a string")
end

function T.many_complaints_are_cut()
    local wanted, value = {}, {}
    for i = 1, 200 do
        wanted["f" .. i], value["f" .. i] = "integer", "x"
    end
    local _, err = shape_code.compile(shape.read(wanted))(value)
    assert(#err == 50)
end

function T.field_names_are_only_names()
    local odd = '"] = 1 os.exit() --\n\r\0\\'
    local fn = shape_code.compile(shape.read { [odd] = "'it\"s'" })
    assert(fn { [odd] = "it\"s" })
    local _, err = fn {}
    assert(err[1][1] == odd)
end

return T
