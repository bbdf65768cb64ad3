/* SPDX-License-Identifier: BSD-2-Clause */
#include "uring.h"

#include <linux/fuse.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "store/util.h"
#include "uring_offer.h"

/* -------------------------------------------------------- what the kernel says -- */

/* The protocol, as the kernel has it since 6.14: <linux/fuse.h> may be older. */
enum { COMMAND_REGISTER = 1, COMMAND_COMMIT_AND_FETCH = 2 };

struct entry_header {
    union {
        struct fuse_in_header in;
        struct fuse_out_header out;
        char room[128];
    };
    char op_in[128]; /* the fixed part of the arguments; the others are in the payload */
    struct {
        uint64_t flags;
        uint64_t commit_id;
        uint32_t payload_size;
        uint32_t padding;
        uint64_t reserved;
    } about;
};
_Static_assert(sizeof(struct entry_header) == 288, "the kernel's struct fuse_uring_req_header");

/* In an entry of the submission queue. */
struct command {
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue;
    uint8_t padding[6];
};

/* ----------------------------------------------------------------------- an entry -- */

/*
 * The memory of an entry: a page that begins with the header and at whose end the request is put
 * together, and the payload right behind it. So what the kernel delivers in three parts becomes
 * the one piece that libfuse expects, without moving what may be large.
 */
#define HEAD_SIZE 4096
_Static_assert(HEAD_SIZE >= 2 * sizeof(struct entry_header), "no room for a request");

struct uring {
    int fd;
    int fuse_fd;
    unsigned queue;
    char *memory;
    uint64_t commit_id; /* of the request that is being served */
    uint64_t unique;    /* the same, as its answer names it; 0 = there is none */
    unsigned to_submit;
    bool registered;
    uint32_t command;

    void *rings;
    size_t rings_size;
    struct io_uring_sqe *sqe; /* there is only one */
    unsigned *sq_tail, *cq_head, *cq_tail, cq_mask;
    struct io_uring_cqe *cqes;
};

#define SQE_SIZE 128 /* with IORING_SETUP_SQE128 */

/* The entry whose request this thread serves. */
static _Thread_local struct uring *current;

static struct entry_header *header_of(const struct uring *uring)
{
    return (struct entry_header *)(void *)uring->memory;
}

static char *payload_of(const struct uring *uring)
{
    return uring->memory + HEAD_SIZE;
}

static int map_rings(struct uring *uring, const struct io_uring_params *params)
{
    size_t sq_size = params->sq_off.array + params->sq_entries * sizeof(unsigned);
    size_t cq_size = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    uring->rings_size = sq_size > cq_size ? sq_size : cq_size;
    char *rings = mmap(NULL, uring->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       uring->fd, IORING_OFF_SQ_RING);
    if (rings == MAP_FAILED)
        return -errno;
    uring->rings = rings;
    void *sqe = mmap(NULL, SQE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, uring->fd,
                     IORING_OFF_SQES);
    if (sqe == MAP_FAILED)
        return -errno;
    uring->sqe = sqe;
    uring->sq_tail = (unsigned *)(void *)(rings + params->sq_off.tail);
    *(unsigned *)(void *)(rings + params->sq_off.array) = 0;
    uring->cq_head = (unsigned *)(void *)(rings + params->cq_off.head);
    uring->cq_tail = (unsigned *)(void *)(rings + params->cq_off.tail);
    uring->cq_mask = *(unsigned *)(void *)(rings + params->cq_off.ring_mask);
    uring->cqes = (struct io_uring_cqe *)(void *)(rings + params->cq_off.cqes);
    return 0;
}

