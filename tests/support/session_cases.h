/* The cases of the conformance suite; each leaves the store as it was. */
#ifndef MOON_TESTS_SESSION_CASES_H
#define MOON_TESTS_SESSION_CASES_H

#include "session_harness.h"

#define NOW (start_ms())

enum { HOUR_MS = 3600 * 1000 };

/* A new session, with an idle time of an hour. */
void create_session(const struct moon_session_key *key,
                    const struct moon_session_field *fields, uint32_t count);

/* session_cases_one.c */
void create_and_load(void);
void saves_merge(void);
void clear_removes_the_rest(void);
void a_version_can_be_asked_for(void);
void what_is_gone_stays_gone(void);
void a_session_moves(void);
void idle_sessions_end(void);
void sessions_end_whatever_happens(void);
void some_sessions_never_end(void);
void a_touch_never_shortens(void);
void values_are_bytes(void);
void big_values(void);
void many_fields(void);

/* session_cases_subject.c */
void subjects_are_kept(void);
void sessions_of_a_subject(void);
void all_of_a_subject_end(void);

/* session_cases_parallel.c */
void cancelled_ones_say_nothing(void);
void deadlines_hold(void);
void a_removal_wins(void);
void two_processes_merge(void);
void no_increment_is_lost(void);
void a_removal_wins_over_other_processes(void);
void one_of_several_creates_it(void);

/* In another process: the part that the case gives it. False: no such. */
bool run_child(const char *namez, const struct moon_session_key *key, int a,
               int b);

#endif
