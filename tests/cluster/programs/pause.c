/* The first process of a pod's sandbox: buries what is left to it, and ends when it is asked to. */
#include <signal.h>
#include <sys/wait.h>

int main(void) {
    sigset_t told;
    int which;

    sigemptyset(&told);
    sigaddset(&told, SIGCHLD);
    sigaddset(&told, SIGINT);
    sigaddset(&told, SIGTERM);
    sigprocmask(SIG_BLOCK, &told, 0);
    for (;;) {
        if (sigwait(&told, &which) == 0 && which != SIGCHLD)
            return 0;
        while (waitpid(-1, 0, WNOHANG) > 0)
            ;
    }
}
