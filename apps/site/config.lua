return {
    listen = "127.0.0.1:8080",
    shared = { album = "4m" },
    app = { pictures = env "PICTURES" or "pictures" },
}
