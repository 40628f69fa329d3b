//! Owners in safe Rust for DPDK's objects: Eal, Port, RxQueue, TxQueue, Pool, Burst, Mbuf.
