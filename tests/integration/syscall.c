/* Makes one system call and prints what comes back, -errno for an error.
 *
 * usage: test-syscall native|int80 NUMBER [ARGUMENT...]
 * An argument is a number (decimal, 0x...), or @ and a text, whose address is passed.
 *
 * Needs no library, and calls nothing else than write and exit. Also built as a 32-bit program. */

typedef unsigned long word;

static long int80(word n, const word *a)
{
    long result;
#ifdef __i386__
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "0"(n), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "memory");
    return result;
#else
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "0"(n), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
#endif
}

#ifdef __i386__
#define native int80
enum { EXIT = 1, WRITE = 4 };
#else
enum { EXIT = 60, WRITE = 1 };
static long native(word n, const word *a)
{
    long result;
    register word r10 __asm__("r10") = a[3];
    register word r8 __asm__("r8") = a[4];
    register word r9 __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(n), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "memory", "rcx", "r11");
    return result;
}
#endif

static word number(const char *text)
{
    word value = 0, base = 10;
    if (*text == '@')
        return (word)(text + 1);
    if (text[0] == '0' && text[1] == 'x')
        base = 16, text += 2;
    for (; *text; text++)
        value = value * base + (*text <= '9' ? *text - '0' : *text - 'a' + 10);
    return value;
}

static void leave(word code)
{
    word a[6] = {code};
    native(EXIT, a);
    for (;;)
        ;
}

static void print(long value)
{
    char text[32];
    word rest = value < 0 ? -(word)value : (word)value, at = sizeof text;
    text[--at] = '\n';
    do
        text[--at] = '0' + rest % 10;
    while (rest /= 10);
    if (value < 0)
        text[--at] = '-';
    word a[6] = {1, (word)(text + at), sizeof text - at};
    native(WRITE, a);
}

__attribute__((used)) void start(word *stack)
{
    long count = (long)stack[0];
    const char **arguments = (const char **)(stack + 1);
    word a[6] = {0};
    if (count < 3 || count > 9)
        leave(2);
    for (long n = 3; n < count; n++)
        a[n - 3] = number(arguments[n]);
    word n = number(arguments[2]);
    print(arguments[1][0] == 'i' ? int80(n, a) : native(n, a));
    leave(0);
}

#ifdef __i386__
__asm__(".globl _start\n_start: mov %esp, %eax; and $-16, %esp; sub $12, %esp; push %eax; call start");
#else
__asm__(".globl _start\n_start: mov %rsp, %rdi; and $-16, %rsp; call start");
#endif
