/* The floor: what the kernel alone takes for the steps that no runtime can leave out.
 *
 * usage: floor ROOTFS PAUSE CGROUP RUNS      as root, on cgroup v2; CGROUP is made and removed
 *
 * Prints one line a figure, `name<TAB>median`: milliseconds, or KiB where the name says so.
 *
 *   run_sandbox      mkdir of a cgroup, clone3(net, ipc, uts) into it, exec of PAUSE
 *   create_start     overlay mount, cgroup with three limits, clone3(pid, mnt, cgroup) into it, proc,
 *                    tmpfs on /dev, sysfs, pivot_root, exec of /pause
 *   exec_sync        fork, setns into the container, clone3, exec of /bin/true, until both are reaped
 *   sessions         200 times the same at once, in a cgroup without limits; measured once
 *   stop_container   SIGTERM, reap, rmdir of the cgroup
 *   stop_remove      unmount, removal of the writable layer, SIGTERM to pause, reap, rmdir
 *   pod_memory_kib   private memory of pause
 *
 * An exec has happened when the close-on-exec end of a pipe is closed; what a child writes into it
 * before is the name of the step that failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUN_SANDBOX, CREATE_START, EXEC_SYNC, SESSIONS, STOP_CONTAINER, STOP_REMOVE, POD_MEMORY, FIGURES };
enum { AT_ONCE = 200 };
static const char *const names[FIGURES] = {
    "run_sandbox", "create_start", "exec_sync", "sessions", "stop_container", "stop_remove", "pod_memory_kib",
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

__attribute__((format(printf, 1, 2))) static const char *path(const char *format, ...)
{
    static char buffers[8][512];
    static unsigned next;
    char *buffer = buffers[next++ % 8];
    va_list rest;
    va_start(rest, format);
    vsnprintf(buffer, sizeof buffers[0], format, rest);
    va_end(rest);
    return buffer;
}

static void put(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fail(file);
    close(fd);
}

static int make_cgroup(const char *folder)
{
    if (mkdir(folder, 0755) && errno != EEXIST)
        fail(folder);
    int fd = open(folder, O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        fail(folder);
    return fd;
}

/* A cgroup whose last process was reaped may be busy for a moment longer. */
static void remove_cgroup(const char *folder)
{
    while (rmdir(folder))
        if (errno != EBUSY)
            fail(folder);
}

static pid_t clone_into(uint64_t flags, int cgroup)
{
    struct clone_args args = {
        .flags = flags | CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0)
        fail("clone3");
    return pid;
}

static void child_failed(int report, const char *step)
{
    dprintf(report, "%s: %s", step, strerror(errno));
    _exit(1);
}

static void await_exec(int report)
{
    char text[128];
    ssize_t n = read(report, text, sizeof text - 1);
    if (n > 0) {
        text[n] = 0;
        fprintf(stderr, "floor: child: %s\n", text);
        exit(1);
    }
    close(report);
}

static void await_end(pid_t pid)
{
    if (waitpid(pid, NULL, 0) != pid)
        fail("waitpid");
}

static pid_t start_sandbox(const char *pause, const char *cgroup)
{
    int report[2], fd = make_cgroup(cgroup);
    if (pipe2(report, O_CLOEXEC))
        fail("pipe");
    pid_t pid = clone_into(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, fd);
    if (pid == 0) {
        setsid();
        if (sethostname("pod", 3))
            child_failed(report[1], "sethostname");
        execl(pause, pause, (char *)NULL);
        child_failed(report[1], "exec pause");
    }
    close(report[1]);
    await_exec(report[0]);
    close(fd);
    return pid;
}

