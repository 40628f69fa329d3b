//! What goes wrong with ports, and what to do about it.

use std::fmt;

use super::OVERHEAD;
use crate::errno::Errno;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Open,
    Info,
    Queues { rx: u16, tx: u16 },
    DataRoom { mtu: u16, data_room: u16 },
    Configure { rx_queues: u16, tx_queues: u16 },
    Descriptors,
    RxQueue(u16),
    TxQueue(u16),
    Mtu(u16),
    Redirection,
    Start,
    Stop,
    Link,
    Stats,
    Promiscuous,
    AllMulticast,
}

/// What went wrong with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError {
    pub(super) port: u16,
    pub(super) name: String,
    pub(super) action: Action,
    pub(super) errno: Errno,
}

impl PortError {
    /// The reason the driver gave.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, name, action, errno } = self;
        write!(f, "port {port} ({name}): ")?;
        match action {
            Action::Open => write!(
                f,
                "cannot be opened ({errno}); name its device with --vdev or -a, and open it once"
            ),
            Action::Info => write!(f, "the driver does not say what it is ({errno})"),
            Action::Queues { rx, tx } => write!(
                f,
                "the device has 1 to {rx} receive queues and 1 to {tx} transmit queues; configure \
                 as many"
            ),
            Action::DataRoom { mtu, data_room } => write!(
                f,
                "an MTU of {mtu} bytes needs pools with a data room of at least {}, and one has \
                 {data_room}",
                u32::from(*mtu) + OVERHEAD
            ),
            Action::Configure { rx_queues, tx_queues } => write!(
                f,
                "the device cannot be configured with {rx_queues} receive and {tx_queues} transmit \
                 queues ({errno})"
            ),
            Action::Descriptors => write!(f, "the numbers of descriptors do not fit ({errno})"),
            Action::RxQueue(queue) => write!(
                f,
                "receive queue {queue} cannot be set up ({errno}); check that its pool has more \
                 frames than the queue has descriptors"
            ),
            Action::TxQueue(queue) => {
                write!(f, "transmit queue {queue} cannot be set up ({errno})")
            }
            Action::Mtu(mtu) => write!(
                f,
                "the device does not take an MTU of {mtu} ({errno}); configure a smaller one"
            ),
            Action::Redirection => {
                write!(f, "the device's RSS cannot be told its queues ({errno})")
            }
            Action::Start => write!(f, "the device does not start ({errno})"),
            Action::Stop => write!(f, "the device does not stop ({errno})"),
            Action::Link => write!(f, "the device does not say whether its link is up ({errno})"),
            Action::Stats => write!(f, "the device's counters cannot be had ({errno})"),
            Action::Promiscuous => write!(f, "promiscuous mode cannot be set ({errno})"),
            Action::AllMulticast => write!(f, "multicast reception cannot be set ({errno})"),
        }
    }
}

impl std::error::Error for PortError {}

/// Whether a driver just has no such call.
pub(super) fn is_unsupported(errno: Errno) -> bool {
    errno.code() == rustix::io::Errno::NOTSUP.raw_os_error()
        || errno.code() == rustix::io::Errno::NOSYS.raw_os_error()
}
