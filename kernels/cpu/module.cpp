// The Python extension over mull.h: raw addresses in, results and error codes out, the interpreter's lock released
// while something is computed.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "mull.h"

namespace {

// Read exactly `wanted` whole numbers; false with an exception set otherwise.
bool read(PyObject* const* args, Py_ssize_t given, Py_ssize_t wanted, long long* numbers) {
    if (given != wanted) {
        PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", wanted, given);
        return false;
    }
    for (Py_ssize_t i = 0; i < wanted; i++) {
        numbers[i] = PyLong_AsLongLong(args[i]);
        if (numbers[i] == -1 && PyErr_Occurred()) return false;
    }
    return true;
}

// isas() -> [(name, supported)]
PyObject* isas(PyObject*, PyObject*) {
    PyObject* list = PyList_New(0);
    for (int i = 0; list && mull_isa(i); i++) {
        PyObject* item = Py_BuildValue("(sO)", mull_isa(i), mull_supported(i) ? Py_True : Py_False);
        if (!item || PyList_Append(list, item)) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject* seconds(PyObject*, PyObject*) { return PyFloat_FromDouble(mull_seconds()); }

// set_threads(count)
PyObject* set_threads(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[1];
    if (!read(args, given, 1, n)) return nullptr;
    Py_BEGIN_ALLOW_THREADS
    mull_set_threads(int(n[0]));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

// set_grid(type, values)
PyObject* set_grid(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[2];
    if (!read(args, given, 2, n)) return nullptr;
    mull_set_grid(int(n[0]), (const uint8_t*)n[1]);
    Py_RETURN_NONE;
}

// reserve(bytes) -> address, 0 if there is no memory
PyObject* reserve(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[1];
    if (!read(args, given, 1, n)) return nullptr;
    return PyLong_FromVoidPtr(mull_reserve(n[0]));
}

// release(address, bytes)
PyObject* release(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[2];
    if (!read(args, given, 2, n)) return nullptr;
    mull_release((void*)n[0], n[1]);
    Py_RETURN_NONE;
}

// packed_bytes(isa, type, rows, cols)
PyObject* packed_bytes(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[4];
    if (!read(args, given, 4, n)) return nullptr;
    return PyLong_FromLongLong(mull_packed_bytes(int(n[0]), int(n[1]), n[2], n[3]));
}

// pack(isa, parts: array of mull_rows)
PyObject* pack(PyObject*, PyObject* args) {
    int isa;
    Py_buffer parts;
    if (!PyArg_ParseTuple(args, "iy*", &isa, &parts)) return nullptr;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = mull_pack(isa, (const mull_rows*)parts.buf, parts.len / Py_ssize_t(sizeof(mull_rows)));
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&parts);
    return PyLong_FromLong(result);
}

// multiply(isa, type, packed, rows, cols, x, m, y)
PyObject* multiply(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[8];
    if (!read(args, given, 8, n)) return nullptr;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = mull_multiply(int(n[0]), int(n[1]), (const void*)n[2], n[3], n[4], (const float*)n[5], n[6], (float*)n[7]);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(result);
}

// unpack(type, weights, rows, cols, out)
PyObject* unpack(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[5];
    if (!read(args, given, 5, n)) return nullptr;
    return PyLong_FromLong(mull_unpack(int(n[0]), (const void*)n[1], n[2], n[3], (float*)n[4]));
}

// encode(isa, type, source_type, source, rows, cols, importance, out); importance may be 0
PyObject* encode(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[8];
    if (!read(args, given, 8, n)) return nullptr;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = mull_encode(int(n[0]), int(n[1]), int(n[2]), (const void*)n[3], n[4], n[5], (const float*)n[6], (void*)n[7]);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(result);
}

// largest(isa, x, count, k, places, values)
PyObject* largest(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[6];
    if (!read(args, given, 6, n)) return nullptr;
    return PyLong_FromLong(mull_largest(int(n[0]), (const float*)n[1], n[2], n[3], (int64_t*)n[4], (float*)n[5]));
}

// cache_bytes(isa, type, head_dim)
PyObject* cache_bytes(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[3];
    if (!read(args, given, 3, n)) return nullptr;
    return PyLong_FromLongLong(mull_cache_bytes(int(n[0]), int(n[1]), n[2]));
}

// program(isa, operations: bytes, widths: bytes, max_tokens) -> address, 0 if there is no memory
PyObject* program(PyObject*, PyObject* args) {
    int isa;
    Py_buffer ops, widths;
    long long most;
    if (!PyArg_ParseTuple(args, "iy*y*L", &isa, &ops, &widths, &most)) return nullptr;
    void* made = mull_program(isa, (const mull_op*)ops.buf, ops.len / Py_ssize_t(sizeof(mull_op)),
                              (const int64_t*)widths.buf, widths.len / 8, most);
    PyBuffer_Release(&ops);
    PyBuffer_Release(&widths);
    return PyLong_FromVoidPtr(made);
}

// run(program, numbers, num_tokens, num_sequences, num_wanted, cache, logits, attention); numbers are 32-bit: the tokens, their
// positions, four for each sequence, the wanted rows, the blocks
PyObject* run(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[7];
    Py_buffer numbers;
    if (given != 8 || !read(args + 2, 6, 6, n + 1) || PyObject_GetBuffer(args[1], &numbers, PyBUF_SIMPLE)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "8 arguments");
        return nullptr;
    }
    void* const handle = PyLong_AsVoidPtr(args[0]);
    int result = MULL_NO_KERNEL;
    if (numbers.len >= 4 * (2 * n[1] + 4 * n[2] + n[3])) {
        mull_step step = {int32_t(n[1]), int32_t(n[2]), int32_t(n[3]), (const int32_t*)numbers.buf, nullptr, nullptr,
                          nullptr, nullptr, (const mull_cache*)n[4], (float*)n[5], int32_t(n[6])};
        step.positions = step.tokens + n[1];
        step.sequences = step.positions + n[1];
        step.wanted = step.sequences + 4 * n[2];
        step.blocks = step.wanted + n[3];
        Py_BEGIN_ALLOW_THREADS
        result = mull_run(handle, &step);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&numbers);
    return PyLong_FromLong(result);
}

// attention_bytes(program)
PyObject* attention_bytes(PyObject*, PyObject* handle) {
    void* const made = PyLong_AsVoidPtr(handle);
    if (PyErr_Occurred()) return nullptr;
    return PyLong_FromLongLong(mull_attention_bytes(made));
}

// free(program)
PyObject* free_program(PyObject*, PyObject* handle) {
    void* const made = PyLong_AsVoidPtr(handle);
    if (PyErr_Occurred()) return nullptr;
    mull_free(made);
    Py_RETURN_NONE;
}

template <class Function>
PyMethodDef fast(const char* name, Function function, const char* text) {
    return {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL, text};
}

PyMethodDef methods[] = {
    {"isas", isas, METH_NOARGS, "Names of the compiled instruction sets, best first, and whether this processor has them."},
    {"seconds", seconds, METH_NOARGS, "Seconds spent computing so far."},
    {"pack", pack, METH_VARARGS, "Pack stored rows."},
    fast("set_threads", set_threads, "Set how many threads compute."),
    fast("set_grid", set_grid, "Set a codebook."),
    fast("reserve", reserve, "Reserve zeroed memory."),
    fast("release", release, "Release reserved memory."),
    fast("packed_bytes", packed_bytes, "Bytes of a packed matrix, or -1."),
    fast("multiply", multiply, "Multiply by a packed matrix."),
    fast("unpack", unpack, "Dequantize stored rows."),
    fast("encode", encode, "Quantize stored rows."),
    fast("largest", largest, "Find the k largest numbers."),
    fast("cache_bytes", cache_bytes, "Bytes of 16 slots of one head, or -1."),
    {"program", program, METH_VARARGS, "Make a program."},
    fast("run", run, "Run a step."),
    {"attention_bytes", attention_bytes, METH_O, "The most bytes that attention worked in since the last call."},
    {"free", free_program, METH_O, "Free a program."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", "The native CPU kernels (mull.h).", -1, methods,
                          nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
