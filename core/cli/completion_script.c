#include "cli/completion.h"

#include "base/config.h"
#include "http/method.h"

/* What the scripts call each kind. */
static const char *const kind_names[] = {
    [MOON_COMPLETES_NOTHING] = "nothing", [MOON_COMPLETES_FILE] = "file",
    [MOON_COMPLETES_DIR] = "dir",         [MOON_COMPLETES_APP] = "app",
    [MOON_COMPLETES_KEY] = "key",         [MOON_COMPLETES_NODE] = "node",
    [MOON_COMPLETES_METHOD] = "method",   [MOON_COMPLETES_LIST] = "list",
};

static void put_commands(FILE *out)
{
    for (size_t i = 0; moon_commands[i] != NULL; i++)
        (void)fprintf(out, "%s ", moon_commands[i]->namez);
}

static void put_keys(FILE *out)
{
    const char *keyz;
    for (uint32_t i = 0; (keyz = moon_config_key(i)) != NULL; i++)
        (void)fprintf(out, "%s%s", i > 0 ? " " : "", keyz);
}

static void put_methods(FILE *out)
{
    for (int m = 0; m < MOON_METHOD_OTHER; m++)
        (void)fprintf(out, "%s%s", m > 0 ? " " : "",
                      moon_method_name((enum moon_method)m).ptr);
}

/* "bash|zsh" as words. */
static void put_words(FILE *out, struct moon_str words)
{
    for (size_t i = 0; i < words.len; i++)
        (void)fputc(words.ptr[i] == '|' ? ' ' : words.ptr[i], out);
}

/* ---- bash ---- */

