/* windows.c - Windows (mingw-w64): what os.h asks, by the Win32 calls.
 *
 * Paths come as UTF-8 and are handed over as UTF-16, '/' between names stays: Windows takes both. What fails says why in
 * errno, as C's own functions do, so that os_reason() has one place to look.
 */
#define WIN32_LEAN_AND_MEAN
#define _WIN32_WINNT 0x0601 /* Windows 7: condition variables, K32GetProcessMemoryInfo */
#include "os/os.h"
#include <windows.h>
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <psapi.h>
#include <shellapi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <wchar.h>

enum { LONGEST = 4096 };
typedef struct { wchar_t text[LONGEST]; } wide;

static bool widen(const char *path, wide *w) {
    if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, w->text, LONGEST) > 0) return true;
    return errno = EINVAL, false;
}

static bool narrow(const wchar_t *from, char *out, size_t room) {
    if (WideCharToMultiByte(CP_UTF8, 0, from, -1, out, (int)room, NULL, NULL) > 0) return true;
    return errno = ENAMETOOLONG, false;
}

/* The last Win32 call's reason as errno; always false. */
static bool failed(void) {
    switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: errno = ENOENT; break;
    case ERROR_ALREADY_EXISTS:
    case ERROR_FILE_EXISTS: errno = EEXIST; break;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY: errno = ENOMEM; break;
    case ERROR_DISK_FULL: errno = ENOSPC; break;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION: errno = EACCES; break;
    default: errno = EIO;
    }
    return false;
}

/* ---- paths ------------------------------------------------------------------------------------ */
os_kind os_path_kind(const char *path, uint64_t *bytes) {
    wide w;
    struct _stat64 s;
    if (bytes) *bytes = 0;
    if (!widen(path, &w)) return OS_NOTHING;
    size_t n = wcslen(w.text); /* a folder's name is not found with a '/' behind it, but for a root's */
    while (n > 1 && (w.text[n - 1] == L'/' || w.text[n - 1] == L'\\') && w.text[n - 2] != L':') w.text[--n] = 0;
    if (_wstat64(w.text, &s) != 0) return OS_NOTHING;
    if (s.st_mode & _S_IFDIR) return OS_FOLDER;
    if (!(s.st_mode & _S_IFREG)) return OS_OTHER;
    if (bytes) *bytes = (uint64_t)s.st_size;
    return OS_FILE;
}

bool os_path_real(const char *path, char *out, size_t room) {
    wide w, real;
    if (!widen(path, &w)) return false;
    HANDLE h = CreateFileW(w.text, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                           FILE_FLAG_BACKUP_SEMANTICS, NULL);
    if (h == INVALID_HANDLE_VALUE) return failed();
    DWORD n = GetFinalPathNameByHandleW(h, real.text, LONGEST, FILE_NAME_NORMALIZED);
    CloseHandle(h);
    if (n == 0 || n >= LONGEST) return failed();
    const wchar_t *from = wcsncmp(real.text, L"\\\\?\\", 4) == 0 && real.text[5] == L':' ? real.text + 4 : real.text;
    if (!narrow(from, out, room)) return false;
    for (char *c = out; from != real.text && *c; c++) *c = *c == '\\' ? '/' : *c; /* as paths are everywhere else */
    return true;
}

bool os_folder_make(const char *path) {
    wide w;
    return widen(path, &w) && _wmkdir(w.text) == 0;
}

bool os_rename(const char *from, const char *to) {
    wide a, b;
    if (!widen(from, &a) || !widen(to, &b)) return false;
    return MoveFileExW(a.text, b.text, MOVEFILE_REPLACE_EXISTING) || failed();
}

bool os_remove(const char *path) {
    wide w;
    if (!widen(path, &w)) return false;
    DWORD kind = GetFileAttributesW(w.text);
    if (kind != INVALID_FILE_ATTRIBUTES && kind & FILE_ATTRIBUTE_DIRECTORY) return RemoveDirectoryW(w.text) || failed();
    return _wremove(w.text) == 0;
}

