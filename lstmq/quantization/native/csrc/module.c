/* What makes a Python module of the kernels: nothing but its name. ctypes calls them; this lets setuptools build them. */
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_kernels", .m_size = 0};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
