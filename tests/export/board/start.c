/* The self-test of unet.c on the board that QEMU calls mps2-an386, a Cortex-M4: QEMU ends with what it finds. */
#include "unet.c"

extern uint32_t stack_top;

/* Leaves QEMU with this exit status (semihosting: SYS_EXIT_EXTENDED, ADP_Stopped_ApplicationExit). */
static void leave(uint32_t status)
{
    const uint32_t block[2] = {0x20026, status};
    register uint32_t operation __asm__("r0") = 0x20;
    register const uint32_t *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : : "r"(operation), "r"(argument) : "memory");
    for (;;) {
    }
}

static void fault(void)
{
    leave(99);
}

void reset(void);

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the floating-point unit is on */
    __asm__ volatile("dsb\n\tisb");
    leave(unet_selftest() ? 1 : 0);
}

/* The first stack pointer, then the handlers of reset, NMI and faults. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[6])(void);
} vectors = {&stack_top, {reset, fault, fault, fault, fault, fault}};

/* What a compiler may call for an initializer; nothing else of a C library is needed. */
void *memset(void *to, int byte, unsigned size);

void *memset(void *to, int byte, unsigned size)
{
    unsigned char *bytes = to;
    while (size--)
        *bytes++ = (unsigned char)byte;
    return to;
}
