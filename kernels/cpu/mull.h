// The whole C ABI of the native CPU kernels: plain pointers, no torch, no BLAS. Types by GGUF's numbers (blocks.h).
#pragma once
#include <cstdint>

extern "C" {

// What a function may return instead of 0: no such kernel, memory is out, a mapped file was cut short meanwhile, numbers
// that are infinite or NaN, numbers too far apart for the memory that was given.
enum { MULL_NO_KERNEL = -1, MULL_NO_MEMORY = -2, MULL_FAULT = -3, MULL_NOT_FINITE = -4, MULL_FAR_APART = -5 };

// Instruction sets by index, best first; null past the last. Which of them this processor has.
const char* mull_isa(int isa);
int mull_supported(int isa);

// Set how many threads compute, the caller's included.
void mull_set_threads(int count);
// Seconds spent computing so far, by the callers' clocks.
double mull_seconds(void);
// The codebook of an IQ2 or IQ3 type, as magnitudes; the memory must stay.
void mull_set_grid(int type, const uint8_t* values);

// Zeroed memory in huge pages where the system has them; null if there is none.
void* mull_reserve(int64_t bytes);
void mull_release(void* memory, int64_t bytes);

// Bytes that W [rows, cols] takes when packed, or MULL_NO_KERNEL.
int64_t mull_packed_bytes(int isa, int type, int64_t rows, int64_t cols);
// Stored rows that follow one another, and zeroed memory to pack them into. wide: zeroed memory for the rows in 16 bits,
// their number rounded up to a multiple of 16, or null; MULL_FAR_APART where it is needed.
typedef struct {
    int64_t type, rows, cols;
    const void* weights;
    void* packed;
    void* wide;
} mull_rows;
int mull_pack(int isa, const mull_rows* parts, int64_t count);
// y [m, rows] = x [m, cols] · Wᵀ, in float32; x is rounded to 8 bits per 256 entries where W is quantized.
int mull_multiply(int isa, int type, const void* packed, int64_t rows, int64_t cols, const float* x, int64_t m, float* y);
// Dequantize stored rows that follow one another.
int mull_unpack(int type, const void* weights, int64_t rows, int64_t cols, float* out);
// Encode rows that follow one another, of any type that mull_unpack reads, as a type of blocks; importance [cols] says how
// much an error in a column matters (null: equally). MULL_NOT_FINITE where a weight or a block's scale is not.
int mull_encode(int isa, int type, int source_type, const void* source, int64_t rows, int64_t cols,
                const float* importance, void* out);
// The k largest of x [count] and where they are, the largest first, of equal ones the first; k of them, or count.
// If any is NaN, so are all values.
int mull_largest(int isa, const float* x, int64_t count, int64_t k, int64_t* places, float* values);

// Bytes of 16 slots of one key or value head, or MULL_NO_KERNEL.
int64_t mull_cache_bytes(int isa, int type, int64_t head_dim);

// One operation of a program; program.h says what its numbers mean.
typedef struct {
    int64_t code;
    int64_t a[24];
    double f[4];
} mull_op;

// The cache of keys and values: types, bytes from one block to the next, and where every layer's keys begin, then
// their values.
typedef struct {
    int64_t key_type, value_type, key_stride, value_stride, num_layers;
    const void* layers[];
} mull_cache;

// How attention goes: by what is fastest for these sequences; with all its scores in memory, as textbooks have it, for
// comparison; or for every token in the same way, so that no bit depends on the tokens beside it.
enum { MULL_FAST, MULL_PLAIN, MULL_STEADY };

// The tokens of one step. A sequence: its first row, its number of rows, the tokens before them, its first block's
// place in `blocks`.
typedef struct {
    int32_t num_tokens, num_sequences, num_wanted;
    const int32_t *tokens, *positions, *sequences, *wanted, *blocks;
    const mull_cache* cache;
    float* logits;
    int32_t attention;  // MULL_FAST or one of the others
} mull_step;

// A program over float buffers [max_tokens, width]; null where memory is out or an operation is unknown.
void* mull_program(int isa, const mull_op* ops, int64_t num_ops, const int64_t* widths, int64_t num_buffers,
                   int64_t max_tokens);
int mull_run(void* program, const mull_step* step);
// The most bytes that attention worked in since this was last asked.
int64_t mull_attention_bytes(void* program);
void mull_free(void* program);
}
