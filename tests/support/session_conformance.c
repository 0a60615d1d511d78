/* All that state/session_store.h promises, tried on one store:
 *
 *   session_conformance URL
 *
 * Prints a line per case, as TAP does, and exits with 1 if one failed. What a
 * store does not do it must refuse with MOON_EDENIED; then that is the case.
 * Keys are random, so what is in the store already does no harm. */
#include "session_cases.h"
#include "session_stores.h"

#include <stdio.h>
#include <stdlib.h>

static void run_all(void)
{
    run_case("create and load", create_and_load);
    run_case("saves merge", saves_merge);
    run_case("clear removes the rest", clear_removes_the_rest);
    run_case("a version can be asked for", a_version_can_be_asked_for);
    run_case("what is gone stays gone", what_is_gone_stays_gone);
    run_case("a session moves", a_session_moves);
    run_case("idle sessions end", idle_sessions_end);
    run_case("sessions end whatever happens", sessions_end_whatever_happens);
    run_case("some sessions never end", some_sessions_never_end);
    run_case("a touch never shortens", a_touch_never_shortens);
    run_case("subjects are kept", subjects_are_kept);
    run_case("sessions of a subject", sessions_of_a_subject);
    run_case("all of a subject end", all_of_a_subject_end);
    run_case("values are bytes", values_are_bytes);
    run_case("big values", big_values);
    run_case("many fields", many_fields);
    run_case("cancelled ones say nothing", cancelled_ones_say_nothing);
    run_case("deadlines hold", deadlines_hold);
    run_case("a removal wins", a_removal_wins);
    run_case("two processes merge", two_processes_merge);
    run_case("no increment is lost", no_increment_is_lost);
    run_case("a removal wins over other processes",
             a_removal_wins_over_other_processes);
    run_case("one of several creates it", one_of_several_creates_it);
}

/* PROGRAM URL --child NAME KEY A B */
static int child_main(char **argv)
{
    struct moon_session_key key;
    if (!parse_key(argv[4], &key) || !open_here(argv[1]))
        return 1;
    bool known = run_child(argv[3], &key, atoi(argv[5]), atoi(argv[6]));
    int status = print_wrong();
    close_here();
    return known ? status : 2;
}

int main(int argc, char **argv)
{
    char url[STORE_URL];
    if (argc == 7 && strcmp(argv[2], "--child") == 0)
        return child_main(argv);
    if (argc != 2) {
        (void)fprintf(stderr, "session_conformance URL\n");
        return 2;
    }
    if (!store_prepare(argv[1], url))
        return 1;
    int status = 1;
    if (open_here(url)) {
        run_all();
        status = finish_cases();
        close_here();
    }
    store_release(url);
    return status;
}
