local moonshine = require "moonshine"
local support = require "specs.support"
local crypto, hex = moonshine.crypto, moonshine.encode.hex

local million = ("a"):rep(1000000)

-- FIPS 180-4, and the examples that NIST publishes with it.
local sha256 = {
    [""] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq =
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    [million] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}

-- RFC 4231, test cases 1 to 7 (5 is truncated there).
local hmac = {
    { ("\11"):rep(20), "Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
    { "Jefe", "what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
    { ("\170"):rep(20), ("\221"):rep(50),
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
    { moonshine.decode.hex "0102030405060708090a0b0c0d0e0f10111213141516171819", ("\205"):rep(50),
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b" },
    { ("\12"):rep(20), "Test With Truncation", "a3b6167473100ee06e0c796c2955552b" },
    { ("\170"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
    { ("\170"):rep(131), "This is a test using a larger than block-size key and a larger than "
        .. "block-size data. The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
}

-- Of "password" and the salt "somesalt", made with the reference implementation
-- of RFC 9106 (the program argon2).
local argon2 = {
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
    "$argon2id$v=19$m=256,t=2,p=4$c29tZXNhbHQ$vinRxJdZOVnNcB5c7v6Kb72ibZs4ksCM/yYeCpS6srE",
    "$argon2i$v=19$m=256,t=3,p=1$c29tZXNhbHQ$PBoa8mph1GgOP5sS08zwcXY1UQ5unu4HA9NtqGHDBdU",
}

local cheap = { memory = "8k", ops = 1 }

return {
    sha256 = function()
        for text, digest in pairs(sha256) do
            assert(hex(crypto.sha256(text)) == digest, digest)
        end
        support.raises("must be a string", crypto.sha256, nil)
    end,

    hmac_sha256 = function()
        for i, case in ipairs(hmac) do
            local mac = hex(crypto.hmac_sha256(case[1], case[2]))
            assert(mac:sub(1, #case[3]) == case[3], i)
        end
        assert(#crypto.hmac_sha256("", "") == 32)
        support.raises("the key must be a string", crypto.hmac_sha256, 1, "")
    end,

    equal = function()
        assert(crypto.equal("", "") and crypto.equal("a\0b", "a\0b"))
        assert(not crypto.equal("a", "b") and not crypto.equal("a", "aa"))
        assert(not crypto.equal("a\0b", "a\0c"))
        support.raises("the second argument must be a string", crypto.equal, "a")
    end,

    random = function()
        assert(crypto.random(0) == "" and #crypto.random(1000) == 1000)
        assert(crypto.random(16) ~= crypto.random(16))
        for _, count in ipairs { -1, 1.5, 2 ^ 20 + 1, "8", 0 / 0 } do
            support.raises("must be a whole number", crypto.random, count)
        end
    end,

    uuid = function()
        local seen = {}
        for _ = 1, 200 do
            local id = crypto.uuid()
            assert(id:find("^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$"), id)
            assert(#id == 36 and id:gsub("%x", "") == "----" and id == id:lower(), id)
            assert(not seen[id], id)
            seen[id] = true
        end
    end,

    ["hashes of the reference implementation"] = function()
        for _, hash in ipairs(argon2) do
            assert(crypto.password_verify(hash, "password") == true, hash)
            local right, rehash = crypto.password_verify(hash, "Password")
            assert(right == false and rehash == false, hash)
        end
    end,

    ["a password there and back"] = function()
        for _, password in ipairs { "", "secret", "a\0b", ("x"):rep(4096) } do
            local hash = assert(crypto.password_hash(password, cheap))
            assert(hash:find("^%$argon2id%$v=19%$m=8,t=1,p=1%$[%w+/]+%$[%w+/]+$"), hash)
            assert(crypto.password_verify(hash, password) == true)
            assert(crypto.password_verify(hash, password .. "\0") ~= true)
            assert(hash ~= crypto.password_hash(password, cheap))
        end
        assert(crypto.password_hash("secret"):find("^%$argon2id%$v=19%$m=65536,t=2,p=1%$"))
    end,

    ["when to hash anew"] = function()
        local hash = assert(crypto.password_hash("secret", cheap))
        local function is_stale(options, of)
            local right, stale = crypto.password_verify(of or hash, "secret", options)
            assert(right == true)
            return stale
        end
        assert(is_stale(cheap) == false)
        assert(is_stale { memory = "8k", ops = 2 } == true)
        assert(is_stale { memory = "16k", ops = 1 } == true)
        assert(is_stale(nil) == true)
        local right, stale = crypto.password_verify(argon2[4], "password",
            { memory = "256k", ops = 3 })
        assert(right == true and stale == true)
    end,

    ["what is no hash"] = function()
        local function refused(hash, password)
            local right, message, code = crypto.password_verify(hash, password or "password")
            assert(right == nil and type(message) == "string" and code == 400, hash)
            return message
        end
        for _, hash in ipairs {
            "", "secret", "$2b$12$abcdefghijklmnopqrstuv", argon2[1]:sub(1, -2), argon2[1] .. "$",
            argon2[1]:gsub("v=19", "v=16"), argon2[1]:gsub("m=256", "m=7"), argon2[1] .. "\0",
            argon2[1]:gsub("t=2", "t=-1"), argon2[1]:gsub("t=2", "t=0"), ("$"):rep(200),
        } do
            refused(hash)
        end
        for _, more in ipairs { "m=200000", "m=4294967295", "m=18446744073709551615" } do
            local message = refused((argon2[1]:gsub("m=256", more)))
            assert(message:find("password.memory", 1, true), message)
        end
        assert(refused((argon2[1]:gsub("t=2", "t=101"))):find("passes", 1, true))
        assert(refused(argon2[1], ("x"):rep(4097)):find("at most 4096 bytes", 1, true))
    end,

    ["wrong use"] = function()
        support.raises("the password must be a string", crypto.password_hash, 1)
        support.raises("did you mean 'memory'?", crypto.password_hash, "x", { memroy = 1 })
        support.raises("memory must be from 8k", crypto.password_hash, "x", { memory = "4k" })
        support.raises("memory must be from 8k", crypto.password_hash, "x", { memory = "1g" })
        support.raises("ops must be a whole number", crypto.password_hash, "x", { ops = 0 })
        support.raises("ops must be a whole number", crypto.password_hash, "x", { ops = 101 })
        support.raises("cannot wait here", string.gsub, "x", "x", function()
            crypto.password_hash("x")
        end)
    end,
}
