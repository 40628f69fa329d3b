/*
 * A small presence and message server in C: who is here, and a word from one to another. It has the
 * same conversation as presence.rs beside it.
 *
 *   $ cc -O2 presence.c $(pkg-config --cflags --libs xtcp) -o presence && ./presence
 *   $ nc 10.77.0.2 7777
 *   LOGIN alice
 *   OK alice is here
 *   MSG bob are you there?
 *   ERR bob is not here
 *
 * What to look for:
 *
 *   - One thread serves every client. It sleeps in xtcp_select when nothing is to be done.
 *   - There is no input buffer. A line that has not come in full is simply not acknowledged; it is
 *     given again with more when more has come.
 *   - There is no output buffer. xtcp_answer acknowledges a line and answers it in one segment, or
 *     does neither; then the line is given again when there is room. So a client that asks for much
 *     and reads little is slowed down by its own TCP.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xtcp.h>

/* Longest line in bytes. */
#define LINE_MAX_BYTES 4096
/* Longest body of an ECHO in bytes. */
#define ECHO_MAX 1048576
/* Longest name in bytes. */
#define NAME_MAX_BYTES 32

/* What HELP says, and with it the whole protocol. */
static const char HELP[] =
    "LOGIN name       be somebody: 1 to 32 letters, digits, - and _\n"
    "MSG name text    tell somebody something\n"
    "WHO              who is here\n"
    "ECHO n           then n bytes (at most 1048576): get the same bytes back, and nothing else\n"
    "HELP             this\n"
    "QUIT             go\n"
    ".\n";

/* ---- Clients: a table by their numbers ------------------------------------------------------ */

/* What this server knows of a client. The library knows nothing of one that is idle. */
struct client {
    int cd; /* 0: nobody is here */
    char name[NAME_MAX_BYTES + 1];
    size_t echo; /* bytes of an ECHO's body that have not come yet */
    size_t left; /* bytes of an incomplete line that were left where they are */
    int passed;  /* the message of the line in front has gone; its answer has not */
};

static struct client *clients;
static size_t places; /* a power of two */
static size_t count;

/* A client's place, or the free one where it would be. */
static struct client *place_of(struct client *table, size_t size, int cd)
{
    size_t at = (uint32_t)cd * UINT32_C(2654435761) & (size - 1);
    while (table[at].cd != 0 && table[at].cd != cd)
        at = (at + 1) & (size - 1);
    return &table[at];
}

static struct client *find_client(int cd)
{
    struct client *client = places ? place_of(clients, places, cd) : NULL;
    return client && client->cd == cd ? client : NULL;
}

static struct client *add_client(int cd)
{
    if ((count + 1) * 4 > places * 3) {
        size_t size = places ? places * 2 : 64;
        struct client *table = calloc(size, sizeof *table);
        if (!table)
            return NULL;
        for (size_t at = 0; at < places; at++)
            if (clients[at].cd)
                *place_of(table, size, clients[at].cd) = clients[at];
        free(clients);
        clients = table;
        places = size;
    }
    struct client *client = place_of(clients, places, cd);
    memset(client, 0, sizeof *client);
    client->cd = cd;
    count++;
    return client;
}

static void forget_client(int cd)
{
    struct client *gone = find_client(cd);
    if (!gone)
        return;
    gone->cd = 0;
    count--;
    /* Those behind it may have been pushed there by it. */
    for (size_t at = (size_t)(gone - clients + 1) & (places - 1); clients[at].cd;
         at = (at + 1) & (places - 1)) {
        struct client moved = clients[at];
        clients[at].cd = 0;
        *place_of(clients, places, moved.cd) = moved;
    }
}

/* Who has this name. A busier server would have a table by name, too. */
static struct client *find_name(const char *name)
{
    for (size_t at = 0; at < places; at++)
        if (clients[at].cd && strcmp(clients[at].name, name) == 0)
            return &clients[at];
    return NULL;
}

/* ---- The conversation ----------------------------------------------------------------------- */

