// Regions compiled for one instruction set, chosen at run time: everything from the standard library must be
// included before them, or the linker might pick its functions' copies made for a newer processor.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "blocks.h"
#include "isa.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define MULL_X86 1
#else
#define MULL_X86 0
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blocks of weights are read as little-endian numbers"
#endif

#define MULL_INLINE inline __attribute__((always_inline))
#define MULL_INLINE_LAMBDA __attribute__((always_inline))

// a * b + c is two roundings, whatever the processor has, until the end of the file.
#if defined(__clang__)
#define MULL_NO_CONTRACTION MULL_PRAGMA(clang fp contract(off))
#else
#define MULL_NO_CONTRACTION MULL_PRAGMA(GCC optimize("fp-contract=off"))
#endif

#define MULL_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define MULL_TARGET_BEGIN(features) \
    MULL_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define MULL_TARGET_END MULL_PRAGMA(clang attribute pop)
#else
#define MULL_TARGET_BEGIN(features) MULL_PRAGMA(GCC push_options) MULL_PRAGMA(GCC target(features))
#define MULL_TARGET_END MULL_PRAGMA(GCC pop_options)
#endif