static int set_up(struct uring *uring)
{
    /* Only the thread that it belongs to submits and looks, so the kernel need not interrupt
     * it. Disabled at first, because that thread isn't there yet. */
    struct io_uring_params params = {.flags = IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED |
                                              IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN};
    uring->fd = (int)syscall(SYS_io_uring_setup, 1, &params);
    if (uring->fd < 0)
        return -errno;
    int r = map_rings(uring, &params);
    if (r < 0)
        return r;
    char *memory = mmap(NULL, HEAD_SIZE + URING_TRANSFER_MAX, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    uring->memory = memory;
    return 0;
}

int uring_open(int fuse_fd, unsigned queue, struct uring **out)
{
    struct uring *uring = calloc(1, sizeof(*uring));
    if (uring == NULL)
        return -ENOMEM;
    uring->fuse_fd = fuse_fd;
    uring->queue = queue;
    int r = set_up(uring);
    if (r < 0) {
        uring_close(uring);
        return r;
    }
    *out = uring;
    return 0;
}

/* Prepare a command. It goes with the next enter(). */
static void submit(struct uring *uring, uint32_t command)
{
    struct io_uring_sqe *sqe = uring->sqe;
    memset(sqe, 0, SQE_SIZE);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = uring->fuse_fd;
    sqe->cmd_op = command;
    struct iovec iov[2] = {{uring->memory, sizeof(struct entry_header)},
                           {payload_of(uring), URING_TRANSFER_MAX}};
    if (command == COMMAND_REGISTER) {
        /* Read at once, while the command is submitted: it is a copy in the entry's own page. */
        void *copy = memcpy(uring->memory + sizeof(struct entry_header), iov, sizeof(iov));
        sqe->addr = (uintptr_t)copy;
        sqe->len = array_length(iov);
    }
    struct command about = {.commit_id = uring->commit_id, .queue = (uint16_t)uring->queue};
    memcpy(sqe->cmd, &about, sizeof(about));
    __atomic_store_n(uring->sq_tail, *uring->sq_tail + 1, __ATOMIC_RELEASE);
    uring->to_submit = 1;
    uring->command = command;
}

/* Submit what is prepared, and wait for `least` completions. */
static int enter(struct uring *uring, unsigned least)
{
    long r = syscall(SYS_io_uring_enter, uring->fd, uring->to_submit, least,
                     least > 0 ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
    if (r < 0)
        return -errno;
    uring->to_submit -= (unsigned)r;
    return 0;
}

static bool has_completion(const struct uring *uring)
{
    return *uring->cq_head != __atomic_load_n(uring->cq_tail, __ATOMIC_ACQUIRE);
}

static int next_result(const struct uring *uring)
{
    return uring->cqes[*uring->cq_head & uring->cq_mask].res;
}

/* What became of the command: 0 = there is a request. -EAGAIN: nothing yet. */
static int complete(struct uring *uring)
{
    if (!has_completion(uring))
        return -EAGAIN;
    int result = next_result(uring);
    __atomic_store_n(uring->cq_head, *uring->cq_head + 1, __ATOMIC_RELEASE);
    if (result == -EINTR || result == -EAGAIN) {
        submit(uring, uring->command); /* not done, once more */
        return -EAGAIN;
    }
    return result;
}

/* From the thread that it belongs to from now on. */
static int start(struct uring *uring)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(uring->queue, &cpus);
    (void)sched_setaffinity(0, sizeof(cpus), &cpus); /* fails where that CPU isn't for us */
    if (syscall(SYS_io_uring_register, uring->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        return -errno;
    submit(uring, COMMAND_REGISTER);
    uring->registered = true;
    return 0;
}

/* Put the request into one piece: header, fixed arguments, the others. */
static int assemble(struct uring *uring, struct fuse_buf *request)
{
    const struct entry_header *header = header_of(uring);
    size_t others = header->about.payload_size;
    if (header->in.len < sizeof(header->in) + others ||
        header->in.len - sizeof(header->in) - others > sizeof(header->op_in))
        return -EPROTO;
    size_t fixed = header->in.len - sizeof(header->in) - others;
    char *arguments = payload_of(uring) - fixed;
    memcpy(arguments, header->op_in, fixed);
    *request = (struct fuse_buf){.mem = arguments - sizeof(header->in), .size = header->in.len};
    memcpy(request->mem, &header->in, sizeof(header->in));
    uring->commit_id = header->about.commit_id;
    uring->unique = header->in.unique;
    return 1;
}

/*
 * Send the answer that is in the entry, and ask for the next request. At once, and not with the
 * call that waits for that, which would save a system call: it is not slower, because whoever waits
 * for the answer can go on a little earlier, and so it is as from /dev/fuse: what is done after an
 * answer is done after it has arrived. -ENOENT: it could not be delivered.
 */
static int commit(struct uring *uring)
{
    uring->unique = 0;
    submit(uring, COMMAND_COMMIT_AND_FETCH);
    (void)enter(uring, 0); /* what was not submitted goes with the next one */
    return has_completion(uring) && next_result(uring) < 0 ? -ENOENT : 0;
}

/* An answer that consists of nothing. */
static int acknowledge(struct uring *uring)
{
    struct entry_header *header = header_of(uring);
    header->out = (struct fuse_out_header){.unique = uring->unique, .len = sizeof(header->out)};
    header->about.payload_size = 0;
    return commit(uring);
}

int uring_next(struct uring *uring, struct fuse_buf *request)
{
    current = NULL;
    int r = uring->registered ? 0 : start(uring);
    if (uring->unique != 0)
        (void)acknowledge(uring); /* it wanted none, but the entry has to go back */
    if (r == 0)
        r = enter(uring, 1);
    if (r == 0)
        r = complete(uring);
    if (r == 0)
        r = assemble(uring, request);
    if (r == 1)
        current = uring;
    bool ended = r == -ENOTCONN || r == -ECONNABORTED || r == -ENOENT;
    return ended ? 0 : r;
}

void uring_close(struct uring *uring)
{
    if (uring == NULL)
        return;
    if (current == uring)
        current = NULL;
    while (uring->to_submit > 0 && enter(uring, 0) == -EINTR)
        ;
    if (uring->sqe != NULL)
        munmap(uring->sqe, SQE_SIZE);
    if (uring->rings != NULL)
        munmap(uring->rings, uring->rings_size);
    if (uring->fd >= 0)
        close(uring->fd);
    if (uring->memory != NULL)
        munmap(uring->memory, HEAD_SIZE + URING_TRANSFER_MAX);
    free(uring);
}

/* ------------------------------------------------------------------------ answers -- */

/* Set while INIT is answered. */
static _Thread_local bool accepting;

void *uring_payload(size_t size)
{
    return current != NULL && size <= URING_TRANSFER_MAX ? payload_of(current) : NULL;
}

/* Put the parts of an answer into the entry; the first is the header. */
static ssize_t answer(struct uring *uring, const struct iovec *iov, int count)
{
    struct entry_header *header = header_of(uring);
    char *payload = payload_of(uring);
    size_t size = 0;
    memcpy(&header->out, iov[0].iov_base, sizeof(header->out));
    for (int i = 1; i < count; i++) {
        if (iov[i].iov_len > URING_TRANSFER_MAX - size) {
            header->out.error = -EIO;
            size = 0;
            break;
        }
        if (iov[i].iov_base != payload + size)
            memmove(payload + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    header->about.payload_size = (uint32_t)size;
    if (commit(uring) == 0)
        return (ssize_t)(sizeof(header->out) + size);
    errno = ENOENT; /* as from /dev/fuse: nobody waits for it any more */
    return -1;
}

/* The answer to INIT is a header and this. */
static void accept_offer(struct iovec *iov, int count)
{
    const struct fuse_out_header *out = iov[0].iov_base;
    if (count != 2 || out->error != 0 || iov[1].iov_len != sizeof(struct fuse_init_out))
        return;
    struct fuse_init_out *init = iov[1].iov_base;
    init->flags2 |= URING_OFFER_FLAGS2;
}

static ssize_t send_answer(int fd, struct iovec *iov, int count, void *userdata)
{
    (void)userdata;
    const struct fuse_out_header *out = iov[0].iov_base;
    if (current != NULL && out->unique != 0 && out->unique == current->unique)
        return answer(current, iov, count);
    if (accepting)
        accept_offer(iov, count);
    return writev(fd, iov, count);
}

static ssize_t receive_request(int fd, void *buffer, size_t size, void *userdata)
{
    (void)userdata;
    return read(fd, buffer, size);
}

int uring_prepare(struct fuse_session *session)
{
    static const struct fuse_custom_io io = {.writev = send_answer, .read = receive_request};
    return fuse_session_custom_io(session, &io, sizeof(io), fuse_session_fd(session));
}

void uring_accept(struct fuse_session *session, const struct fuse_buf *init)
{
    accepting = true;
    fuse_session_process_buf(session, init);
    accepting = false;
}
