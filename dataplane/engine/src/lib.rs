//! Gives the stack its world: ports, queues, cores, clock, shared memory.
