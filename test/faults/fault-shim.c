/*
 * LD_PRELOAD library: makes one call of a process fail, from outside the program. It counts the calls that touch a file
 * below FAULT_FOLDERS (colon-separated) and every connect(), writes a line for each to FAULT_LOG, and does at call number
 * FAULT_AT what FAULT says: `kill` (SIGKILL before the call), `after-kill` (SIGKILL after it), the name of an error (the
 * call is not made), `after-NAME` (the call is made and reported failed), or `slow` (the call takes FAULT_MILLISECONDS
 * longer).
 * Children do not inherit it unless they are given these variables too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST_FDS 4096

static atomic_int calls;
static atomic_char below[MOST_FDS];
static int log_fd = -1;

static const struct { const char *name; int number; } ERRORS[] = {
  {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EACCES", EACCES}, {"EMFILE", EMFILE},
  {"ENOENT", ENOENT}, {"EINVAL", EINVAL}, {"ENOTSUP", ENOTSUP}, {"EINTR", EINTR}, {"ECONNREFUSED", ECONNREFUSED},
};

static int number_of(const char *name) {
  for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
    if (strcmp(ERRORS[i].name, name) == 0) return ERRORS[i].number;
  return EIO;
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int is_below(const char *path) {
  const char *folder = getenv("FAULT_FOLDERS");
  while (path != NULL && folder != NULL && *folder != '\0') {
    size_t length = strcspn(folder, ":");
    if (length > 0 && strncmp(path, folder, length) == 0) return 1;
    folder += length;
    if (*folder == ':') folder++;
  }
  return 0;
}

/* libuv closes by a system call of its own, so that a number may be another thing by now. */
static int is_fd_below(int fd) {
  if (fd < 0 || fd >= MOST_FDS || !atomic_load(&below[fd])) return 0;
  struct stat found;
  if (fstat(fd, &found) == 0 && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) return 1;
  atomic_store(&below[fd], 0);
  return 0;
}

static void die(void) {
  raise(SIGKILL);
  pause();
}

/* Returns 0: make the call; 1: fail with errno set; 2: make it, then fail with errno set by `fail_after`. */
static int fault(const char *call, const char *what) {
  const char *kind = getenv("FAULT"), *at = getenv("FAULT_AT"), *path = getenv("FAULT_LOG");
  if (path == NULL) return 0;
  int number = atomic_fetch_add(&calls, 1) + 1;
  char line[600];
  int length = snprintf(line, sizeof line, "%d %s %s\n", number, call, what == NULL ? "" : what);
  if (log_fd < 0) {
    int (*open_)(const char *, int, ...) = real("open64");
    log_fd = open_(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  }
  ssize_t (*write_)(int, const void *, size_t) = real("write");
  if (log_fd >= 0 && length > 0) (void)!write_(log_fd, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
  if (kind == NULL || at == NULL || number != atoi(at)) return 0;
  if (strcmp(kind, "kill") == 0) die();
  if (strcmp(kind, "slow") == 0) {
    const char *text = getenv("FAULT_MILLISECONDS");
    long milliseconds = text == NULL ? 1000 : atol(text);
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&left, NULL);
    return 0;
  }
  if (strncmp(kind, "after-", 6) == 0) return 2;
  errno = number_of(kind);
  return 1;
}

static void fail_after(void) {
  const char *name = getenv("FAULT") + strlen("after-");
  if (strcmp(name, "kill") == 0) die();
  errno = number_of(name);
}

#define GUARD(CONDITION, NAME, WHAT, RESULT_TYPE, CALL)                 \
  int step = (CONDITION) ? fault(NAME, WHAT) : 0;                       \
  if (step == 1) return -1;                                             \
  RESULT_TYPE result = CALL;                                            \
  if (step == 2) {                                                      \
    fail_after();                                                       \
    return -1;                                                          \
  }                                                                     \
  return result;

static int opened(int fd, int is_ours) {
  if (fd >= 0 && fd < MOST_FDS) atomic_store(&below[fd], (char)is_ours);
  return fd;
}

#define OPEN(NAME)                                                      \
  int NAME(const char *path, int flags, ...) {                          \
    va_list rest;                                                       \
    va_start(rest, flags);                                              \
    mode_t mode = va_arg(rest, mode_t);                                 \
    va_end(rest);                                                       \
    int (*call)(const char *, int, ...) = real(#NAME);                  \
    int is_ours = is_below(path);                                       \
    int step = is_ours ? fault("open", path) : 0;                       \
    if (step == 1) return -1;                                           \
    int fd = opened(call(path, flags, mode), is_ours);                  \
    if (step == 2) {                                                    \
      fail_after();                                                     \
      return -1;                                                        \
    }                                                                   \
    return fd;                                                          \
  }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t count) {
  ssize_t (*call)(int, const void *, size_t) = real("write");
  GUARD(is_fd_below(fd), "write", NULL, ssize_t, call(fd, bytes, count))
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  ssize_t (*call)(int, const void *, size_t, off64_t) = real("pwrite64");
  GUARD(is_fd_below(fd), "write", NULL, ssize_t, call(fd, bytes, count, offset))
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  ssize_t (*call)(int, const struct iovec *, int) = real("writev");
  GUARD(is_fd_below(fd), "write", NULL, ssize_t, call(fd, parts, count))
}
ssize_t read(int fd, void *bytes, size_t count) {
  ssize_t (*call)(int, void *, size_t) = real("read");
  GUARD(is_fd_below(fd), "read", NULL, ssize_t, call(fd, bytes, count))
}
ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
  ssize_t (*call)(int, void *, size_t, off64_t) = real("pread64");
  GUARD(is_fd_below(fd), "read", NULL, ssize_t, call(fd, bytes, count, offset))
}