static void enter_rootfs(const char *rootfs, int report)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
        child_failed(report, "slave");
    if (mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) || chdir(rootfs))
        child_failed(report, "rootfs");
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL))
        child_failed(report, "proc");
    if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"))
        child_failed(report, "dev");
    if (mount("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL))
        child_failed(report, "sys");
    if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
        child_failed(report, "pivot_root");
}

static pid_t start_container(const char *lower, const char *folder, const char *cgroup)
{
    const char *merged = path("%s/merged", folder);
    mkdir(folder, 0755);
    mkdir(path("%s/upper", folder), 0755);
    mkdir(path("%s/work", folder), 0755);
    mkdir(merged, 0755);
    const char *options =
        path("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, folder, folder);
    if (mount("overlay", merged, "overlay", 0, options))
        fail("mount overlay");
    int report[2], fd = make_cgroup(cgroup);
    put(path("%s/cpu.max", cgroup), "50000 100000");
    put(path("%s/memory.max", cgroup), "67108864");
    put(path("%s/pids.max", cgroup), "100");
    if (pipe2(report, O_CLOEXEC))
        fail("pipe");
    pid_t pid = clone_into(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWCGROUP, fd);
    if (pid == 0) {
        setsid();
        enter_rootfs(merged, report[1]);
        execl("/pause", "/pause", (char *)NULL);
        child_failed(report[1], "exec /pause");
    }
    close(report[1]);
    await_exec(report[0]);
    close(fd);
    return pid;
}

static void exec_true(pid_t container, const char *cgroup, int times)
{
    int status, fd = make_cgroup(cgroup);
    int pidfd = (int)syscall(SYS_pidfd_open, container, 0);
    pid_t outers[AT_ONCE];
    for (int n = 0; n < times; n++) {
        outers[n] = fork();
        if (outers[n] < 0)
            fail("fork");
        if (outers[n] > 0)
            continue;
        if (pidfd < 0 || setns(pidfd, CLONE_NEWPID | CLONE_NEWNS))
            _exit(101);
        /* The cgroup namespace comes last: from inside, the container's cgroup is no target for a
         * process that is not yet below it (nsdelegate). */
        pid_t inner = clone_into(0, fd);
        if (inner == 0) {
            if (setns(pidfd, CLONE_NEWCGROUP))
                _exit(105);
            execl("/bin/true", "true", (char *)NULL);
            _exit(102);
        }
        if (waitpid(inner, &status, 0) != inner)
            _exit(103);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 104);
    }
    for (int n = 0; n < times; n++)
        if (waitpid(outers[n], &status, 0) != outers[n] || status != 0) {
            fprintf(stderr, "floor: exec of true ended with status %#x\n", (unsigned)status);
            exit(1);
        }
    close(pidfd);
    close(fd);
}

static double private_kib(pid_t pid)
{
    char line[256];
    double sum = 0, value;
    FILE *file = fopen(path("/proc/%d/smaps_rollup", (int)pid), "re");
    if (!file)
        fail("smaps_rollup");
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Private_Clean: %lf", &value) == 1 ||
            sscanf(line, "Private_Dirty: %lf", &value) == 1 ||
            sscanf(line, "Swap: %lf", &value) == 1)
            sum += value;
    fclose(file);
    return sum;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: floor ROOTFS PAUSE CGROUP RUNS\n");
        return 2;
    }
    const char *lower = argv[1], *pause = argv[2], *parent = argv[3];
    int runs = atoi(argv[4]);
    double *values[FIGURES];
    for (int f = 0; f < FIGURES; f++)
        if (!(values[f] = calloc((size_t)runs, sizeof **values)))
            fail("calloc");
    close(make_cgroup(parent));
    put(path("%s/cgroup.subtree_control", parent), "+cpu +memory +pids");
    char *base = strdup(path("%s/floor", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp"));
    mkdir(base, 0700);

    for (int i = 0; i < runs; i++) {
        char *pod_cgroup = strdup(path("%s/pod%d", parent, i));
        char *cgroup = strdup(path("%s/container%d", parent, i));
        char *folder = strdup(path("%s/%d", base, i));
        double began = now_ms();
        pid_t sandbox = start_sandbox(pause, pod_cgroup);
        values[RUN_SANDBOX][i] = now_ms() - began;
        values[POD_MEMORY][i] = private_kib(sandbox);

        began = now_ms();
        pid_t container = start_container(lower, folder, cgroup);
        values[CREATE_START][i] = now_ms() - began;

        began = now_ms();
        exec_true(container, cgroup, 1);
        values[EXEC_SYNC][i] = now_ms() - began;

        if (i == 0) {
            const char *unlimited = path("%s/unlimited", parent);
            began = now_ms();
            exec_true(container, unlimited, AT_ONCE);
            values[SESSIONS][i] = now_ms() - began;
            remove_cgroup(unlimited);
        }

        began = now_ms();
        kill(container, SIGTERM);
        await_end(container);
        remove_cgroup(cgroup);
        values[STOP_CONTAINER][i] = now_ms() - began;

        began = now_ms();
        if (umount2(path("%s/merged", folder), MNT_DETACH))
            fail("umount");
        rmdir(path("%s/work/work", folder));
        rmdir(path("%s/work", folder));
        rmdir(path("%s/upper/dev", folder));
        rmdir(path("%s/upper", folder));
        rmdir(path("%s/merged", folder));
        if (rmdir(folder))
            fail(folder);
        kill(sandbox, SIGTERM);
        await_end(sandbox);
        remove_cgroup(pod_cgroup);
        values[STOP_REMOVE][i] = now_ms() - began;
        free(pod_cgroup);
        free(cgroup);
        free(folder);
    }
    rmdir(base);
    remove_cgroup(parent);
    for (int f = 0; f < FIGURES; f++) {
        int count = f == SESSIONS ? 1 : runs;
        qsort(values[f], (size_t)count, sizeof **values, ascending);
        printf("%s\t%.3f\n", names[f], values[f][count / 2]);
    }
    return 0;
}
