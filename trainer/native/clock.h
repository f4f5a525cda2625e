/* Where the time of steps goes: a clock that is always in exactly one part. */
#include <time.h>

/* `times` are those of the parts in nanoseconds, behind two numbers: the last turn of the clock, and the part that it
   is in since then. */
static void turn_to(whole *times, whole part) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    whole now = time.tv_sec * 1000000000LL + time.tv_nsec;
    times[times[1]] += now - times[0];
    times[0] = now;
    times[1] = part;
}
