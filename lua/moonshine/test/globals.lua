---@meta
-- The global functions of spec files, for editors. Never loaded.

--- Groups tests; groups nest.
---@param name string
---@param fn fun()
function describe(name, fn) end

--- A test: it fails by raising. Without a function it is pending.
---@param name string
---@param fn? fun()
function it(name, fn) end

--- A test that is not written yet; inside a test: ends it as pending.
---@param name? string
---@param fn? fun()
function pending(name, fn) end

--- Runs before each test of this group and the groups in it, outer ones first.
---@param fn fun()
function before_each(fn) end

--- Runs after each test, inner ones first, even if the test failed.
---@param fn fun()
function after_each(fn) end

--- Runs once, before the first test of this group.
---@param fn fun()
function setup(fn) end

--- Runs once, after the last test of this group.
---@param fn fun()
function teardown(fn) end
