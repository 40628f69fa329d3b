//! Memory for tables and buffers: brought by `xtcpd`, or made here when there is none.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;

use xtcp_ring::{ExclusiveMapping, PageSize, SharedMemory};

use crate::error::EngineError;
use crate::say::{note, warn};

/// Making this much is announced before it is done: the kernel zeroes it, up to some seconds per GiB.
const ANNOUNCED: u64 = 512 << 20;

/// Where our own memory comes from.
#[derive(Debug)]
pub(crate) struct Maker {
    hugepages: Cell<bool>,
}

impl Maker {
    /// Takes hugepages while there are any, unless told not to.
    pub(crate) const fn new(hugepages: bool) -> Self {
        Self { hugepages: Cell::new(hugepages) }
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
        if bytes >= ANNOUNCED {
            note(&format!("taking and zeroing {} MiB for {what}", bytes >> 20));
        }
        let memory = match self.make_huge(what, len) {
            Some(memory) => memory,
            None => SharedMemory::create(what, len, PageSize::Ordinary).map_err(failed)?,
        };
        ExclusiveMapping::map(&memory).map_err(failed)
    }

    /// The same of hugepages, if there are any to be had and wanted.
    fn make_huge(&self, what: &str, len: usize) -> Option<SharedMemory> {
        if !self.hugepages.get() {
            return None;
        }
        let [first, second] = PageSize::huge_for(len as u64);
        let made = SharedMemory::create(what, len, first)
            .or_else(|error| SharedMemory::create(what, len, second).map_err(|_| error));
        if let Err(error) = &made {
            self.hugepages.set(false);
            warn(&format!(
                "no {} MiB of hugepages for {what} ({error}): using ordinary pages, which are slower; \
                 reserve some with `sysctl vm.nr_hugepages=N` (2 MiB each), or at boot with \
                 `hugepagesz=1G hugepages=N`",
                len.div_ceil(1 << 20)
            ));
        }
        made.ok()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever this machine has free.
    #[test]
    fn pages_change_no_length() {
        for hugepages in [true, false] {
            let maker = Maker::new(hugepages);
            let bytes = maker.make("a test", 5000).unwrap().into_static_bytes();
            assert_eq!(bytes.len(), 8192);
            assert!(bytes.iter().all(|byte| *byte == 0));
            assert!(maker.hugepages.get() <= hugepages, "nobody wanted any");
        }
    }

    #[test]
    fn where_hugepages_do_not_suffice_ordinary_ones_do() {
        let maker = Maker::new(true);
        assert!(maker.make_huge("16 TiB", 1 << 44).is_none());
        assert!(!maker.hugepages.get(), "one warning, and no more tries");
        assert!(maker.make_huge("a test", 1).is_none());
        assert_eq!(maker.make("a test", 1).unwrap().into_static_bytes().len(), 4096);
    }
}
