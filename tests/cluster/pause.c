/* The pod sandbox's only process: reaps what is left behind, and ends at once when it is told to. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal_number) { _exit(signal_number == 0); }

static void reap(int signal_number) {
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    struct sigaction on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    sigaction(SIGCHLD, &on_child, NULL);
    for (;;) pause();
}
