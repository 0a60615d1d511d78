-- The JSON codec as Lua sees it. vm_json.c loads this file with the module as
-- its argument and runs each function as one test.
local json = ...

local M = {}

local function eq(a, b, what)
    if a ~= b then
        local text = "%s: %q is not %q"
        error(text:format(what or "eq", tostring(a), tostring(b)), 2)
    end
end

local function encodes(value, text)
    eq(json.encode(value), text)
end

local function refuses(value, text)
    local ok, message = pcall(json.encode, value)
    eq(ok, false, "accepted")
    eq(message, text)
end

local function decodes(text, value)
    eq(select("#", json.decode(text)), 1)
    eq(json.decode(text), value, text)
end

local function fails(text, problem)
    local value, message, code = json.decode(text)
    eq(value, nil, text)
    eq(message, problem, text)
    eq(code, 400)
end

local function again(text)
    eq(json.encode((json.decode(text))), text)
end

function M.encode_plain_values()
    encodes('x', '"x"')
    encodes('', '""')
    encodes(true, 'true')
    encodes(false, 'false')
    encodes(nil, 'null')
    encodes(json.null, 'null')
    encodes({}, '{}')
    encodes(json.array(), '[]')
    encodes(json.array {}, '[]')
    encodes({ {} }, '[{}]')
    encodes({ 1, 'b', true, { x = json.null } },
        '[1,"b",true,{"x":null}]')
    encodes({ a = { b = { 1 } } }, '{"a":{"b":[1]}}')
    encodes({ [''] = 1 }, '{"":1}')
    encodes({ json.null, json.null }, '[null,null]')
    encodes(setmetatable({ a = 1 }, { __index = error }), '{"a":1}')
    local both = json.decode(json.encode { id = 7, name = 'x' })
    eq(both.id, 7)
    eq(both.name, 'x')
    eq(pcall(json.encode), false)
end

