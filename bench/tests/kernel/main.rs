//! The appliance against the Linux kernel. Needs root and a release build (`make test` makes it); what
//! is missing is said, and fails.
//!
//! One test at a time has the machine: on two cores a polling worker and its clients need both.

mod demo;
mod devices;
mod examples;
mod flood;
mod flows;
mod hostile;
mod impairment;
mod killing;
mod loss;
mod measurements;
mod model;
mod offloads;
mod programs;
mod relay;
mod rig;
mod stalls;
mod workers;
