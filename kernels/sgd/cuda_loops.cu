// sgd: in one pass over memory.
#include "prelude.cuh"
#include "sums.cuh"

// A pack is read before it is written, and by one thread: the outputs may be the inputs.
extern "C" __global__ void __launch_bounds__(THREADS) update(
    const real* parameter, const real* gradient, const real* velocity, index size, real lr, real momentum,
    real weight_decay, bool nesterov, real* out_parameter, real* out_velocity) {
    for (index k = first_number(); k < size; k += numbers_of_grid()) {
        const int count = numbers_of_pack(k, size);
        Pack p = load(parameter + k, count), v = load(velocity + k, count);
        const Pack g = load(gradient + k, count);
#pragma unroll
        for (int i = 0; i < PACK; i++) {
            const real slope = g.at[i] + weight_decay * p.at[i];
            const real speed = momentum * v.at[i] + slope;
            p.at[i] -= lr * (nesterov ? slope + momentum * speed : speed);
            v.at[i] = speed;
        }
        store(out_parameter + k, p, count);
        store(out_velocity + k, v, count);
    }
}

// sums: of the squares of each block's stretch, in float64.
extern "C" __global__ void __launch_bounds__(THREADS) square_sums(
    const real* gradient, index size, index stretch, double* sums) {
    __shared__ double shared[THREADS];
    const index end = min((index(blockIdx.x) + 1) * stretch, size);
    double sum = 0;
    for (index k = blockIdx.x * stretch + threadIdx.x * PACK; k < end; k += THREADS * PACK) {
        const Pack value = load(gradient + k, numbers_of_pack(k, end));
#pragma unroll
        for (int i = 0; i < PACK; i++) sum += double(value.at[i]) * double(value.at[i]);
    }
    add_line_of_threads(sum, shared, sums + blockIdx.x);
}