/* The part of the script that knows no commands. */
static const char bash_code[] =
    "_moonshine() {\n"
    "    local line=${COMP_LINE:0:COMP_POINT} cur word command= expects= "
    "kind=\n"
    "    local run_dir= prefix=\n"
    "    local -i i count=0\n"
    "    local -a words\n"
    "    COMPREPLY=()\n"
    "    # Not COMP_WORDS, which cuts --name=value in three.\n"
    "    read -ra words <<<\"$line\"\n"
    "    [[ $line == *[[:blank:]] ]] && words+=('')\n"
    "    cur=${words[${#words[@]} - 1]}\n"
    "    for ((i = 1; i < ${#words[@]} - 1; i++)); do\n"
    "        word=${words[i]}\n"
    "        if [[ -n $expects ]]; then\n"
    "            [[ $expects == --run-dir ]] && run_dir=$word\n"
    "            expects=\n"
    "        elif [[ -z $command ]]; then\n"
    "            command=$word\n"
    "        elif [[ $word == --*=* ]]; then\n"
    "            [[ $word == --run-dir=* ]] && run_dir=${word#*=}\n"
    "        elif [[ $word == --* ]]; then\n"
    "            [[ -n $(_moonshine_table \"$command $word\") ]] && "
    "expects=$word\n"
    "        elif [[ $word != -* ]]; then\n"
    "            count+=1\n"
    "        fi\n"
    "    done\n"
    "    if [[ -n $expects ]]; then\n"
    "        kind=$(_moonshine_table \"$command $expects\")\n"
    "    elif [[ -z $command ]]; then\n"
    "        kind=$(_moonshine_table commands)\n"
    "    elif [[ $cur == --*=* ]]; then\n"
    "        kind=$(_moonshine_table \"$command ${cur%%=*}\")\n"
    "        [[ $COMP_WORDBREAKS == *=* ]] || prefix=${cur%%=*}=\n"
    "        cur=${cur#*=}\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        kind=$(_moonshine_table \"$command options\")\n"
    "    else\n"
    "        kind=$(_moonshine_table \"$command $((count + 1))\")\n"
    "        [[ -n $kind ]] || kind=$(_moonshine_table \"$command rest\")\n"
    "    fi\n"
    "    case $kind in\n"
    "    list*) _moonshine_reply -W \"${kind#list }\" ;;\n"
    "    method) _moonshine_reply -W \"$(_moonshine_table methods)\" ;;\n"
    "    key)\n"
    "        _moonshine_reply -S = -W \"$(_moonshine_table keys)\"\n"
    "        compopt -o nospace 2>/dev/null\n"
    "        ;;\n"
    "    node)\n"
    "        _moonshine_reply -W \"$(\"${1/#\\~\\//$HOME/}\" completion nodes "
    "${run_dir:+--run-dir \"$run_dir\"} 2>/dev/null)\"\n"
    "        ;;\n"
    "    file) _moonshine_reply -f ;;\n"
    "    dir) _moonshine_reply -d ;;\n"
    "    app)\n"
    "        _moonshine_reply -d\n"
    "        _moonshine_reply -f -X '!*.lua'\n"
    "        ;;\n"
    "    esac\n"
    "    case $kind in\n"
    "    file | dir | app) compopt -o filenames 2>/dev/null ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "_moonshine_reply() {\n"
    "    local one\n"
    "    while IFS= read -r one; do\n"
    "        COMPREPLY+=(\"$one\")\n"
    "    done < <(compgen -P \"$prefix\" \"$@\" -- \"$cur\")\n"
    "}\n"
    "\n"
    "complete -F _moonshine moonshine\n";

static void put_bash_kind(FILE *out, enum moon_completes kind,
                          struct moon_str words)
{
    (void)fprintf(out, "echo '%s", kind_names[kind]);
    if (kind == MOON_COMPLETES_LIST) {
        (void)fputc(' ', out);
        put_words(out, words);
    }
    (void)fputs("' ;;\n", out);
}

static void put_bash_command(FILE *out, const struct moon_command *command)
{
    (void)fprintf(out, "    '%s options') echo 'list", command->namez);
    for (size_t i = 0; i < command->option_count; i++)
        (void)fprintf(out, " %s", command->options[i].namez);
    (void)fputs(" --help' ;;\n", out);
    for (size_t i = 0; i < command->option_count; i++) {
        const struct moon_option *option = &command->options[i];
        if (option->valuez == NULL)
            continue;
        (void)fprintf(out, "    '%s %s') ", command->namez, option->namez);
        put_bash_kind(out, moon_completes_value(option->valuez), MOON_STR_NONE);
    }
    struct moon_completes_word word;
    for (size_t i = 0; moon_completes_word(command, i, &word); i++) {
        if (word.repeats)
            (void)fprintf(out, "    '%s rest') ", command->namez);
        else
            (void)fprintf(out, "    '%s %zu') ", command->namez, i + 1);
        put_bash_kind(out, word.completes, word.text);
    }
}

void moon_completion_bash(FILE *out)
{
    (void)fputs("# bash completion for moonshine, printed by: moonshine "
                "completion bash\n\n_moonshine_table() {\n    case $1 in\n"
                "    commands) echo 'list ",
                out);
    put_commands(out);
    (void)fputs("help --help --version' ;;\n    keys) echo '", out);
    put_keys(out);
    (void)fputs("' ;;\n    methods) echo '", out);
    put_methods(out);
    (void)fputs("' ;;\n    'help 1') echo 'list ", out);
    put_commands(out);
    (void)fputs("config' ;;\n", out);
    for (size_t i = 0; moon_commands[i] != NULL; i++)
        put_bash_command(out, moon_commands[i]);
    (void)fputs("    esac\n}\n\n", out);
    (void)fputs(bash_code, out);
}

/* ---- zsh ---- */

/* Text in a single-quoted word of _arguments or _describe, where some
 * characters mean something. */
static void put_zsh(FILE *out, struct moon_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char ch = text.ptr[i];
        if (ch == '\'')
            (void)fputs("'\\'", out);
        else if (ch == ':' || ch == '[' || ch == ']' || ch == '\\')
            (void)fputc('\\', out);
        (void)fputc(ch, out);
    }
}

/* The first clause of a help text: menus are narrow. "with --dev: ..." goes on
 * behind the colon. */
static struct moon_str first_clause(const char *helpz)
{
    size_t len = strcspn(helpz, ":;(,");
    if (strncmp(helpz, "with ", 5) == 0)
        len = strcspn(helpz, ";(,");
    while (len > 0 && helpz[len - 1] == ' ')
        len--;
    return moon_str(helpz, len);
}

