// Stacks of their own, and the switch from one to the other.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>

#if !defined(__x86_64__) || defined(CUDA_EMULATOR_UCONTEXT)
#define CUDA_EMULATOR_WITH_UCONTEXT
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulator {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t STACK = 256 << 10;  // red zones make frames larger
#else
constexpr size_t STACK = 64 << 10;
#endif
constexpr size_t PAGE = 4096;
constexpr size_t MOST_FIBRES = 1024 + 1;  // every thread of a block may wait; one more for good measure

struct Fibre {
    void* pointer;  // of its stack, while it does not run
    unsigned char* stack;
    size_t size;
    void (*body)(Fibre*);
#ifdef CUDA_EMULATOR_WITH_UCONTEXT
    ucontext_t context;
#endif
};

#ifndef CUDA_EMULATOR_WITH_UCONTEXT
// Puts what a function must keep on the stack that is left, and takes it from the other.
extern "C" void cuda_emulator_switch(void** left, void* other);
#endif

inline Fibre *origin, *target;  // of the switch that is made

inline void arrived(void* kept) {
    (void)kept;
#ifdef __SANITIZE_ADDRESS__
    const void* stack;
    size_t size;
    __sanitizer_finish_switch_fiber(kept, &stack, &size);
    origin->stack = static_cast<unsigned char*>(const_cast<void*>(stack));  // news only of the first, Python's own
    origin->size = size;
#endif
}

inline void switch_fibre(Fibre* from, Fibre* to) {
    origin = from;
    target = to;
    void* kept = nullptr;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&kept, to->stack, to->size);
#endif
#ifdef CUDA_EMULATOR_WITH_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    cuda_emulator_switch(&from->pointer, to->pointer);
#endif
    arrived(kept);
}

inline void begin() {
    arrived(nullptr);
    Fibre* self = target;
    self->body(self);
    abort();
}

// From its beginning, whatever it was at.
inline void restart_fibre(Fibre* fibre) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fibre->stack, fibre->size);
#endif
#ifdef CUDA_EMULATOR_WITH_UCONTEXT
    getcontext(&fibre->context);
    fibre->context.uc_stack.ss_sp = fibre->stack;
    fibre->context.uc_stack.ss_size = fibre->size;
    fibre->context.uc_link = nullptr;
    makecontext(&fibre->context, begin, 0);
#else
    constexpr int KEPT = 6;  // registers that a switch takes from the stack before it returns to `begin`
    void** top = reinterpret_cast<void**>(fibre->stack + fibre->size);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(begin);
    for (int i = 0; i < KEPT; i++) *--top = nullptr;
    fibre->pointer = top;
#endif
}

inline unsigned char* all_stacks() {
    static unsigned char* const stacks = static_cast<unsigned char*>(
        mmap(nullptr, STACK * MOST_FIBRES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    return stacks;
}

inline Fibre* new_fibre(void (*body)(Fibre*)) {
    static size_t count = 0;
    if (count == MOST_FIBRES) abort();
    Fibre* fibre = new Fibre();
    fibre->size = STACK;
    fibre->body = body;
    fibre->stack = all_stacks() + STACK * count++;
    mprotect(fibre->stack, PAGE, PROT_NONE);  // so that a stack that overflows does not run into another
    fibre->stack += PAGE;
    fibre->size -= PAGE;
    restart_fibre(fibre);
    return fibre;
}

}  // namespace cuda_emulator
