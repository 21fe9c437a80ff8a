/*
 * LD_PRELOAD library: kills a script and everything that it has started at one of its commands, from outside. Each program
 * that is started with it is a command; each adds a line to FAULT_LOG. At command number FAULT_AT, `kill` in FAULT ends all
 * processes of the PID namespace but the first before that command does anything, `after-kill` when it has ended.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* The process that is the command, not a child that it forks; 0: another command. */
static pid_t killed_after;

static void die(void) {
  kill(-1, SIGKILL);
  raise(SIGKILL);
  pause();
}

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAULT_LOG"), *kind = getenv("FAULT"), *at = getenv("FAULT_AT");
  if (path == NULL || kind == NULL || at == NULL) return;
  int log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) return;
  /* Commands of a pipe start at the same time. */
  flock(log, LOCK_EX);
  int number = 1;
  char bytes[4096];
  ssize_t length;
  while ((length = read(log, bytes, sizeof bytes)) > 0)
    for (ssize_t i = 0; i < length; i++) number += bytes[i] == '\n';
  dprintf(log, "%s\n", program_invocation_short_name);
  close(log);
  if (number != atoi(at)) return;
  if (strcmp(kind, "kill") == 0) die();
  if (strcmp(kind, "after-kill") == 0) killed_after = getpid();
}

__attribute__((destructor)) static void end(void) {
  if (killed_after == getpid()) die();
}

/* dash ends by this, and then no destructor runs. */
void _exit(int status) {
  end();
  void (*call)(int) = (void (*)(int))dlsym(RTLD_NEXT, "_exit");
  call(status);
  __builtin_unreachable();
}
