//! The contract between the dataplane, the control plane and applications: memory, rings, messages.
