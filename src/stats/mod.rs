//! What is counted and timed: a worker process's shared area of counters with its latency histogram, the totals of a
//! pool, and the forms in which distributions are told.
//!
//! Neighbours: `sys` maps the memory, `worker` counts, `master` adds up; `load` writes its own distributions with it.
