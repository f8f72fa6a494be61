// What processes take, as Linux tells in /proc.
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

struct usage {
    double cpu; // seconds
    double rss; // KiB
};

// Return the number behind `skip` others in a file.
static inline double read_number(const char *path, int skip) {
    FILE *file = fopen(path, "r");
    double number = 0;
    if (!file)
        return 0;
    for (int i = 0; i <= skip; i++)
        if (fscanf(file, "%lf", &number) != 1)
            number = 0;
    fclose(file);
    return number;
}

// The sum over the processes in `pids`.
static inline struct usage server_usage(const int *pids, int count) {
    struct usage usage = {0};
    char path[320];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/proc/%d/statm", pids[i]);
        usage.rss += read_number(path, 1) * (double)sysconf(_SC_PAGESIZE) / 1024;
        snprintf(path, sizeof path, "/proc/%d/task", pids[i]);
        DIR *tasks = opendir(path);
        for (struct dirent *task; tasks && (task = readdir(tasks));) {
            if (task->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pids[i], task->d_name);
            usage.cpu += read_number(path, 0) / 1e9;
        }
        if (tasks)
            closedir(tasks);
    }
    return usage;
}
