// What a CUDA compiler knows without being told: its keywords, built-in variables, intrinsics and mathematics.
//
// Included before a .cu file's text.  It includes no standard header: they are slow to read, and names that CUDA code
// may use for itself (index, for one) are taken there.
#pragma once

#include "runtime.hpp"

#define CUDA_EMULATED 1
#define __CUDA_ARCH__ 800
#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#ifdef CUDA_EMULATOR_SANITIZED
#define __shared__ static
#else
#define __shared__ static __attribute__((section("emulated_shared")))
#endif

typedef decltype(sizeof(0)) size_t;
typedef cuda_emulator::Index3 uint3;
typedef cuda_emulator::Index3 dim3;

// A thread never sees these change, so they may be kept in registers; the runtime sets them at every switch.
extern "C" const uint3 threadIdx, blockIdx;
extern "C" const dim3 blockDim, gridDim;
constexpr int warpSize = cuda_emulator::LANES;

// ------------------------------------------------------------------------------- barriers and warps

#define __syncthreads() cuda_emulator::sync_threads(__LINE__)
#define __syncwarp(...) cuda_emulator::SyncWarp{__LINE__}(__VA_ARGS__)
#define __shfl_sync(...) cuda_emulator::shuffle(cuda_emulator::Collective::shuffle, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) cuda_emulator::shuffle(cuda_emulator::Collective::shuffle_up, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) cuda_emulator::shuffle(cuda_emulator::Collective::shuffle_down, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) cuda_emulator::shuffle(cuda_emulator::Collective::shuffle_xor, __LINE__, __VA_ARGS__)

namespace cuda_emulator {

struct SyncWarp {
    int line;
    void operator()(unsigned mask = 0xffffffffu) const { collective(Collective::sync_warp, mask, line, nullptr); }
};

template <typename T>
inline T shuffle(Collective what, int line, unsigned mask, T value, int operand, int width = LANES) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    Shuffle own = {0, 0, operand, width};
    __builtin_memcpy(&own.value, &value, sizeof(T));
    collective(what, mask, line, &own);
    __builtin_memcpy(&value, &own.result, sizeof(T));
    return value;
}

}  // namespace cuda_emulator

// ------------------------------------------------------------------------------- mathematics

#define CUDA_EMULATOR_UNARY(name)                                                 \
    extern "C" double name(double) noexcept;                                      \
    extern "C" float name##f(float) noexcept;                                     \
    inline float name(float x) { return __builtin_##name##f(x); }
CUDA_EMULATOR_UNARY(exp)
CUDA_EMULATOR_UNARY(exp2)
CUDA_EMULATOR_UNARY(expm1)
CUDA_EMULATOR_UNARY(log)
CUDA_EMULATOR_UNARY(log2)
CUDA_EMULATOR_UNARY(log1p)
CUDA_EMULATOR_UNARY(sqrt)
CUDA_EMULATOR_UNARY(fabs)
CUDA_EMULATOR_UNARY(floor)
CUDA_EMULATOR_UNARY(ceil)
CUDA_EMULATOR_UNARY(trunc)
CUDA_EMULATOR_UNARY(rint)
CUDA_EMULATOR_UNARY(round)
CUDA_EMULATOR_UNARY(tanh)
CUDA_EMULATOR_UNARY(sin)
CUDA_EMULATOR_UNARY(cos)
#undef CUDA_EMULATOR_UNARY

#define CUDA_EMULATOR_BINARY(name)                                                \
    extern "C" double name(double, double) noexcept;                              \
    extern "C" float name##f(float, float) noexcept;                              \
    inline float name(float x, float y) { return __builtin_##name##f(x, y); }
CUDA_EMULATOR_BINARY(fmax)
CUDA_EMULATOR_BINARY(fmin)
CUDA_EMULATOR_BINARY(pow)
CUDA_EMULATOR_BINARY(copysign)
#undef CUDA_EMULATOR_BINARY

extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
inline bool isnan(float x) { return x != x; }
inline bool isnan(double x) { return x != x; }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(double x) { return __builtin_isfinite(x); }

#define CUDA_EMULATOR_MAX_MIN(T)                                                  \
    constexpr T max(T a, T b) { return a < b ? b : a; }                           \
    constexpr T min(T a, T b) { return b < a ? b : a; }
CUDA_EMULATOR_MAX_MIN(int)
CUDA_EMULATOR_MAX_MIN(unsigned)
CUDA_EMULATOR_MAX_MIN(long)
CUDA_EMULATOR_MAX_MIN(unsigned long)
CUDA_EMULATOR_MAX_MIN(long long)
CUDA_EMULATOR_MAX_MIN(unsigned long long)
#undef CUDA_EMULATOR_MAX_MIN
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }  // as on a device: a NaN gives way
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline double max(double a, double b) { return __builtin_fmax(a, b); }
inline double min(double a, double b) { return __builtin_fmin(a, b); }
constexpr int abs(int x) { return x < 0 ? -x : x; }
constexpr long long abs(long long x) { return x < 0 ? -x : x; }
inline float abs(float x) { return __builtin_fabsf(x); }
inline double abs(double x) { return __builtin_fabs(x); }

// Arithmetic that is never contracted; without these, a device may turn a * b + c into one rounding.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }

namespace cuda_emulator {
template <typename To, typename From>
__forceinline__ To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}
}  // namespace cuda_emulator

