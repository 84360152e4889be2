"""The native kernels for CPUs, in C++; without a compiler or the right processor, everything runs on torch."""
