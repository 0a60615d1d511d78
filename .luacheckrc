std = "luajit"
max_line_length = 100
exclude_files = { "lua/moonshine/test/globals.lua" } -- declarations for editors
files["**/spec/*_spec.lua"] = { std = "luajit+busted" }
files["apps/**/config.lua"] = { read_globals = { "env" } }
files["tests/bench/peers/nginx_*.lua"] = { std = "luajit+ngx_lua", read_globals = { "TIMEOUT" } }