bool os_cut(const char *path, uint64_t bytes) {
    wide w;
    if (!widen(path, &w)) return false;
    HANDLE h = CreateFileW(w.text, GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
    if (h == INVALID_HANDLE_VALUE) return failed();
    bool ok = (SetFilePointerEx(h, (LARGE_INTEGER){.QuadPart = (LONGLONG)bytes}, NULL, FILE_BEGIN) && SetEndOfFile(h)) || failed();
    CloseHandle(h);
    return ok;
}

FILE *os_open(const char *path, const char *mode) {
    wide w;
    wchar_t how[8] = {0};
    size_t n = strlen(mode);
    if (n > 5) return errno = EINVAL, NULL;
    for (size_t i = 0; i < n; i++) how[i] = (wchar_t)mode[i];
    if (!strchr(mode, 'b')) how[n] = L'b'; /* bytes: lines end in one */
    return widen(path, &w) ? _wfopen(w.text, how) : NULL;
}

/* One byte far behind any end: locked bytes cannot be read by others. */
bool os_hold(FILE *f) {
    OVERLAPPED at = {.OffsetHigh = 0x7fffffff};
    HANDLE h = (HANDLE)_get_osfhandle(_fileno(f));
    return LockFileEx(h, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at) || GetLastError() != ERROR_LOCK_VIOLATION;
}

bool os_seek(FILE *f, uint64_t at) { return _fseeki64(f, (long long)at, SEEK_SET) == 0; }
bool os_tell(FILE *f, uint64_t *at) {
    long long here = _ftelli64(f);
    if (here < 0) return false;
    *at = (uint64_t)here;
    return true;
}

bool os_folder_each(const char *path, os_visit *visit, void *arg) {
    WIN32_FIND_DATAW found;
    wide w;
    char name[LONGEST];
    bool ok = true;
    if (!widen(path, &w)) return false;
    if (wcslen(w.text) + 3 > LONGEST) return errno = ENAMETOOLONG, false;
    HANDLE h = FindFirstFileW(wcscat(w.text, L"/*"), &found);
    if (h == INVALID_HANDLE_VALUE) return failed();
    do
        if (wcscmp(found.cFileName, L".") != 0 && wcscmp(found.cFileName, L"..") != 0)
            ok = narrow(found.cFileName, name, sizeof name) && visit(arg, name);
    while (ok && FindNextFileW(h, &found));
    FindClose(h);
    return ok;
}

const char *os_last_slash(const char *path) {
    const char *slash = strrchr(path, '/'), *back = strrchr(path, '\\');
    return !slash || (back && back > slash) ? back : slash;
}

const char *os_reason(void) { return strerror(errno); }
long os_process(void) { return (long)GetCurrentProcessId(); }

/* ---- memory ----------------------------------------------------------------------------------- */
const void *os_map(const char *path, size_t *bytes) {
    wide w;
    LARGE_INTEGER size;
    const void *p = NULL;
    if (!widen(path, &w)) return NULL;
    HANDLE h = CreateFileW(w.text, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    if (h == INVALID_HANDLE_VALUE) return failed(), NULL;
    if (GetFileSizeEx(h, &size) && size.QuadPart > 0 && (uint64_t)size.QuadPart <= SIZE_MAX / 2) {
        HANDLE view = CreateFileMappingW(h, NULL, PAGE_READONLY, 0, 0, NULL);
        if (view) {
            p = MapViewOfFile(view, FILE_MAP_READ, 0, 0, 0);
            if (p) *bytes = (size_t)size.QuadPart;
            else failed();
            CloseHandle(view); /* the view holds the mapping */
        }
    }
    CloseHandle(h);
    return p;
}

void os_unmap(const void *p, size_t bytes) { (void)bytes, UnmapViewOfFile(p); }
void os_unwanted(const void *p, size_t bytes) { (void)p, (void)bytes; } /* the system takes pages as it needs them */

/* Windows promises all of what is committed, so that reserved bytes count against memory and page file from the start. */
void *os_reserve(size_t bytes) {
    if (bytes == 0) return NULL;
    void *p = VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (!p) failed();
    return p;
}

void os_release(void *p, size_t bytes) { (void)bytes, VirtualFree(p, 0, MEM_RELEASE); }

uint64_t os_memory(void) {
    MEMORYSTATUSEX m = {.dwLength = sizeof m};
    return GlobalMemoryStatusEx(&m) ? m.ullTotalPhys : 0;
}

size_t os_memory_peak(void) {
    PROCESS_MEMORY_COUNTERS m = {.cb = sizeof m};
    return K32GetProcessMemoryInfo(GetCurrentProcess(), &m, sizeof m) ? m.PeakWorkingSetSize : 0;
}

/* ---- time, console ---------------------------------------------------------------------------- */
double os_seconds(void) {
    LARGE_INTEGER now, rate;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&rate);
    return (double)now.QuadPart / (double)rate.QuadPart;
}

bool os_terminal(FILE *stream) { return _isatty(_fileno(stream)) != 0; }

/* The command line is UTF-16; what cannot be had as UTF-8 stays as the system gave it. The texts live as long as the process. */
char **os_arguments(int *count, char **given) {
    int n = 0;
    wchar_t **all = CommandLineToArgvW(GetCommandLineW(), &n);
    char **list = all ? calloc((size_t)n + 1, sizeof *list) : NULL;
    _setmode(_fileno(stdout), _O_BINARY);
    SetConsoleOutputCP(CP_UTF8);
    for (int i = 0; list && i < n; i++) {
        size_t room = wcslen(all[i]) * 3 + 1;
        list[i] = malloc(room);
        if (!list[i] || !narrow(all[i], list[i], room)) return given;
    }
    if (!list) return given;
    LocalFree(all);
    *count = n;
    return list;
}

/* ---- threads ---------------------------------------------------------------------------------- */
_Static_assert(sizeof(os_lock) == sizeof(SRWLOCK) && sizeof(os_event) == sizeof(CONDITION_VARIABLE), "a pointer each");

size_t os_cores(void) {
    SYSTEM_INFO i;
    GetSystemInfo(&i);
    return i.dwNumberOfProcessors < 1 ? 1 : i.dwNumberOfProcessors;
}

static unsigned __stdcall begin(void *p) {
    os_thread *t = p;
    return t->work(t->arg), 0;
}

bool os_thread_start(os_thread *t, void (*work)(void *arg), void *arg) {
    t->work = work, t->arg = arg;
    t->id = (void *)_beginthreadex(NULL, 0, begin, t, 0, NULL);
    return t->id != NULL;
}

void os_thread_join(os_thread *t) {
    WaitForSingleObject(t->id, INFINITE);
    CloseHandle(t->id);
}

void os_lock_make(os_lock *l) { InitializeSRWLock((SRWLOCK *)l); }
void os_lock_free(os_lock *l) { (void)l; }
void os_lock_take(os_lock *l) { AcquireSRWLockExclusive((SRWLOCK *)l); }
void os_lock_give(os_lock *l) { ReleaseSRWLockExclusive((SRWLOCK *)l); }
void os_event_make(os_event *v) { InitializeConditionVariable((CONDITION_VARIABLE *)v); }
void os_event_free(os_event *v) { (void)v; }
void os_event_wait(os_event *v, os_lock *l) { SleepConditionVariableSRW((CONDITION_VARIABLE *)v, (SRWLOCK *)l, INFINITE, 0); }
void os_event_one(os_event *v) { WakeConditionVariable((CONDITION_VARIABLE *)v); }
void os_event_all(os_event *v) { WakeAllConditionVariable((CONDITION_VARIABLE *)v); }