static void put_zsh_action(FILE *out, enum moon_completes kind,
                           struct moon_str words)
{
    switch (kind) {
    case MOON_COMPLETES_FILE:
        (void)fputs("_files", out);
        break;
    case MOON_COMPLETES_DIR:
        (void)fputs("_files -/", out);
        break;
    case MOON_COMPLETES_APP:
        (void)fputs("_files -g \"*.lua\"", out);
        break;
    case MOON_COMPLETES_KEY:
    case MOON_COMPLETES_NODE:
        (void)fprintf(out, "_moonshine_%ss", kind_names[kind]);
        break;
    case MOON_COMPLETES_METHOD:
    case MOON_COMPLETES_LIST:
        (void)fputc('(', out);
        if (kind == MOON_COMPLETES_METHOD)
            put_methods(out);
        else
            put_words(out, words);
        (void)fputc(')', out);
        break;
    case MOON_COMPLETES_NOTHING:
        (void)fputc(' ', out);
        break;
    }
}

static void put_zsh_option(FILE *out, const struct moon_option *option)
{
    bool repeats = strstr(option->helpz, "several times") != NULL;
    (void)fprintf(out, " \\\n            '%s%s%s[", repeats ? "*" : "",
                  option->namez, option->valuez != NULL ? "=" : "");
    put_zsh(out, first_clause(option->helpz));
    (void)fputc(']', out);
    if (option->valuez != NULL) {
        (void)fputc(':', out);
        put_zsh(out, moon_strz(option->valuez));
        (void)fputc(':', out);
        put_zsh_action(out, moon_completes_value(option->valuez),
                       MOON_STR_NONE);
    }
    (void)fputc('\'', out);
}

static void put_zsh_command(FILE *out, const struct moon_command *command)
{
    (void)fprintf(out, "    %s)\n        _arguments '--help[this text]'",
                  command->namez);
    for (size_t i = 0; i < command->option_count; i++)
        put_zsh_option(out, &command->options[i]);
    struct moon_completes_word word;
    for (size_t i = 0; moon_completes_word(command, i, &word); i++) {
        if (word.repeats)
            (void)fputs(" \\\n            '*:", out);
        else
            (void)fprintf(out, " \\\n            '%zu:", i + 1);
        put_zsh(out, word.text);
        (void)fputc(':', out);
        put_zsh_action(out, word.completes, word.text);
        (void)fputc('\'', out);
    }
    (void)fputs("\n        ;;\n", out);
}

static void put_zsh_list(FILE *out)
{
    for (size_t i = 0; moon_commands[i] != NULL; i++) {
        (void)fprintf(out, "        '%s:", moon_commands[i]->namez);
        put_zsh(out, moon_strz(moon_commands[i]->summaryz));
        (void)fputs("'\n", out);
    }
}

static const char zsh_code[] =
    "_moonshine_keys() {\n"
    "    compadd -S = -- $=_moonshine_key_names\n"
    "}\n"
    "\n"
    "_moonshine_nodes() {\n"
    "    local at=${words[(I)--run-dir]} where=${words[(r)--run-dir=*]#*=}\n"
    "    ((at)) && where=${words[at + 1]}\n"
    "    compadd -- ${(f)\"$(_call_program nodes $program completion nodes "
    "${where:+--run-dir $where})\"}\n"
    "}\n"
    "\n"
    "if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then\n"
    "    _moonshine \"$@\"\n"
    "else\n"
    "    compdef _moonshine moonshine\n"
    "fi\n";

void moon_completion_zsh(FILE *out)
{
    (void)fputs("#compdef moonshine\n"
                "# zsh completion for moonshine, printed by: moonshine "
                "completion zsh\n\ntypeset -g _moonshine_key_names='",
                out);
    put_keys(out);
    (void)fputs("'\n\n_moonshine() {\n"
                "    local program=${words[1]} command=${words[2]}\n"
                "    local -a commands\n    commands=(\n",
                out);
    put_zsh_list(out);
    (void)fputs("        'help:Say more about a command'\n    )\n"
                "    if ((CURRENT == 2)); then\n"
                "        _describe -t commands command commands\n"
                "        return\n    fi\n"
                "    shift words\n    ((CURRENT--))\n"
                "    case $command in\n    help)\n"
                "        commands+=('config:The configuration keys')\n"
                "        _describe -t commands command commands\n"
                "        ;;\n",
                out);
    for (size_t i = 0; moon_commands[i] != NULL; i++)
        put_zsh_command(out, moon_commands[i]);
    (void)fputs("    esac\n}\n\n", out);
    (void)fputs(zsh_code, out);
}