static int gd;

/* Ends a connection. Its number names nothing after this. */
static void end(int cd)
{
    if (xtcp_close(gd, cd) == -EAGAIN)
        return; /* the worker is far behind; the client's end is told again when it closes */
    forget_client(cd);
}

/* Acknowledges a line with its answer, or neither; says whether that is done. */
static int say(struct client *client, size_t ackd, const char *answer)
{
    return xtcp_answer(gd, client->cd, ackd, answer, strlen(answer)) >= 0;
}

static int is_name(const char *name)
{
    size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
    return len >= 1 && len <= NAME_MAX_BYTES && name[len] == '\0';
}

static int is_utf8(const char *text)
{
    for (const unsigned char *byte = (const unsigned char *)text; *byte; byte++) {
        int more = *byte < 0x80 ? 0 : *byte >= 0xc2 && *byte < 0xe0 ? 1 :
                   *byte >= 0xe0 && *byte < 0xf0 ? 2 : *byte >= 0xf0 && *byte < 0xf5 ? 3 : -1;
        if (more < 0 || (*byte == 0xe0 && byte[1] < 0xa0) || (*byte == 0xed && byte[1] > 0x9f) ||
            (*byte == 0xf0 && byte[1] < 0x90) || (*byte == 0xf4 && byte[1] > 0x8f))
            return 0;
        while (more-- > 0)
            if ((*++byte & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

/* Gives the client a name. A line whose answer found no room comes again, so saying it twice must do
 * no harm. */
static void login(struct client *client, const char *name, char *answer, size_t size)
{
    struct client *holder = is_name(name) ? find_name(name) : NULL;
    if (!is_name(name)) {
        snprintf(answer, size, "ERR a name is 1 to 32 letters, digits, - and _\n");
    } else if (holder && holder != client) {
        snprintf(answer, size, "ERR %s is taken\n", name);
    } else {
        strcpy(client->name, name);
        snprintf(answer, size, "OK %s is here\n", name);
    }
}

/* Passes a text on. The sender's line is acknowledged after this: if we die in between, the sender's
 * TCP still has it. */
static void message(struct client *from, char *rest, char *answer, size_t size)
{
    char *text = strchr(rest, ' ');
    if (!from->name[0]) {
        snprintf(answer, size, "ERR LOGIN first\n");
    } else if (!text) {
        snprintf(answer, size, "ERR MSG wants a name and a text\n");
    } else {
        *text++ = '\0';
        struct client *to = *rest ? find_name(rest) : NULL;
        char bytes[LINE_MAX_BYTES + 64];
        int len = snprintf(bytes, sizeof bytes, "FROM %s %s\n", from->name, text);
        int sent = -EPIPE;
        if (from->passed)
            sent = 0; /* the line comes again, because its answer found no room */
        else if (to)
            sent = xtcp_send(gd, to->cd, 0, bytes, (size_t)len);
        from->passed = sent >= 0;
        if (sent >= 0)
            snprintf(answer, size, "OK %s has it\n", rest);
        else if (sent == -EAGAIN)
            snprintf(answer, size, "ERR %s does not read\n", rest);
        else if (sent == -EPIPE || sent == -ENOTCONN)
            snprintf(answer, size, "ERR %s is not here\n", rest);
        else
            snprintf(answer, size, "ERR %s\n", xtcp_last_error());
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Everybody's name, in order, as a string to be freed. */
static char *who(void)
{
    const char **names = calloc(count + 1, sizeof *names);
    char *text = NULL;
    size_t size, here = 0;
    FILE *stream = names ? open_memstream(&text, &size) : NULL;
    if (stream) {
        for (size_t at = 0; at < places; at++)
            if (clients[at].cd && clients[at].name[0])
                names[here++] = clients[at].name;
        qsort(names, here, sizeof *names, by_name);
        fputs("HERE", stream);
        for (size_t at = 0; at < here; at++)
            fprintf(stream, " %s", names[at]);
        fputs(here ? "\n" : " \n", stream);
        fclose(stream);
    }
    free(names);
    return text;
}

/* Does what a line says, and acknowledges it with its answer. `all` is every byte given with it.
 * Says whether that is done and the client is still here. */
static int on_line(struct client *client, char *line, size_t len, size_t all)
{
    char answer[LINE_MAX_BYTES + 128];
    size_t end_of_line = len - 1;
    int has_nul = memchr(line, '\0', end_of_line) != NULL;
    while (end_of_line > 0 && line[end_of_line - 1] == '\r')
        end_of_line--;
    char word[LINE_MAX_BYTES + 1];
    memcpy(word, line, end_of_line);
    word[end_of_line] = '\0';
    char *rest = strchr(word, ' ');
    if (rest)
        *rest++ = '\0';
    else
        rest = word + end_of_line;

    if (has_nul || !is_utf8(word) || !is_utf8(rest)) {
        snprintf(answer, sizeof answer, "ERR that is not UTF-8\n");
    } else if (strcmp(word, "LOGIN") == 0) {
        login(client, rest, answer, sizeof answer);
    } else if (strcmp(word, "MSG") == 0) {
        message(client, rest, answer, sizeof answer);
    } else if (strcmp(word, "WHO") == 0) {
        char *here = who();
        int done = say(client, len, here ? here : "ERR no memory\n");
        free(here);
        return done;
    } else if (strcmp(word, "HELP") == 0) {
        return say(client, len, HELP);
    } else if (strcmp(word, "QUIT") == 0) {
        /* What came behind it is not listened to; a client that is told BYE is not to be reset. */
        if (say(client, all, "BYE\n"))
            end(client->cd);
        return 0;
    } else if (strcmp(word, "ECHO") == 0) {
        char *stop;
        unsigned long wanted = strtoul(rest, &stop, 10);
        if (rest[0] >= '0' && rest[0] <= '9' && *stop == '\0' && wanted <= ECHO_MAX) {
            client->echo = wanted;
            return xtcp_send(gd, client->cd, len, NULL, 0) >= 0;
        }
        snprintf(answer, sizeof answer, "ERR ECHO wants a number up to %d\n", ECHO_MAX);
    } else {
        snprintf(answer, sizeof answer, "ERR HELP tells what there is\n");
    }
    int done = say(client, len, answer);
    if (done)
        client->passed = 0;
    return done;
}

static void on_bad_line(struct client *client, size_t len)
{
    if (say(client, len, "ERR that is no line\n"))
        end(client->cd);
}

/* Takes as many lines and bodies off the bytes as have come in full. What is left is given again. */
static void on_bytes(struct client *client, char *bytes, size_t len)
{
    client->left = 0;
    while (len > 0) {
        size_t taken;
        if (client->echo > 0) {
            taken = client->echo < len ? client->echo : len;
            if (xtcp_answer(gd, client->cd, taken, bytes, taken) < 0)
                return; /* no room, or the connection is gone: xtcp_recv says which */
            client->echo -= taken;
        } else {
            char *end_of_line = memchr(bytes, '\n', len);
            taken = end_of_line ? (size_t)(end_of_line - bytes) + 1 : 0;
            if (taken > LINE_MAX_BYTES || (!taken && len > LINE_MAX_BYTES)) {
                on_bad_line(client, len);
                return;
            }
            if (!taken) {
                client->left = len;
                return;
            }
            if (!on_line(client, bytes, taken, len))
                return;
        }
        bytes += taken;
        len -= taken;
    }
}

/* Does everything that has come. Says 0, or what ends the server. */
static int receive(void)
{
    static char bytes[65536];
    for (;;) {
        int cd;
        int len = xtcp_recv(gd, &cd, bytes, sizeof bytes);
        struct client *client = cd ? find_client(cd) : NULL;
        if (len == -EAGAIN)
            return 0;
        if (len < 0 && !cd)
            return len;
        if (len < 0) {
            forget_client(cd);
        } else if (!client) {
            xtcp_abort(gd, cd); /* there was no memory to know it by */
        } else if (len > 0) {
            on_bytes(client, bytes, (size_t)len);
        } else if (client->left > 0) {
            on_bad_line(client, client->left);
        } else {
            end(cd);
        }
    }
}

/* Takes everybody who wants to come. Says 0, or what ends the server. */
static int accept_all(void)
{
    for (;;) {
        int cd = xtcp_accept(gd);
        if (cd == -EAGAIN)
            return 0;
        if (cd < 0)
            return cd;
        if (!add_client(cd))
            xtcp_abort(gd, cd);
    }
}

/* ---- The program ---------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static int fail(const char *what)
{
    fprintf(stderr, "presence: %s: %s\n", what, xtcp_last_error());
    return EXIT_FAILURE;
}

static int serve(void)
{
    while (!stopped) {
        xtcp_set readers, comers;
        XTCP_ZERO(&readers);
        XTCP_ZERO(&comers);
        XTCP_SET(gd, &readers);
        XTCP_SET(gd, &comers);
        /* The time is for a signal that comes between the look at `stopped` and the sleep. */
        struct timeval half_a_second = { 0, 500000 };
        int ready = xtcp_select(1, &readers, &comers, &half_a_second);
        if (ready == -EINTR)
            continue;
        if (ready < 0)
            return fail("waiting");
        if (XTCP_ISSET(gd, &comers) && accept_all() < 0)
            return fail("accepting");
        if (XTCP_ISSET(gd, &readers) && receive() < 0)
            return fail("receiving");
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        { "instance", required_argument, NULL, 'i' },
        { "run-dir", required_argument, NULL, 'r' },
        { "port", required_argument, NULL, 'p' },
        { "receive-mib", required_argument, NULL, 'm' },
        { NULL, 0, NULL, 0 },
    };
    uint16_t port = 7777;
    size_t receive_mib = 0;
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (option) {
        case 'i': setenv("XTCP_INSTANCE", optarg, 1); break;
        case 'r': setenv("XTCP_RUN_DIR", optarg, 1); break;
        case 'p': port = (uint16_t)strtoul(optarg, NULL, 10); break;
        case 'm': receive_mib = strtoul(optarg, NULL, 10); break;
        default:
            fprintf(stderr, "usage: presence [--instance NAME] [--run-dir DIRECTORY] [--port PORT]"
                            " [--receive-mib MIB]\n");
            return EXIT_FAILURE;
        }
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    if (xtcp_initialize(receive_mib << 20) < 0)
        return fail("attaching");
    /* Nagle's algorithm in a client's TCP keeps the second half of a line back until the first is
     * acknowledged. Answers bring the acknowledgement; for half a line the appliance does, after
     * this time. */
    static const struct xtcp_option options[] = {
        { "name", "presence" },
        { "dual_stack", "1" },
        { "acknowledge_after_ms", "200" },
        { NULL, NULL },
    };
    gd = xtcp_open_group_ex(0, PF_INET6, SOCK_STREAM, 0, port, options);
    if (gd < 0)
        return fail("opening the port");
    printf("presence: ready on port %u, Ctrl-C ends it\n", port);
    fflush(stdout);

    int status = serve();
    size_t left = count;
    for (size_t at = 0; at < places; at++)
        if (clients[at].cd)
            xtcp_close(gd, clients[at].cd);
    free(clients);
    if (left > 0 && status == EXIT_SUCCESS) {
        /* What clients do not finish in this time is reset with the pool. */
        struct timeval moment = { 0, 300000 };
        xtcp_set none;
        XTCP_ZERO(&none);
        XTCP_SET(gd, &none);
        xtcp_select(1, &none, NULL, &moment);
    }
    if (xtcp_finalize() < 0 && status == EXIT_SUCCESS)
        status = fail("detaching");
    printf("presence: done, %zu clients were still here\n", left);
    return status;
}