function M.encode_strings()
    encodes('"\\/\b\f\n\r\t\0\1\31\127',
        [["\"\\/\b\f\n\r\t\u0000\u0001\u001f]] .. '\127"')
    encodes('gr\195\188n \226\130\172 \240\157\132\158',
        '"gr\195\188n \226\130\172 \240\157\132\158"')
    -- every position of a special byte in every alignment
    for at = 0, 40 do
        for _, odd in ipairs { '"', '\\', '\1', '\195\188' } do
            for after = 0, 40 - at do
                local s = ('a'):rep(at) .. odd .. ('b'):rep(after)
                eq(json.decode(json.encode(s)), s)
            end
        end
    end
    -- text that grows much while it is written
    for _, len in ipairs { 1, 15, 16, 17, 100, 1000, 70000 } do
        local s = ('\1'):rep(len)
        encodes(s, '"' .. ('\\u0001'):rep(len) .. '"')
        eq(json.decode(json.encode(s)), s)
        encodes({ [s] = s }, '{' .. json.encode(s) .. ':' ..
            json.encode(s) .. '}')
    end
    refuses('\255', 'cannot encode a string that is not UTF-8')
    refuses({ a = { 'x', '\237\160\128' } },
        'cannot encode a string that is not UTF-8 at .a[2]')
    refuses({ ['\192\128'] = 1 },
        'cannot encode a string that is not UTF-8 at ["??"]')
end

function M.encode_numbers()
    encodes(0, '0')
    encodes(-0, '-0')
    encodes(7, '7')
    encodes(-12, '-12')
    encodes(2^53, '9007199254740992')
    encodes(-2^53, '-9007199254740992')
    encodes(2^53 - 1, '9007199254740991')
    encodes(0.1, '0.1')
    encodes(-2.5, '-2.5')
    encodes(3.14, '3.14')
    encodes(0.1 + 0.2, '0.30000000000000004')
    encodes(1 / 3, '0.3333333333333333')
    encodes(100.125, '100.125')
    encodes(1e15 + 0.5, '1000000000000000.5')
    encodes(1e20, '100000000000000000000')
    encodes(1e21, '1e+21')
    encodes(2^63, '9223372036854776000')
    encodes(0.00001, '0.00001')
    encodes(0.000001, '0.000001')
    encodes(1e-7, '1e-7')
    encodes(1.5e-7, '1.5e-7')
    encodes(1.7976931348623157e308, '1.7976931348623157e+308')
    encodes(2.2250738585072014e-308, '2.2250738585072014e-308')
    encodes(4.9406564584124654e-324, '5e-324')
    encodes(123456789012345.67, '123456789012345.67')
    refuses(0 / 0, 'cannot encode NaN')
    refuses({ a = { 1, 1 / 0 } }, 'cannot encode infinity at .a[2]')
    refuses({ -1 / 0 }, 'cannot encode infinity at [1]')
end

function M.encode_lists()
    -- stored out of order, in the hash part
    local t = {}
    for i = 9, 1, -1 do
        t[i] = i
    end
    encodes(t, '[1,2,3,4,5,6,7,8,9]')
    t[4] = nil
    refuses({ list = t }, 'cannot encode an array with a hole at .list[4]')
    refuses({ list = { 1, nil, 3 } },
        'cannot encode an array with a hole at .list[2]')
    refuses({ [5] = 1 }, 'cannot encode an array with a hole at [1]')
    refuses({ 1, 2, [1e15] = 3 },
        'cannot encode an array with a hole at [3]')
    local both = 'cannot encode a table with both numbers and strings as keys'
    refuses({ 1, x = 2 }, both)
    refuses({ a = { x = 1, [7] = 2 } }, both .. ' at .a')
    local indices = 'cannot encode an array whose indices are not 1 to n at '
    refuses({ [0] = 1 }, indices .. '[0]')
    refuses({ 1, [1.5] = 1 }, indices .. '[1.5]')
    refuses({ [-1] = 1 }, indices .. '[-1]')
    refuses({ [math.huge] = 1 },
        'cannot encode an array with a hole at [1]')
    refuses({ [-math.huge] = 1 }, indices .. '[0]')
    refuses({ a = json.array { x = 1 } },
        'cannot encode an array with the key "x" at .a')
    for len = 38, 60 do
        local key = ('k'):rep(len) .. ('\240\157\132\158'):rep(20)
        local _, message = pcall(json.encode, json.array { [key] = 1 })
        assert(message:find('with the key "k+[^k]*%.%.%."$'), message)
        _, message = pcall(json.encode, { [key] = print })
        assert(message:find('at %["k+[^k]*%.%.%."%]$'), message)
    end
    refuses({ a = json.array { 1, 2, x = 1 } },
        'cannot encode an array with the key "x" at .a')
    refuses({ [true] = 1 }, 'cannot encode a boolean as a key')
    refuses({ 1, [print] = 1 }, 'cannot encode a function as a key')
end

function M.encode_errors_name_the_path()
    local f = function() end
    refuses(f, 'cannot encode function')
    refuses({ user = { callbacks = { 1, 2, f } } },
        'cannot encode function at .user.callbacks[3]')
    local list = {}
    list[2], list[1] = f, 1
    refuses({ list }, 'cannot encode function at [1][2]')
    refuses({ ['a b'] = { ['\n"'] = f } },
        'cannot encode function at ["a b"]["??"]')
    refuses({ [''] = f, }, 'cannot encode function at [""]')
    refuses({ ['gr\195\188n'] = f },
        'cannot encode function at ["gr\195\188n"]')
    refuses({ [('k'):rep(99)] = { [('x'):rep(9)] = f } },
        'cannot encode function at .' .. ('k'):rep(42) .. '....' ..
        ('x'):rep(9))
    refuses({ x = coroutine.create(f) }, 'cannot encode thread at .x')
    refuses({ x = io.stdout }, 'cannot encode userdata at .x')
    refuses({ x = 1LL }, 'cannot encode cdata at .x')
    local cycle = {}
    cycle.self = cycle
    local ok, message = pcall(json.encode, cycle)
    eq(ok, false)
    assert(message:find('^cannot encode more than 100 tables within each '
        .. 'other %(is there a cycle%?%) at %.%.%..*%.self%.self$'), message)
    assert(#message < 320)
    -- the line of the caller
    ok, message = pcall(function()
        json.encode(f)
    end)
    eq(ok, false)
    assert(message:find('vm_json.lua:%d+: cannot encode function$'), message)
    -- what failed leaves nothing behind
    encodes({ 1 }, '[1]')
end

function M.depth_is_limited_both_ways()
    local function nest(n)
        local t = {}
        for _ = 2, n do
            t = { t }
        end
        return t
    end
    encodes(nest(100), ('['):rep(99) .. '{}' .. (']'):rep(99))
    eq(pcall(json.encode, nest(101)), false)
    again(('['):rep(100) .. (']'):rep(100))
    fails(('['):rep(101) .. (']'):rep(101),
        'line 1, column 101: nested too deeply')
    fails(('{"a":'):rep(100000),
        'line 1, column 501: nested too deeply')
    -- many values wait on the Lua stack at each level
    local deep = '0'
    for _ = 1, 100 do
        deep = '[' .. ('1,'):rep(15) .. deep .. ']'
    end
    again(deep)
    local members = ('"a":1,'):rep(15)
    local object = '0'
    for _ = 1, 100 do
        object = '{' .. members .. '"x":' .. object .. '}'
    end
    eq(type(json.decode(object).x), 'table')
    -- also in a coroutine that has used some of its stack
    local function down(n)
        if n == 0 then
            again(deep)
        else
            down(n - 1)
        end
        return n
    end
    eq(coroutine.wrap(down)(150), 150)
end

function M.decode_values()
    decodes('true', true)
    decodes('false', false)
    decodes('null', json.null)
    decodes(' \t\r\n1 \n', 1)
    decodes('"x"', 'x')
    decodes('""', '')
    local t = json.decode('{"a":[1,{"b":null},[]],"c":{}}')
    eq(t.a[1], 1)
    eq(t.a[2].b, json.null)
    eq(#t.a, 3)
    eq(json.is_array(t.a), true)
    eq(json.is_array(t.a[3]), true)
    eq(json.is_array(t.c), false)
    eq(json.is_array(t), false)
    again('[]')
    again('{}')
    again('[[],{}]')
    again('[null]')
    eq(json.decode('{"a":1,"b":0,"a":2}').a, 2)
    local many, text = {}, {}
    for n = 0, 70 do
        local list = json.decode('[' .. table.concat(many, ',') .. ']')
        eq(#list, n)
        for i = 1, n do
            eq(list[i], i)
        end
        eq(list[n + 1], nil)
        local object = json.decode('{' .. table.concat(text, ',') .. '}')
        local count = 0
        for k, v in pairs(object) do
            count = count + 1
            eq(k, 'k' .. v)
        end
        eq(count, n)
        many[n + 1] = tostring(n + 1)
        text[n + 1] = ('"k%d":%d'):format(n + 1, n + 1)
    end
    for n = 1, 40 do
        eq(json.decode('{' .. ('"a":1,'):rep(n) .. '"a":2}').a, 2)
    end
    eq(pcall(json.decode), false)
    eq(pcall(json.decode, nil), false)
    eq(pcall(json.decode, 1), false)
end

function M.decode_numbers()
    for _, text in ipairs { '0', '-0', '7', '9007199254740991',
        '9007199254740992', '-9007199254740992', '0.1',
        '0.30000000000000004', '1e+21', '5e-324', '123.456',
        '2.2250738585072014e-308', '1.7976931348623157e+308' } do
        again(text)
        eq(json.decode(text), tonumber(text))
    end
    decodes('1E2', 100)
    decodes('1e+2', 100)
    decodes('25e-1', 2.5)
    decodes('1.50', 1.5)
    decodes('0e999999', 0)
    decodes('0.0e-1', 0)
    decodes('1e-999999999999999999999', 0)
    decodes('9007199254740993', 9007199254740992)
    decodes('18446744073709551616', 2^64)
    decodes('100000000000000000000000', 1e23)
    decodes('9007199254740993e1', 90071992547409930)
    -- halfway between two doubles, decided by the 800th digit
    local half = '9007199254740993.' .. ('0'):rep(800)
    decodes(half, 9007199254740992)
    decodes(half .. '1', 9007199254740994)
    decodes('0.' .. ('0'):rep(5000) .. '1e5001', 1)
    decodes('1' .. ('0'):rep(5000) .. 'e-5000', 1)
    decodes('1' .. ('0'):rep(900) .. '1e-901', 1)
    fails('1e999', 'line 1, column 1: number out of range')
    fails('[1,-1e400]', 'line 1, column 4: number out of range')
    fails('-', 'line 1, column 2: expected a digit')
    fails('1.', 'line 1, column 3: expected a digit')
    fails('1.e1', 'line 1, column 3: expected a digit')
    fails('1e', 'line 1, column 3: expected a digit')
    fails('1e+', 'line 1, column 4: expected a digit')
    fails('-a', 'line 1, column 2: expected a digit')
    local behind = ': expected nothing behind the value'
    fails('012', 'line 1, column 2' .. behind)
    fails('0x10', 'line 1, column 2' .. behind)
    fails('-012', 'line 1, column 3' .. behind)
    fails('1 2', 'line 1, column 3' .. behind)
    for _, text in ipairs { '+1', '.5', 'NaN', 'nan', 'Infinity', 'inf' } do
        fails(text, 'line 1, column 1: expected a value')
    end
    fails('-Infinity', 'line 1, column 2: expected a digit')
end

function M.decode_strings()
    decodes([["\"\\\/\b\f\n\r\t"]], '"\\/\b\f\n\r\t')
    decodes([["\u0041\u00e9\u20AC\ud834\udd1e\u0000"]],
        'A\195\169\226\130\172\240\157\132\158\0')
    decodes('"\127\195\188"', '\127\195\188')
    for n = 0, 600 do
        local s = ('x'):rep(n)
        decodes('"' .. s .. '\\n' .. s .. '"', s .. '\n' .. s)
    end
    fails([["\x41"]], 'line 1, column 3: no such escape in a string')
    fails('"\\\0"', 'line 1, column 3: no such escape in a string')
    fails([["\u12G4"]],
        'line 1, column 6: expected four hex digits after \\u')
    fails([["\u12]],
        'line 1, column 6: expected four hex digits after \\u')
    for _, s in ipairs { [[\ud834]], [[\ud834x]], [[\ud834\n]],
        [[\ud834\u0041]], [[\udd1e]], [[\ud834\ud834]] } do
        local value, message = json.decode('"' .. s .. '"')
        eq(value, nil)
        assert(message:find('lone surrogate'), message)
    end
    local utf8 = ': bytes that are not UTF-8 in a string'
    for _, s in ipairs { '\128', '\255', '\192\128', '\195',
        '\224\128\128', '\237\160\128', '\244\144\128\128',
        '\240\128\128\128', '\248\128\128\128\128',
        '\226\130' } do
        fails('"' .. s .. '"', 'line 1, column 2' .. utf8)
        fails('"\\n' .. s .. '"', 'line 1, column 4' .. utf8)
    end
    for b = 0, 31 do
        fails('"' .. string.char(b) .. '"',
            'line 1, column 2: control character in a string')
    end
    fails('"', 'line 1, column 2: the string has no end')
    fails('"abc', 'line 1, column 5: the string has no end')
    fails('"a\\', 'line 1, column 4: no such escape in a string')
    fails('"a\\"', 'line 1, column 5: the string has no end')
end

function M.decode_errors_tell_where()
    fails('', 'line 1, column 1: expected a value')
    fails('  ', 'line 1, column 3: expected a value')
    fails('{\n  "a": 1,\n  "b": [1, 2}\n}',
        "line 3, column 13: expected ',' or ']'")
    fails('{"a":1]', "line 1, column 7: expected ',' or '}'")
    fails('[1,]', 'line 1, column 4: expected a value')
    fails('[,1]', 'line 1, column 2: expected a value')
    fails('{"a":1,}', 'line 1, column 8: expected a key in quotes')
    fails('{a:1}', 'line 1, column 2: expected a key in quotes')
    fails('{"a" 1}', "line 1, column 6: expected ':'")
    fails('{"a":}', 'line 1, column 6: expected a value')
    fails('[1', "line 1, column 3: expected ',' or ']'")
    fails('{', 'line 1, column 2: expected a key in quotes')
    fails('tru', 'line 1, column 1: expected a value')
    fails('True', 'line 1, column 1: expected a value')
    fails('[nul]', 'line 1, column 2: expected a value')
    fails('\239\187\191{}',
        'line 1, column 1: a byte order mark is not allowed')
    fails('[1]\0', 'line 1, column 4: expected nothing behind the value')
    fails('[1] // x', 'line 1, column 5: expected nothing behind the value')
    fails('[\11]', 'line 1, column 2: expected a value')
    -- columns count characters
    fails('["\226\130\172\226\130\172" x]',
        "line 1, column 7: expected ',' or ']'")
end

function M.array_mark()
    local t = { 1, 2 }
    eq(json.is_array(t), false)
    eq(json.array(t), t)
    eq(json.is_array(t), true)
    eq(json.array(t), t)
    t[1], t[2] = nil, nil
    encodes(t, '[]')
    eq(json.is_array('x'), false)
    eq(json.is_array(nil), false)
    eq(json.is_array(setmetatable({}, {})), false)
    eq(json.is_array(json.array()), true)
    eq(json.is_array(json.array(nil)), true)
    eq(pcall(json.array, 1), false)
    local ok, message = pcall(json.array, setmetatable({}, {}))
    eq(ok, false)
    assert(message:find('another metatable', 1, true), message)
    eq(getmetatable(json.array()), getmetatable(json.decode('[]')))
end

return M
