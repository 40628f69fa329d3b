//! The application library: pools, groups, accept, receive, send with acknowledgement, select.
