/* SPDX-License-Identifier: BSD-2-Clause */
#include "guard.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

#include "util.h"

static const int faults[] = {SIGSEGV, SIGBUS};

/* Where to go on; NULL: no call of ours is running. */
static _Thread_local sigjmp_buf *way_out;

static void leave_call(void)
{
    if (way_out != NULL)
        siglongjmp(*way_out, 1);
}

static void on_fault(int number)
{
    leave_call();
    signal(number, SIG_DFL); /* it comes again at once, and then does what it always did */
}

static void on_assertion(MDB_env *env, const char *text)
{
    (void)env, (void)text;
    leave_call(); /* else LMDB prints the text and aborts */
}

static void catch_faults(void)
{
    /* The handler is left by a jump, so the signal must not be blocked meanwhile. */
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    for (size_t i = 0; i < array_length(faults); i++)
        sigaction(faults[i], &action, NULL);
}

void guard_install(MDB_env *env)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, catch_faults);
    (void)mdb_env_set_assert(env, on_assertion);
}

int guard_get(MDB_txn *txn, MDB_dbi table, MDB_val *key, MDB_val *value)
{
    sigjmp_buf here;
    if (sigsetjmp(here, 0) != 0) {
        way_out = NULL;
        return MDB_CORRUPTED;
    }
    way_out = &here;
    int rc = mdb_get(txn, table, key, value);
    way_out = NULL;
    return rc;
}

int guard_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op)
{
    sigjmp_buf here;
    if (sigsetjmp(here, 0) != 0) {
        way_out = NULL;
        return MDB_CORRUPTED;
    }
    way_out = &here;
    int rc = mdb_cursor_get(cursor, key, value, op);
    way_out = NULL;
    return rc;
}
