// The Python extension over mull.h: raw addresses in, the interpreter's lock released while a kernel runs.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "mull.h"

namespace {

PyObject* supported(PyObject*, PyObject*) { return PyBool_FromLong(mull_supported()); }

PyObject* set_threads(PyObject*, PyObject* count) {
    const long value = PyLong_AsLong(count);
    if (value == -1 && PyErr_Occurred()) return nullptr;
    Py_BEGIN_ALLOW_THREADS
    mull_set_threads(int(value));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

bool read(PyObject* const* args, Py_ssize_t given, long long* numbers, Py_ssize_t wanted) {
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

PyObject* done(int result) {
    if (result == 0) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "no kernel for this type and shape");
    return nullptr;
}

// matmul(type, weight, row_bytes, rows, cols, x, m, y)
PyObject* matmul(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[8];
    if (!read(args, given, n, 8)) return nullptr;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = mull_matmul(int(n[0]), (const void*)n[1], n[2], n[3], n[4], (const float*)n[5], n[6], (float*)n[7]);
    Py_END_ALLOW_THREADS
    return done(result);
}

// unpack_bf16(type, weight, row_bytes, rows, cols, out)
PyObject* unpack_bf16(PyObject*, PyObject* const* args, Py_ssize_t given) {
    long long n[6];
    if (!read(args, given, n, 6)) return nullptr;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = mull_unpack_bf16(int(n[0]), (const void*)n[1], n[2], n[3], n[4], (uint16_t*)n[5]);
    Py_END_ALLOW_THREADS
    return done(result);
}

PyMethodDef methods[] = {
    {"supported", supported, METH_NOARGS, "Whether this processor can run the kernels."},
    {"set_threads", set_threads, METH_O, "Set how many threads the kernels use."},
    {"matmul", (PyCFunction)(void (*)(void))matmul, METH_FASTCALL, "As mull_matmul in mull.h."},
    {"unpack_bf16", (PyCFunction)(void (*)(void))unpack_bf16, METH_FASTCALL, "As mull_unpack_bf16 in mull.h."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", "The native CPU kernels.", -1, methods,
                          nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
