"""Sweeps: suites of runs, planned without computing anything, submitted to this machine or to SLURM, and watched.

`suite` reads what is to be run, `plan` finds out what that means (ids, what is done, what can't work, what is missing),
`resources` says what jobs ask for, `jobs` keeps which job does which run, `work` is what a job does, `local` and `slurm`
start jobs, `status` says how they are. A run is done when it has a record, and nothing else counts: the command that
started a sweep is also the one that continues it.
"""
