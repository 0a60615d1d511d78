-- What is not said here has a default: moonshine help config. The command line
-- (--set KEY=VALUE) and the environment (MOONSHINE_KEY) come before this file.
return {
    listen = "127.0.0.1:8080",  -- or a list; "unix:/run/@NAME@.sock" is one, too
    -- workers = 2,             -- default: as many as there are processors
    -- timeout = "30s",         -- a request that takes longer is answered 503
    -- body_limit = "1m",       -- larger bodies are answered 413
    -- trusted_proxies = { "127.0.0.1" }, -- behind nginx: whose X-Forwarded-For counts
    -- log = { level = "info", format = "json" },

    -- Yours: moonshine.config() returns it. Secrets come from the environment:
    -- env("MAIL_KEY").
    app = {},
}