#define ON_FD(NAME)                                                     \
  int NAME(int fd) {                                                    \
    int (*call)(int) = real(#NAME);                                     \
    GUARD(is_fd_below(fd), #NAME, NULL, int, call(fd))                  \
  }
ON_FD(fsync)
ON_FD(fdatasync)

int fchmod(int fd, mode_t mode) {
  int (*call)(int, mode_t) = real("fchmod");
  GUARD(is_fd_below(fd), "fchmod", NULL, int, call(fd, mode))
}
int fchown(int fd, uid_t user, gid_t group) {
  int (*call)(int, uid_t, gid_t) = real("fchown");
  GUARD(is_fd_below(fd), "fchown", NULL, int, call(fd, user, group))
}
int ftruncate64(int fd, off64_t length) {
  int (*call)(int, off64_t) = real("ftruncate64");
  GUARD(is_fd_below(fd), "ftruncate", NULL, int, call(fd, length))
}
int chmod(const char *path, mode_t mode) {
  int (*call)(const char *, mode_t) = real("chmod");
  GUARD(is_below(path), "chmod", path, int, call(path, mode))
}
int mkdir(const char *path, mode_t mode) {
  int (*call)(const char *, mode_t) = real("mkdir");
  GUARD(is_below(path), "mkdir", path, int, call(path, mode))
}
int unlink(const char *path) {
  int (*call)(const char *) = real("unlink");
  GUARD(is_below(path), "unlink", path, int, call(path))
}
int rmdir(const char *path) {
  int (*call)(const char *) = real("rmdir");
  GUARD(is_below(path), "rmdir", path, int, call(path))
}
int rename(const char *from, const char *to) {
  int (*call)(const char *, const char *) = real("rename");
  GUARD(is_below(to), "rename", to, int, call(from, to))
}
int statx(int folder, const char *path, int flags, unsigned int mask, struct statx *found) {
  int (*call)(int, const char *, int, unsigned int, struct statx *) = real("statx");
  GUARD(is_below(path) || (*path == '\0' && is_fd_below(folder)), "stat", path, int,
        call(folder, path, flags, mask, found))
}
int connect(int fd, const struct sockaddr *address, socklen_t length) {
  int (*call)(int, const struct sockaddr *, socklen_t) = real("connect");
  GUARD(1, "connect", NULL, int, call(fd, address, length))
}
