"""The node's secret: made once and kept, or configured and changed by a reload;
what is sealed with it; and that it is seen nowhere."""

import hashlib
import hmac
import os
import re
import stat

import pytest

from support.admin import Admin
from support.node import command, write_app

APP = r"""
local secrets, token = require "moonshine.secrets", require "moonshine.token"
local encode = moonshine.encode
app:get("/keys", function()
    local keys = {}
    for i, key in ipairs(secrets.derive("test")) do
        keys[i] = encode.hex(key)
    end
    return keys
end)
app:get("/seal", function(c) return token.seal("test", c:query("text")) end)
app:get("/open", function(c)
    local text, message, code = token.open(c:query("for", "test"), c:query("text"))
    return { text = text, message = message, code = code }
end)
"""
NEW, OLD = "a" * 16, "old secret, 24 characters"


def derived(secret, purpose="test"):
    """HKDF-SHA256 without a salt, the first 32 bytes (RFC 5869)."""
    def mac(key, text):
        return hmac.new(key, text, hashlib.sha256).digest()
    return mac(mac(bytes(32), secret.encode()), purpose.encode() + b"\1").hex()


def test_the_helper_is_the_rfc():
    """Test case 3 of RFC 5869."""
    okm = derived("\x0b" * 22, "")
    assert okm == ("8da4e775a563c18f715f802a063c5a31"
                   "b8a11f5c5ee1879ec3454e5f3c738d2d")


def test_made_once_and_kept(start, tmp_path):
    state = tmp_path / "state"
    first = start(APP, workers=2, state_dir=state)
    kept = state / "secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    text = kept.read_text()
    assert re.fullmatch("[0-9a-f]{64}\n", text)
    assert [f.name for f in state.iterdir() if "secret" in f.name] == ["secret"]
    keys = first.get("/keys").json()
    assert keys == [derived(text.strip())]
    assert Admin(first).reload()[0]
    assert first.get("/keys").json() == keys
    first.stop()
    second = start(APP, state_dir=state, name="other")
    assert second.get("/keys").json() == keys
    assert kept.read_text() == text
    # Another one for the asking.
    kept.unlink()
    assert Admin(second).reload()[0]
    assert second.get("/keys").json() == [derived(kept.read_text().strip())]
    assert second.get("/keys").json() != keys


def test_nodes_that_start_at_once_agree(start, tmp_path):
    nodes = [start(APP, state_dir=tmp_path / "state", name=f"n{i}", wait=False)
             for i in range(4)]
    for node in nodes:
        node.wait_ready()
    assert len({node.get("/keys").text for node in nodes}) == 1


def test_configured(start):
    node = start({"app.lua": APP, "config.lua":
                  f'secrets = {{ new = "{NEW}", old = "{OLD}" }}'})
    assert node.get("/keys").json() == [derived(NEW), derived(OLD)]
    assert not (node.state_dir / "secret").exists()


def test_a_reload_changes_it(start):
    def config(new, old=None):
        old = f', old = "{old}"' if old else ""
        return {"config.lua": f'secrets = {{ new = "{new}"{old} }}'}
    node = start({"app.lua": APP, **config(OLD)})
    sealed = node.get("/seal?text=moon").text
    node.rewrite(config(NEW, OLD))
    assert Admin(node).reload()[0]
    assert node.get(f"/open?text={sealed}").json() == {"text": "moon"}
    again = node.get("/seal?text=moon").text
    assert again != sealed
    node.rewrite(config(NEW))
    assert Admin(node).reload()[0]
    assert node.get(f"/open?text={again}").json() == {"text": "moon"}
    assert node.get(f"/open?text={sealed}").json() == {
        "message": "not sealed here", "code": 400}
    # Refused, and the one before stays.
    node.rewrite(config("too short"))
    ok, message = Admin(node).reload()
    assert not ok and "at least 16 characters" in message
    assert "config.lua" in message and "too short" not in message
    assert node.get(f"/open?text={again}").json() == {"text": "moon"}


def test_what_is_sealed(start_shared):
    node = start_shared(APP)
    sealed = node.get("/seal?text=a.b.").text
    assert re.fullmatch(r"a\.b\.\.[A-Za-z0-9_-]{43}", sealed)
    assert node.get(f"/open?text={sealed}").json() == {"text": "a.b."}
    assert node.get(f"/open?text={sealed}&for=else").json()["code"] == 400
    bad = ["", ".", "a.b.", sealed[:-1], sealed[1:], sealed + "A", "x" + sealed,
           sealed.replace("a", "A", 1), sealed.rpartition(".")[0] + "."]
    last = "B" if sealed[-1] == "A" else "A"
    bad.append(sealed[:-1] + last)
    for text in bad:
        assert node.get(f"/open?text={text}").json()["code"] == 400, text


def test_it_is_seen_nowhere(start):
    node = start(APP, settings={"log.level": "debug"})
    admin = Admin(node)
    secret = (node.state_dir / "secret").read_text().strip()
    assert not admin.rollback()[0]
    node.rewrite({"app.lua": "app:get("})
    assert not admin.reload()[0]
    seen = [admin.ask("GET", "/-/status").text,
            admin.ask("GET", "/-/metrics").text,
            node.command("status").stdout,
            command("help", "config").stdout, node.log()]
    for pid in [node.pid, *node.children()]:
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", encoding="latin-1") as file:
                seen.append(file.read())
    for text in seen:
        assert text and secret not in text


def test_too_short(tmp_path):
    app = write_app(tmp_path / "app", APP)
    for key in ("secrets.new", "secrets.old"):
        done = command("check", app, "--set", f"{key}=hunter2hunter2")
        assert done.returncode != 0
        assert "at least 16 characters" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout
    done = command("check", app, env={"MOONSHINE_SECRETS_OLD": OLD})
    assert "secrets.old needs secrets.new" in done.stderr
    assert done.returncode == 1 and OLD not in done.stderr


def test_a_check_makes_none(tmp_path):
    app = write_app(tmp_path / "app", """app:check(function()
        assert(#require("moonshine.secrets").derive("x") == 1)
    end)""")
    done = command("check", app, "--set", f"state_dir={tmp_path}/state")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "state").exists()


def test_no_place_to_keep_it(start, tmp_path):
    state = tmp_path / "file"
    state.write_text("")
    node = start(APP, state_dir=state, workers=2)
    assert node.wait_log("cannot keep a secret in .*: Not a directory: what")
    keys = node.get("/keys").json()
    assert len(keys) == 1
    node.rewrite(APP + "-- changed")
    assert Admin(node).reload()[0]
    for _ in range(8):
        assert node.get("/keys").json() == keys


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another")
def test_the_user_cannot_read_the_file(start):
    app = APP + r"""
app:get("/read", function(c) return { io.open(c:query("path")) == nil } end)
"""
    node = start(app, settings={"user": "nobody"}, wait=False)
    node.home.chmod(0o755)
    node.wait_ready()
    path = node.state_dir / "secret"
    keys = [derived(path.read_text().strip())]
    assert node.get("/keys").json() == keys
    assert node.get(f"/read?path={path}").json() == [True]
    assert Admin(node).reload()[0]
    assert node.get("/keys").json() == keys
