/* A file system that fails on demand, for tests/soak/faults.py: loaded before libc (LD_PRELOAD), it counts the calls
   that change files below one folder. After the one that was asked for the process is killed, in the middle of it if it
   is a write; or writes find a full disk once so many bytes are written. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static size_t folder_length;
static long kill_after = -1, space = -1, calls;
static unsigned char watched[4096]; /* by file descriptor */

#define LIBC(name) static __typeof__(name) *libc; if (!libc) libc = dlsym(RTLD_NEXT, #name)

/* kill: the process ends after this call (from 1; 0: never). bytes: what fits on the disk (-1: everything). */
void disk_faults(const char *below, long kill, long bytes) {
    folder_length = strlen(strncpy(folder, below, sizeof folder - 1));
    kill_after = kill;
    space = bytes;
    calls = 0;
}

long disk_calls(void) { return calls; }

static int is_below(const char *path) {
    char whole[PATH_MAX];
    if (!folder_length) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole) || strlen(whole) + strlen(path) + 2 > sizeof whole) return 0;
        strcat(strcat(whole, "/"), path);
        path = whole;
    }
    return !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

static int is_watched(int file) { return file >= 0 && file < (int)sizeof watched && watched[file]; }

static int is_last(void) { return ++calls == kill_after; }

static void end(void) {
    kill(getpid(), SIGKILL);
    pause();
}

static int opened(int file, const char *path, int flags) {
    if (file >= 0 && file < (int)sizeof watched) watched[file] = is_below(path) && (flags & (O_WRONLY | O_RDWR | O_DIRECTORY));
    if (file >= 0 && (flags & (O_CREAT | O_TRUNC)) && is_below(path) && is_last()) end();
    return file;
}

#define OPEN(name)                                                     \
    int name(const char *path, int flags, ...) {                       \
        LIBC(name);                                                    \
        va_list rest;                                                  \
        va_start(rest, flags);                                         \
        mode_t mode = va_arg(rest, int);                               \
        va_end(rest);                                                  \
        return opened(libc(path, flags, mode), path, flags);           \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                   \
    int name(int from, const char *path, int flags, ...) {             \
        LIBC(name);                                                    \
        va_list rest;                                                  \
        va_start(rest, flags);                                         \
        mode_t mode = va_arg(rest, int);                               \
        va_end(rest);                                                  \
        return opened(libc(from, path, flags, mode), path, flags);     \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *bytes, size_t count) {
    LIBC(write);
    if (!is_watched(file)) return libc(file, bytes, count);
    if (is_last()) {
        libc(file, bytes, count / 2);
        end();
    }
    if (space >= 0) {
        if (count && !space) {
            errno = ENOSPC;
            return -1;
        }
        if ((long)count > space) count = space;
        space -= count;
    }
    return libc(file, bytes, count);
}

int close(int file) {
    LIBC(close);
    if (file >= 0 && file < (int)sizeof watched) watched[file] = 0;
    return libc(file);
}

#define OF_FILE(name, parameters, arguments)                           \
    int name parameters {                                              \
        LIBC(name);                                                    \
        int result = libc arguments;                                   \
        if (is_watched(file) && is_last()) end();                      \
        return result;                                                 \
    }
OF_FILE(fsync, (int file), (file))
OF_FILE(fdatasync, (int file), (file))
OF_FILE(ftruncate, (int file, off_t length), (file, length))
OF_FILE(ftruncate64, (int file, off64_t length), (file, length))

#define OF_PATH(name, parameters, arguments)                           \
    int name parameters {                                              \
        LIBC(name);                                                    \
        int result = libc arguments;                                   \
        if (is_below(path) && is_last()) end();                        \
        return result;                                                 \
    }
OF_PATH(rename, (const char *from, const char *path), (from, path))
OF_PATH(unlink, (const char *path), (path))
OF_PATH(unlinkat, (int from, const char *path, int flags), (from, path, flags))
OF_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
OF_PATH(rmdir, (const char *path), (path))
