// The whole C ABI of the native CPU kernels: plain pointers, no torch, no BLAS.
#pragma once
#include <cstdint>

extern "C" {

// Types of weights, by GGUF's own numbers.
enum { MULL_F32 = 0, MULL_F16 = 1, MULL_Q4_0 = 2, MULL_Q8_0 = 8, MULL_Q4_K = 12, MULL_Q5_K = 13, MULL_Q6_K = 14, MULL_BF16 = 30 };

// Whether this processor can run the kernels (AVX-512 with VNNI).
int mull_supported(void);

// Set how many threads the kernels use, the caller's included.
void mull_set_threads(int count);

// y [m, rows] = x [m, cols] · Wᵀ, with W [rows, cols] in `type`, `row_bytes` apart; x and y are float32.
// For quantized types x is rounded to 8 bits, a scale per 32 entries; cols is a multiple of the type's block.
// Returns 0, or -1 for a type that has no kernel.
int mull_matmul(int type, const void* weight, int64_t row_bytes, int64_t rows, int64_t cols,
                const float* x, int64_t m, float* y);

// Unpack W [rows, cols] to bfloat16, rounded to nearest even. Returns as mull_matmul.
int mull_unpack_bf16(int type, const void* weight, int64_t row_bytes, int64_t rows, int64_t cols, uint16_t* out);
}
