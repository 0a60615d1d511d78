-- Every key has a default; these are the ones a demo wants to show.
return {
    listen = "127.0.0.1:8080",
    request_memory = "64m",
    cpu_limit = "250ms",
    app = { greeting = "Hello" },
}
