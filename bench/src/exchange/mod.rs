//! Two servers that do the same: take a request of a fixed size, and send it back after a while. One is
//! an application of XTCP, the other an ordinary server on the kernel's own TCP. And an application that
//! sends back whatever comes.

mod echo;
mod kernel;
mod xtcp;

use std::time::Duration;

pub use self::echo::serve as echo_by_xtcp;
pub use self::kernel::serve as serve_from_the_kernel;
pub use self::xtcp::{Place, serve as serve_by_xtcp};

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Bytes of a request, and of its answer; 1 up.
    pub bytes: usize,
    /// How long the server thinks before it answers.
    pub after: Duration,
}
