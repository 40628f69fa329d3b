//! Raw bindings to the part of DPDK 22.11 the appliance uses.
