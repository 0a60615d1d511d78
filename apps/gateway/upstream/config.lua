return { listen = "127.0.0.1:8081", shared = { state = "64k" } }
