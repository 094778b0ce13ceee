// Stand-ins for the CUDA libraries beside the driver, for tests that need no card. One of these is defined per build:
//   FAKE_NVRTC     libnvrtc.so.13: "compiles" to an image that the fake driver takes; `#error TEXT` in the source fails
//   FAKE_BUILTINS  libnvrtc-builtins.so.13.0: without it the fake NVRTC fails, as the real one does
//   FAKE_CUBLASLT  libcublasLt.so.13
//   FAKE_CUDNN     libcudnn.so.9: a version, nothing else (cudnn.cpp has convolutions); ends the process where cuBLASLt
//                  isn't loaded, as cuDNN does
// Environment: FAKE_NVRTC_VERSION=1300, FAKE_NVRTC_LOG (a file, one line per compilation), FAKE_CUDNN_VERSION=92100,
// FAKE_CUDNN_CUDART=13000
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

[[maybe_unused]] static int setting(const char *name, int otherwise) {
    const char *value = std::getenv(name);
    return value && *value ? std::atoi(value) : otherwise;
}

extern "C" {

#ifdef FAKE_BUILTINS
int fake_nvrtc_builtins() { return 0; }
#endif

#ifdef FAKE_CUBLASLT
size_t cublasLtGetVersion() { return 130100; }
#endif

#ifdef FAKE_CUDNN
size_t cudnnGetVersion() { return static_cast<size_t>(setting("FAKE_CUDNN_VERSION", 92100)); }
size_t cudnnGetCudartVersion() {
    if (!dlsym(RTLD_DEFAULT, "cublasLtGetVersion")) {
        std::fprintf(stderr, "Cannot load symbol cublasLtGetVersion\n");
        std::abort();
    }
    return static_cast<size_t>(setting("FAKE_CUDNN_CUDART", 13000));
}
#endif

#ifdef FAKE_NVRTC
enum { SUCCESS = 0, INVALID_OPTION = 5, COMPILATION = 6, BUILTIN_OPERATION_FAILURE = 7 };
struct Program { std::string source, name, log, cubin, ptx; };
static const int ARCHITECTURES[] = {75, 80, 86, 89, 90, 100, 120};
static const int COUNT = sizeof ARCHITECTURES / sizeof *ARCHITECTURES;

int nvrtcVersion(int *major, int *minor) {
    int version = setting("FAKE_NVRTC_VERSION", 1300);
    *major = version / 100;
    *minor = version % 100;
    return SUCCESS;
}
const char *nvrtcGetErrorString(int code) {
    if (code == COMPILATION) return "NVRTC_ERROR_COMPILATION";
    return code == INVALID_OPTION ? "NVRTC_ERROR_INVALID_OPTION" : "NVRTC_ERROR";
}
int nvrtcGetNumSupportedArchs(int *count) { *count = COUNT; return SUCCESS; }
int nvrtcGetSupportedArchs(int *architectures) {
    std::memcpy(architectures, ARCHITECTURES, sizeof ARCHITECTURES);
    return SUCCESS;
}
int nvrtcCreateProgram(Program **program, const char *source, const char *name, int, const char *const *,
                       const char *const *) {
    *program = new Program{source, name ? name : "default_program", "", "", ""};
    return SUCCESS;
}
int nvrtcDestroyProgram(Program **program) { delete *program; *program = nullptr; return SUCCESS; }

int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    std::string architecture;
    for (int i = 0; i < count; i++)
        if (!std::strncmp(options[i], "--gpu-architecture=", 19)) architecture = options[i] + 19;
    bool known = false;
    for (int number : ARCHITECTURES)
        known |= architecture == "sm_" + std::to_string(number) || architecture == "compute_" + std::to_string(number);
    if (!known) {
        program->log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
        return INVALID_OPTION;
    }
    if (!dlsym(RTLD_DEFAULT, "fake_nvrtc_builtins")) {
        program->log = "nvrtc: error: failed to open libnvrtc-builtins.so.13.0.\n";
        return BUILTIN_OPERATION_FAILURE;
    }
    size_t error = program->source.find("#error ");
    if (error != std::string::npos) {
        int line = 1;
        for (size_t i = 0; i < error; i++) line += program->source[i] == '\n';
        std::string text = program->source.substr(error + 7, program->source.find('\n', error) - error - 7);
        std::string place = program->name + "(" + std::to_string(line) + ")";
        program->log = place + ": error: #error directive: " + text + "\n\n1 error detected\n";
        return COMPILATION;
    }
    program->ptx = "FAKE IMAGE " + architecture;
    if (!architecture.compare(0, 3, "sm_")) program->cubin = program->ptx;
    if (const char *path = std::getenv("FAKE_NVRTC_LOG"))
        if (FILE *file = std::fopen(path, "a")) {
            std::fprintf(file, "%s\n", architecture.c_str());
            std::fclose(file);
        }
    return SUCCESS;
}

// Sizes count the closing zero of texts.
static int size_of(const std::string &text, size_t *size) { *size = text.size() + 1; return SUCCESS; }
static int copy_of(const std::string &text, char *to) {
    std::memcpy(to, text.c_str(), text.size() + 1);
    return SUCCESS;
}
int nvrtcGetProgramLogSize(Program *program, size_t *size) { return size_of(program->log, size); }
int nvrtcGetProgramLog(Program *program, char *to) { return copy_of(program->log, to); }
int nvrtcGetPTXSize(Program *program, size_t *size) { return size_of(program->ptx, size); }
int nvrtcGetPTX(Program *program, char *to) { return copy_of(program->ptx, to); }
int nvrtcGetCUBINSize(Program *program, size_t *size) { return size_of(program->cubin, size); }
int nvrtcGetCUBIN(Program *program, char *to) { return copy_of(program->cubin, to); }
#endif

}  // extern "C"