inline int __float_as_int(float x) { return cuda_emulator::same_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return cuda_emulator::same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return cuda_emulator::same_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return cuda_emulator::same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_emulator::same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_emulator::same_bits<double>(x); }

template <typename T>
__forceinline__ T __ldg(const T* from) {
    return *from;
}

// ------------------------------------------------------------------------------- the way in

namespace cuda_emulator {

template <typename T>
struct Code;  // one letter for each type that a kernel may take, as in Python's module struct
template <> struct Code<bool> { static constexpr char letter = '?'; };
template <> struct Code<unsigned char> { static constexpr char letter = 'B'; };
template <> struct Code<int> { static constexpr char letter = 'i'; };
template <> struct Code<unsigned> { static constexpr char letter = 'I'; };
template <> struct Code<long long> { static constexpr char letter = 'q'; };
template <> struct Code<unsigned long long> { static constexpr char letter = 'Q'; };
template <> struct Code<float> { static constexpr char letter = 'f'; };
template <> struct Code<double> { static constexpr char letter = 'd'; };

template <typename T>
struct Parameter {
    static constexpr char pointer = ' ', letter = Code<T>::letter;
};
template <typename T>
struct Parameter<const T> : Parameter<T> {};
template <typename T>
struct Parameter<T*> {
    static constexpr char pointer = 'P', letter = Parameter<T>::letter;
};

template <int... I>
struct Numbers {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
    typedef Numbers<I...> type;
};

template <typename... P>
inline const char* signature(void (*)(P...)) {
    static const char text[] = {Parameter<P>::pointer..., Parameter<P>::letter..., 0};
    return text;
}

template <typename... P, int... I>
__forceinline__ void unpack(void (*kernel)(P...), void** arguments, Numbers<I...>) {
    kernel(*static_cast<P*>(arguments[I])...);
}

template <typename... P>
__forceinline__ void call(void (*kernel)(P...), void** arguments) {
    unpack(kernel, arguments, typename Count<sizeof...(P)>::type());
}

}  // namespace cuda_emulator

// Written after the text, once for each of its kernels, with its launch bounds.
#define CUDA_EMULATOR_KERNEL(name, ...)                                                          \
    CUDA_EMULATOR_ENTRY void emulated_call_##name(void** arguments) {                            \
        cuda_emulator::call(name, arguments);                                                    \
    }                                                                                            \
    CUDA_EMULATOR_ENTRY const char* emulated_signature_##name() {                                \
        return cuda_emulator::signature(name);                                                   \
    }                                                                                            \
    CUDA_EMULATOR_ENTRY int emulated_threads_##name() { return cuda_emulator::most_threads(__VA_ARGS__); }
#define CUDA_EMULATOR_ENTRY extern "C" __attribute__((no_sanitize("thread"), visibility("default")))

namespace cuda_emulator {
constexpr int most_threads(int threads = 1024, int = 0, int = 0) { return threads; }
}  // namespace cuda_emulator

extern "C" {
extern __attribute__((weak, visibility("hidden"))) char __start_emulated_shared[], __stop_emulated_shared[];
extern __attribute__((visibility("hidden"))) char __ehdr_start[], _end[];

// Of the static shared memory of all kernels of a text, and of all that was made of the text.
__attribute__((visibility("default"), used)) inline const void* emulated_bound(int which) {
    const void* const bounds[] = {__start_emulated_shared, __stop_emulated_shared, __ehdr_start, _end};
    return bounds[which];
}
}
