return {
    listen = "127.0.0.1:8080",
    shared = { todos = "16m" },
    body_limit = "64k",
    app = {
        -- In a real deployment: env "TODO_TOKENS", or a table elsewhere.
        tokens = { ["anna-secret"] = "anna", ["ben-secret"] = "ben" },
    },
}
