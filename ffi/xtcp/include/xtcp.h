/*
 * xtcp.h: TCP for servers with very many clients, over an XTCP appliance.
 *
 * A *pool* has a receive buffer that all its connections share. In it are *groups*, one for a port;
 * in a group are *connections*. Nothing a client sends is acknowledged to it before the application
 * says so by the ackd of xtcp_send, and the acknowledgement rides on the answer. What was not
 * acknowledged the client's TCP still has, so a server that dies loses no request.
 *
 * The first part is the interface of WO 02/091709, Fig. 4. The second part, below, is what is
 * beyond it; a program may use either or both.
 *
 * ERRORS. Calls return 0, a count or a number from 1 on; on failure the negative of an errno value.
 * errno itself is not set. xtcp_last_error() has a sentence about the failure. Common to all:
 *   -EBADF     gd is not an open group of this thread
 *   -ENOTCONN  cd is not a connection of the group (or, without a gd: there is no such pool)
 *   -EFAULT    a pointer that is needed is NULL
 *   -ENETDOWN  the dataplane is gone and all connections with it: xtcp_finalize, xtcp_initialize
 *   -EPROTO    library and appliance were not built from the same source
 * And where the appliance is asked (pools, groups, xtcp_pars), when it refuses:
 *   -EINVAL      a value that cannot be: an address that is not the appliance's, for one
 *   -EADDRINUSE  the name, or what is named, is taken
 *   -ENOENT      what is named is not there
 *   -ENOSPC      a limit is reached: groups, applications, memory
 *   -EACCES      this user may not
 *   -EAGAIN      the dataplane is not there at the moment: try again
 *   -EOPNOTSUPP  not what can be asked here
 *
 * NUMBERS. gd and cd are given in ascending order from 1 on, and begin again after 2147483647. So
 * the number of something that is closed names nothing, and not the next one that comes. Each pool
 * has its own cd; groups of different pools may have connections of the same number.
 *
 * THREADS. A pool, its groups and its connections belong to the thread that made the pool; another
 * thread's calls with their numbers give -EBADF. Threads that share the work have a pool each. The
 * pools of a thread are gone when it ends. A child of fork(2) has none of its parent's; let it call
 * xtcp_finalize() or exec, so that the appliance does not take it for the parent.
 *
 * WAITING. Only xtcp_select sleeps. Opening and closing pools and groups, and xtcp_pars, ask xtcpd
 * and wait for its answer (10 s at most). Everything else returns at once, and makes no system call
 * while there is work.
 *
 * ENVIRONMENT, read when a pool is made:
 *   XTCP_INSTANCE     the appliance's instance, `xtcp` by default
 *   XTCP_RUN_DIR      where instances have their sockets, /run/xtcp by default
 *   XTCP_APPLICATION  the name operators see, the program's by default
 *
 * Linking: cc server.c $(pkg-config --cflags --libs xtcp); for the archive,
 * cc server.c $(pkg-config --cflags --libs --static xtcp | sed s/-lxtcp/-l:libxtcp.a/)
 */
