//! Memory for tables and buffers: brought by `xtcpd`, or made here when there is none.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;

use xtcp_ring::{ExclusiveMapping, PageSize, SharedMemory};

use crate::error::EngineError;
use crate::say::warn;

/// How often making a memory may be interrupted before we do without hugepages.
const INTERRUPTIONS_MAX: usize = 100;

/// Where our own memory comes from.
#[derive(Debug)]
pub(crate) struct Maker {
    page: Cell<PageSize>,
}

impl Maker {
    /// Takes hugepages while there are any, unless told not to.
    pub(crate) const fn new(hugepages: bool) -> Self {
        let page = if hugepages { PageSize::Huge2M } else { PageSize::Ordinary };
        Self { page: Cell::new(page) }
    }

    /// Zeroed memory of at least `bytes`.
    pub(crate) fn make(
        &self,
        what: &'static str,
        bytes: u64,
    ) -> Result<ExclusiveMapping, EngineError> {
        let failed = |error| EngineError::Memory { what, bytes, error };
        let too_large = || failed(io::Error::from(io::ErrorKind::OutOfMemory));
        let len = usize::try_from(bytes).map_err(|_| too_large())?;
        let memory = match create(what, len, self.page.get()) {
            Err(error) if self.page.get() == PageSize::Huge2M => {
                self.page.set(PageSize::Ordinary);
                warn(&format!(
                    "no {} MiB of hugepages for {what} ({error}): using ordinary pages, which are \
                     slower; reserve some with `sysctl vm.nr_hugepages=N` (2 MiB each)",
                    bytes.div_ceil(1 << 20)
                ));
                create(what, len, PageSize::Ordinary)
            }
            made => made,
        };
        ExclusiveMapping::map(&memory.map_err(failed)?).map_err(failed)
    }
}

/// A signal can interrupt the making, and net_tap has the kernel send one for every burst.
fn create(what: &str, len: usize, page: PageSize) -> io::Result<SharedMemory> {
    let mut made = SharedMemory::create(what, len, page);
    for _ in 0..INTERRUPTIONS_MAX {
        match made {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                made = SharedMemory::create(what, len, page);
            }
            made => return made,
        }
    }
    made
}

/// Maps memory another process made, for us alone to write.
pub(crate) fn take_over(
    what: &'static str,
    file: OwnedFd,
    bytes: u64,
) -> Result<ExclusiveMapping, EngineError> {
    let failed = |error| EngineError::Memory { what, bytes, error };
    let len = usize::try_from(bytes).map_err(|error| failed(io::Error::other(error)))?;
    let memory = SharedMemory::from_fd(file, len).map_err(failed)?;
    ExclusiveMapping::map(&memory).map_err(failed)
}
