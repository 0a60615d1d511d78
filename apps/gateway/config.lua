return {
    listen = "127.0.0.1:8080",
    shared = { known = "1m" },
    app = {
        upstream = env "UPSTREAM" or "http://127.0.0.1:8081",
        keys = { ["demo"] = "a demo" },
    },
}