#ifndef XTCP_H
#define XTCP_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#ifdef __cplusplus
extern "C" {
#define XTCP_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define XTCP_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* ---- Pools ---------------------------------------------------------------------------------- */

/*
 * Makes this thread's first pool, with a receive buffer of so many bytes; 0 takes as many as the
 * appliance gives one application. Returns 0.
 *   -EALREADY      this thread has its first pool already
 *   -ECONNREFUSED, -ENOENT  xtcpd is not there
 */
extern int xtcp_initialize(size_t buffer_pool_size);

/*
 * Tears the first pool down: its groups are closed and its connections reset. Returns 0. Whatever
 * it returns, the pool is gone for this thread.
 */
extern int xtcp_finalize(void);

/* ---- Groups --------------------------------------------------------------------------------- */

/*
 * Opens a group in the first pool; from now on clients can connect to the port. domain is PF_INET,
 * PF_INET6 or PF_UNIX, type SOCK_STREAM, protocol 0 (or IPPROTO_TCP). Returns the group's number. A
 * group of the same port and domain that a predecessor left, see xtcp_resumed_groups, is the one that
 * is meant.
 *
 * PF_UNIX: a group of local clients, on a UNIX stream socket at RUN_DIR/INSTANCE/APPLICATION-PORT.sock
 * (xtcp_open_group_ex: or another path). The library serves them itself in the calls of this header;
 * everything here is as with TCP, except: connect(2) succeeds at once; what is not acknowledged is
 * given again, but does not outlive this process; xtcp_close does not wait for the client. A file that
 * a killed server left is replaced, one that somebody listens at is not (-EADDRINUSE). Who may connect
 * is said by the file's permissions: what the umask leaves.
 *   -EAFNOSUPPORT     another domain
 *   -ESOCKTNOSUPPORT  another type
 *   -EPROTONOSUPPORT  another protocol
 *   -EINVAL           port 0
 *   -EMFILE           the thread has XTCP_SETSIZE groups already
 */
extern int xtcp_open_group(int domain, int type, int protocol, uint16_t port);

/* Closes a group: its connections are reset. Returns 0. */
extern int xtcp_close_group(int gd);

/* ---- Connections ---------------------------------------------------------------------------- */

/*
 * Accepts the group's next client: its handshake is completed by this. A client that is not accepted
 * in time (the appliance's `accept_timeout_ms`) is refused by the appliance. Does not wait. Returns
 * the connection's number; it can be sent to at once: 4096 bytes may wait for the handshake's end.
 *   -EAGAIN     nobody wants to connect now
 *   -EMFILE     no memory for more connections' numbers
 *   -ESHUTDOWN  the group is drained, see xtcp_drain_group
 */
extern int xtcp_accept(int gd);

/*
 * The client's IPv4 address and port. Asks xtcpd: not for every request. Returns 0.
 *   -EAFNOSUPPORT  the client is an IPv6 one, or a local one: xtcp_pars_ex
 */
extern int xtcp_pars(int gd, int cd, struct sockaddr_in *sa);

/*
 * Closes a connection when everything sent has gone. Returns 0, and the number names nothing any
 * more. A client that has sent something unacknowledged, or sends more, gets a reset, so that it
 * knows that nobody read it.
 *   -EAGAIN  the worker is far behind; nothing was done
 */
extern int xtcp_close(int gd, int cd);

/* ---- Receiving and sending ------------------------------------------------------------------ */

/*
 * Receives what a client of the group has sent: copies to buf all its unacknowledged bytes from the
 * first on, at most len, and writes the connection's number to *cd. Does not wait. Returns how many
 * bytes.
 *
 * What is given stays unacknowledged until xtcp_send says so, and is given again, from the first
 * unacknowledged byte on and with what came since, as soon as
 *   - more has come from that client, or
 *   - a part of it was acknowledged, or
 *   - there was more than len bytes of it: call again with a larger buffer.
 * So half a message needs no place in the application: leave it, and it comes again with the rest.
 *
 * Mind that most clients send no second small segment before the first is acknowledged (Nagle's
 * algorithm). Where a message may come in several, open the group with `acknowledge_after_ms`.
 *
 *   0              with *cd: the client has sent its last; it can still be sent to. xtcp_close it.
 *   -EAGAIN        no connection of the group has anything to give now
 *   -ECONNRESET    with *cd: the client has reset the connection
 *   -ETIMEDOUT     with *cd: the client does not acknowledge any more; the connection is down
 *   -ECONNABORTED  with *cd: the handshake was not completed, or the appliance gave it up
 *   -ESHUTDOWN     the group is drained and everything was received, see xtcp_drain_group
 *   -EINVAL        len is 0
 * After the three with *cd the connection is gone and its number names nothing any more. After other
 * errors *cd is 0.
 */
extern int xtcp_recv(int gd, int *cd, void *buf, size_t len);

/*
 * Acknowledges to the client the first ackd of the bytes that the last xtcp_recv on this connection
 * gave, and sends it len bytes, in one segment if they fit. Does not wait. Returns len.
 *
 * The acknowledgement is made whether or not the bytes could be sent (xtcp_answer ties the two). len
 * 0 only acknowledges; ackd 0 only sends. Several calls acknowledge what one xtcp_recv gave in
 * steps. The bytes are sent all or none, in the order of the calls; those that a slow client does not
 * read yet wait in the library, up to a bound.
 *   -EINVAL    ackd is more than was given and not acknowledged since: nothing was done
 *   -EAGAIN    no room for the bytes now; ackd is acknowledged
 *   -EMSGSIZE  more bytes than can ever wait for one client (1 MiB); ackd is acknowledged
 *   -EPIPE     the connection is gone; xtcp_recv will say so
 */
extern int xtcp_send(int gd, int cd, size_t ackd, const void *buf, size_t len);

/* ---- Waiting -------------------------------------------------------------------------------- */

/* The most groups a thread can have, and a set can hold. */
#define XTCP_SETSIZE 1024

/* A set of groups. Its members are the library's; use the functions. */
typedef struct xtcp_set {
    uint64_t members[XTCP_SETSIZE / 64];
    int32_t gds[XTCP_SETSIZE];
} xtcp_set;

XTCP_STATIC_ASSERT(sizeof(int) == 4, "int has 32 bits");
XTCP_STATIC_ASSERT(sizeof(xtcp_set) == 4224, "xtcp_set is as the library has it");

/* Empties a set; do this first. */
static inline void XTCP_ZERO(xtcp_set *set)
{
    memset(set, 0, sizeof *set);
}

/* Adds a group. */
static inline void XTCP_SET(int gd, xtcp_set *set)
{
    unsigned place = (unsigned)gd % XTCP_SETSIZE;
    set->members[place / 64] |= (uint64_t)1 << (place % 64);
    set->gds[place] = gd;
}

/* Whether a group is in the set: 1 or 0. */
static inline int XTCP_ISSET(int gd, const xtcp_set *set)
{
    unsigned place = (unsigned)gd % XTCP_SETSIZE;
    return (int)(set->members[place / 64] >> (place % 64) & 1) && set->gds[place] == gd;
}

/* Takes a group out. */
static inline void XTCP_CLR(int gd, xtcp_set *set)
{
    unsigned place = (unsigned)gd % XTCP_SETSIZE;
    if (XTCP_ISSET(gd, set))
        set->members[place / 64] &= ~((uint64_t)1 << (place % 64));
}

/*
 * Waits until a group of readgds has something for xtcp_recv, or one of acceptgds a client for
 * xtcp_accept, or the time is over (NULL: without limit). Leaves only ready groups in the sets and
 * returns how many are left in both; 0 when the time is over. Either set may be NULL. n is the number
 * of groups in the larger set, or anything above.
 *
 * What a slow client has not read yet, and closings behind it, go on in any call with a group of the
 * same pool; a server that waits gives them their turns by this call.
 *   -EINTR   a signal was handled; the sets are as they were
 *   -EBADF   a group in a set is not open; the sets are as they were
 *   -EINVAL  n is smaller than a set, or the time is none
 */
extern int xtcp_select(int n, xtcp_set *readgds, xtcp_set *acceptgds, struct timeval *timeout);

/* ==== Beyond the specification =============================================================== */

/* What the thread's last failed call met, in a sentence. Valid until the thread's next call. */
extern const char *xtcp_last_error(void);

/* ---- Options -------------------------------------------------------------------------------- */

/* A list of options ends with { NULL, NULL }; NULL instead of a list is none. An unknown key or a
 * value that cannot be is -EINVAL, and xtcp_last_error() tells what there is. */
struct xtcp_option {
    const char *key;
    const char *value;
};

/*
 * Makes a further pool, with groups and a receive buffer of its own, and returns its number (from 1
 * on). Options, each before the environment's:
 *   application, instance, run_dir   as in the environment
 *   backlog_max    most bytes that wait here for one client that reads slowly (1048576)
 *   backlogs_max   most bytes that wait here for all of them (67108864)
 *   local_bytes    receive buffer for clients of PF_UNIX groups, and as much for what they have not
 *                  read; made when the first is opened (4194304)
 *   timeout_ms     how long xtcpd may take to answer (10000)
 */
extern int xtcp_open_pool(size_t buffer_pool_size, const struct xtcp_option *options);

/* Tears a pool down, see xtcp_finalize. 0 is the first pool. */
extern int xtcp_close_pool(int pd);

/*
 * Opens a group in a pool (0: the first), see xtcp_open_group. Options:
 *   name                  the name operators see (`inet-7777`)
 *   path                  of the socket, PF_UNIX only. With it only name, priority, accept,
 *                         accept_timeout_ms (5000) and window_max have a meaning
 *   dual_stack            1: PF_INET6 takes IPv4 clients, too (0)
 *   address               only this of the appliance's addresses; may be given several times (all of
 *                         the domain). Of groups on one port those that name the address a client
 *                         calls go before those that take any
 *   weight                1 to 255: the group's share of the clients among those it shares port and
 *                         address with (1)
 *   priority              0 to 3: while groups of a higher one are ready, xtcp_select leaves those of
 *                         lower ones out, 16 times in a row at most (1)
 *   accept                `application`, or `automatic`: every client is let in, and xtcp_recv is
 *                         the first to tell its number (application)
 *   accept_timeout_ms     how long a client waits for xtcp_accept (0: the appliance's setting)
 *   acknowledge           `application`, or `on_receive`: the appliance acknowledges at once, as any
 *                         TCP; ackd then only makes room (application)
 *   acknowledge_after_ms  the appliance acknowledges by itself what the application has not
 *                         acknowledged after so long; it is still given again, but a server that
 *                         dies has lost it (0: never)
 *   hold_limit            bytes: the appliance acknowledges by itself what is beyond so many
 *                         unacknowledged ones of a connection, as after acknowledge_after_ms (0: never)
 *   window_max            most bytes a client may send ahead of its acknowledgements (262144)
 *   nagle                 1: hold small answers back while others are unacknowledged (0)
 *   notify_requests       a sleeping thread is woken when so many requests are there ... (1)
 *   notify_us             ... or the first has waited for so many microseconds, 1 to 1000000. A
 *                         thread that does not sleep gets each at once (0: no waiting)
 *   keep_alive_idle_ms    a client of which nothing was heard for so long is asked if it is there.
 *                         Any of the three keys turns this on (off; then 7200000)
 *   keep_alive_interval_ms  time between two questions (75000)
 *   keep_alive_probes     unanswered ones after which the connection is down, 1 to 255 (9)
 *   idle_timeout_ms       a connection on which no text came or went for so long is closed (0: never)
 *   user_timeout_ms       what is sent and unacknowledged for so long makes a connection down
 *                         (0: the appliance's setting)
 *   congestion            `new_reno` (RFC 5681) or `cubic` (RFC 9438) (new_reno)
 *   dscp                  0 to 63, in every packet that is sent; or                      (0)
 *   traffic_class         the whole byte, a multiple of 4 up to 252 (0)
 *   hop_limit             time to live, 1 to 255 (64)
 */
extern int xtcp_open_group_ex(int pd, int domain, int type, int protocol, uint16_t port,
                              const struct xtcp_option *options);

/* How xtcp_drain_group ends connections. */
#define XTCP_WHEN_IDLE 0 /* those with nothing under way, by FIN; the others when that is so of them */
#define XTCP_BY_CLOSE 1  /* all, by FIN after what is queued */
#define XTCP_BY_RESET 2  /* all, by RST */

/*
 * Takes no more clients for a group and brings its connections to their end, at most per_second of
 * them a second (0: as fast as it goes). Returns 0 at once. xtcp_recv tells the end of each; when none
 * is left, and all was received, the group is readable once more and xtcp_recv and xtcp_accept return
 * -ESHUTDOWN from then on. xtcp_close_group it then.
 *   -EINVAL  manner is none of the three
 */
extern int xtcp_drain_group(int gd, unsigned per_second, int manner);

/* ---- Successors ----------------------------------------------------------------------------- */

/*
 * A server that died, at any point, is followed by the next that makes a pool under its name as the
 * same user, if the appliance is configured so (`successor = "keep"`). It has the groups and
 * connections at once: requests that were not acknowledged are given again by xtcp_recv, from the
 * first unacknowledged byte on. A connection that ended meanwhile is not told of at all. What the
 * predecessor had asked for and the appliance had seen is done; nothing else is.
 */
struct xtcp_group {
    int gd;
    uint16_t port;
    uint16_t priority;
    char name[68];
};

XTCP_STATIC_ASSERT(sizeof(struct xtcp_group) == 76, "as the library has it");

/* Tells up to count of the groups that a predecessor left in a pool (0: the first), which are open
 * here now. Returns how many there are; 0: none, or there was no predecessor. */
extern int xtcp_resumed_groups(int pd, struct xtcp_group *groups, int count);

/* How many connections it left; -EAGAIN until all were told of. */
extern int xtcp_resumed_connections(int pd);

/* The number of the group's next connection that a predecessor left, each once, so that it can be sent
 * to before it says anything. xtcp_recv may have told it already.
 *   -EAGAIN  more may come
 *   -ENOENT  that was all */
extern int xtcp_next_resumed(int gd);

/* ---- Connections ---------------------------------------------------------------------------- */

/* Refuses the group's next client with a reset. Returns 0; -EAGAIN as xtcp_accept. */
extern int xtcp_refuse(int gd);

/* Resets a connection; what waits for its client is thrown away. Otherwise as xtcp_close. */
extern int xtcp_abort(int gd, int cd);

/* The client's and the appliance's addresses and ports, of either family; either may be NULL. Those of
 * a local client are AF_UNIX, without a name, and with the socket's path. */
extern int xtcp_pars_ex(int gd, int cd, struct sockaddr_storage *remote,
                        struct sockaddr_storage *local);

/* The process of a local client when it connected, and the user it ran as; either may be NULL.
 *   -EAFNOSUPPORT  the client is not a local one */
extern int xtcp_peer(int gd, int cd, int *process, unsigned *user);

/*
 * The appliance's handle of a connection: 64 bits that xtcpctl shows and that no other connection of
 * the same dataplane has. Returns 0.
 */
extern int xtcp_handle(int gd, int cd, uint64_t *handle);

/* The number of the group's connection that has this handle; -ENOTCONN if there is none. */
extern int xtcp_find(int gd, uint64_t handle);

/* ---- Answers and batches -------------------------------------------------------------------- */

/*
 * As xtcp_send, but acknowledges only if the bytes could be sent. Otherwise neither is done, and what
 * xtcp_recv gave is given again when there may be room. A server that answers only so needs no
 * buffer for answers, and slows down a client that asks for much and reads little.
 */
extern int xtcp_answer(int gd, int cd, size_t ackd, const void *buf, size_t len);

/* Some bytes of a client, where they lie. */
struct xtcp_piece {
    const void *at;
    size_t len;
};

/* What xtcp_recv would have told of a connection. */
struct xtcp_received {
    int cd;
    int status;                      /* what xtcp_recv would have returned */
    uint64_t handle;                 /* see xtcp_handle */
    uint64_t offset;                 /* of the first byte in the client's stream */
    const struct xtcp_piece *pieces; /* status bytes in all, in order */
    size_t piece_count;
};

/*
 * Receives from up to count connections of the group at once, without copying: the bytes are read in
 * place. A connection's bytes stay until they are acknowledged or the connection is closed here, but
 * none longer than until this thread's next xtcp_recv, xtcp_recv_batch, xtcp_accept, xtcp_refuse,
 * xtcp_select or xtcp_arm; the list of pieces until its next xtcp_recv_batch. They cannot be written
 * to. Returns how many; errors as xtcp_recv, without those of one connection, which are in its
 * status.
 */
extern int xtcp_recv_batch(int gd, struct xtcp_received *received, int count);

/* Acknowledge only if the bytes could be sent, see xtcp_answer. */
#define XTCP_TIED 1

/* The arguments of an xtcp_send, and what it returned. */
struct xtcp_sending {
    int gd;
    int cd;
    int flags;  /* 0 or XTCP_TIED */
    int result; /* what xtcp_send would have returned */
    size_t ackd;
    const void *buf;
    size_t len;
};

/*
 * Does each of count sendings, in order, and shows them to the appliance at once. Returns how many
 * succeeded.
 */
extern int xtcp_send_batch(struct xtcp_sending *sendings, int count);

/*
 * Does all of count sendings or none, even if the process dies meanwhile: a message received from one
 * client and sent to another is acknowledged and sent, or neither. Waits until the appliance has
 * decided, some microseconds. A connection may occur several times; flags are 0. All connections are
 * of one pool and of one worker of the appliance (it may have one), and not both local and not. Returns
 * 0, and the results are as xtcp_send's; or a failure, which is every result, and nothing was done.
 *   -EXDEV     several pools or workers
 *   -EMSGSIZE  more connections (32) or bytes than go at once
 *   -EINVAL, -EAGAIN, -EPIPE  as xtcp_send, of the first that is in the way
 *   -ENETDOWN  the dataplane is gone; it may have been done before
 */
extern int xtcp_transact(struct xtcp_sending *sendings, int count);

XTCP_STATIC_ASSERT(sizeof(struct xtcp_option) == 16, "as the library has it");
XTCP_STATIC_ASSERT(sizeof(struct xtcp_piece) == 16, "as the library has it");
XTCP_STATIC_ASSERT(sizeof(struct xtcp_received) == 40, "as the library has it");
XTCP_STATIC_ASSERT(sizeof(struct xtcp_sending) == 40, "as the library has it");

/* ---- Event loops of one's own --------------------------------------------------------------- */

/*
 * Before a sleep in poll(2) or the like: returns the file to sleep on until it can be read, and
 * writes to *timeout_ms how long at most (-1: without limit). Do not read it. After the sleep,
 * whatever ended it, call this or xtcp_select again.
 *   -EAGAIN  some group of the pool (0: the first) is ready: do not sleep
 */
extern int xtcp_arm(int pd, int *timeout_ms);

#ifdef __cplusplus
}
#endif

#endif /* XTCP_H */
