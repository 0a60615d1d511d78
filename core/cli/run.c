#include "cli/app_args.h"

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_app_args app;
    int exit_code = moon_app_args_parse(&app, command, argc, argv);
    if (exit_code < 0)
        exit_code = moon_node_run(&app.options, argv - 2); /* all of it */
    moon_app_args_deinit(&app);
    return exit_code;
}

static const struct moon_option options[] = {
    {MOON_APP_LISTEN, "--listen", "ADDR",
     "address to serve: 127.0.0.1:8080 (default), :8080 or 8080 (all IPv4 "
     "addresses), [::1]:8080, unix:/path; may be given several times"},
    {MOON_APP_ADMIN, "--admin", "ADDR",
     "address of the admin endpoints (default: a unix socket in the run "
     "directory); over TCP they need MOONSHINE_ADMIN_TOKEN or "
     "MOONSHINE_ADMIN_TOKEN_FILE"},
    {MOON_APP_WORKERS, "--workers", "N",
     "worker processes, or auto (default): as many as the processors this "
     "process may use"},
    {MOON_APP_CONFIG, "--config", "FILE",
     "configuration (default: config.lua of APP, if there is one)"},
    {MOON_APP_SET, "--set", "KEY=VALUE",
     "one configuration key, before all other sources; may be given several "
     "times"},
    {MOON_APP_NAME, "--name", "NAME",
     "name of this node in logs and for other commands (default: "
     "node-PORT)"},
    {MOON_APP_RUN_DIR, "--run-dir", "DIR",
     "pid file and admin socket, a folder for each node (default: "
     "$RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/moonshine, /run/moonshine as root, "
     "else /tmp/moonshine-UID)"},
    {MOON_APP_STATE_DIR, "--state-dir", "DIR",
     "sessions and committed code; nodes that share it share sessions "
     "(default: $STATE_DIRECTORY, $XDG_STATE_HOME/moonshine, "
     "/var/lib/moonshine as root, else ~/.local/state/moonshine)"},
    {MOON_APP_DEV, "--dev", NULL,
     "for development: reload when a file is saved, error pages with source "
     "and variables, also while the code does not load, debug log; serves "
     "loopback addresses only"},
    {MOON_APP_DEV_PUBLIC, "--dev-public", NULL,
     "with --dev: serve other addresses too"},
    {MOON_APP_NO_FALLBACK, "--no-fallback", NULL,
     "if the code on disk does not load at start, fail rather than serve the "
     "last code that did"},
};

const struct moon_command moon_command_run = {
    .namez = "run",
    .usagez = "[APP] [OPTION]...",
    .summaryz = "Serve an application",
    .detailz =
        "APP is a directory with app.lua, or a .lua file (default: "
        "$MOONSHINE_APP, else the current directory). The process serves in "
        "the foreground until it is told to stop: Ctrl-C, or moonshine stop "
        "elsewhere. As root, --set user=NAME says who is to run the Lua "
        "code.\n\n"
        "Signals: USR1 reloads the scripts; TERM, INT and QUIT finish what is "
        "in flight and exit, a second one exits at once; HUP reopens the log "
        "file.",
    .options = options,
    .option_count = MOON_COUNT(options),
    .examplesz =
        "  moonshine run --dev              the application here, while you "
        "write it\n"
        "  moonshine run shop --listen 80   all of the machine's addresses, "
        "port 80\n"
        "  moonshine run shop --workers 4 --set timeout=5s --set "
        "log.format=json\n",
    .groupz = "Applications",
    .max_words = 1,
    .run = run,
};
