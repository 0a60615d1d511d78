std = "luajit"
max_line_length = 100
files["config.lua"] = { read_globals = { "env" } }
files["spec/*_spec.lua"] = { std = "luajit+busted" }
