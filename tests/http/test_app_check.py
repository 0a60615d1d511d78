"""app:check runs in the probe, against the app over a real connection."""

from support.admin import Admin

APP = """
app:post("/sum", function(c)
    local t = moonshine.json.decode(c:body())
    return { sum = t.a + t.b }
end)
app:get("/parts", function(c)
    c:stream(function(write)
        for i = 1, 3 do
            write("x" .. i)
            moonshine.sleep(0.01)
        end
    end)
end)
"""

CHECK = """
app:check(function(t)
    local r = t.request(app, "POST", "/sum", { json = { a = 1, b = 2 } })
    assert(r.status == 200 and r:json().sum == 3, r.body)
    assert(t.request(app, "GET", "/parts").body == "x1x2x3")
    assert(t.request(app, "GET", "/nope").status == %d, "wrong status")
end)
"""


def app_with(status):
    return APP + CHECK % status


def test_checks_pass_and_leave_no_access_lines(start):
    node = start(app_with(404))
    assert node.request("POST", "/sum", body='{"a":2,"b":3}').text == \
        '{"sum":5}'
    assert "target=/parts" not in node.log()


def test_failing_check_keeps_the_old_code(start):
    node = start('app:get("/", function() return "old" end)', workers=2)
    node.rewrite(app_with(200))
    ok, text = Admin(node).reload()
    assert not ok
    assert "wrong status" in text and "app.lua:" in text
    assert node.get("/").text == "old"


def test_request_outside_a_check_says_so(start):
    node = start("""
local test = require "moonshine.test"
app:get("/", function() return test.request(app, "GET", "/").body end)
""")
    assert node.get("/").status == 500
    node.wait_log("request: only inside app:check")
