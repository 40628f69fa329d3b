//! The memory the appliance gives out, and the pages it is made of.

use std::fmt;
use std::fs;
use std::io;

use tracing::{info, warn};
use xtcp_ring::{PageSize, SharedMemory};

use crate::config::Hugepages;

const HUGE: u64 = PageSize::Huge2M.bytes() as u64;

/// Makes memory, of huge pages where that is wanted and possible.
#[derive(Debug)]
pub struct Pages {
    policy: Hugepages,
    warned: bool,
}

/// Memory that could not be had.
#[derive(Debug)]
pub struct NoMemory {
    what: String,
    bytes: u64,
    page: PageSize,
    error: io::Error,
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, bytes, page, error } = self;
        match page {
            PageSize::Huge2M => write!(
                f,
                "no huge pages for {what} ({error}): {} of 2 MiB are needed and {} are free; \
                 reserve them with `sysctl -w vm.nr_hugepages=N`, or set hugepages = \"auto\" in \
                 [memory]",
                bytes.div_ceil(HUGE),
                free_hugepages()
            ),
            PageSize::Ordinary => {
                write!(f, "no memory for {what}: {error} ({bytes} bytes); give less in [memory]")
            }
        }
    }
}

impl std::error::Error for NoMemory {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Pages {
    /// Memory by this policy.
    #[must_use]
    pub fn new(policy: Hugepages) -> Self {
        Self { policy, warned: false }
    }

    /// Whether the dataplane's EAL is to take its `megabytes` from huge pages.
    ///
    /// # Errors
    /// They are required and there are too few. EAL would say so, too, but not what to do.
    pub fn eal_takes_huge(&mut self, megabytes: u64) -> Result<bool, NoMemory> {
        let bytes = megabytes << 20;
        let needed = bytes.div_ceil(HUGE);
        let enough = free_hugepages() >= needed;
        match self.policy {
            Hugepages::Never => Ok(false),
            Hugepages::Require if !enough => Err(NoMemory {
                what: "the frames".into(),
                bytes,
                page: PageSize::Huge2M,
                error: io::ErrorKind::OutOfMemory.into(),
            }),
            Hugepages::Auto if !enough => {
                self.warn("the frames", needed);
                Ok(false)
            }
            Hugepages::Require | Hugepages::Auto => Ok(true),
        }
    }

    /// The page memory is rounded to: what huge pages would need, wherever they may be used.
    #[must_use]
    pub fn granule(&self) -> u64 {
        match self.policy {
            Hugepages::Never => PageSize::Ordinary.bytes() as u64,
            Hugepages::Auto | Hugepages::Require => HUGE,
        }
    }

    /// Makes memory of at least `bytes`; `what` names it, in sentences and in `/proc`.
    ///
    /// # Errors
    /// There is none, or not of the pages that are required.
    pub fn create(&mut self, what: &str, bytes: u64) -> Result<SharedMemory, NoMemory> {
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        let make = |page| {
            SharedMemory::create(&format!("xtcp-{what}"), len, page).map_err(|error| NoMemory {
                what: what.to_owned(),
                bytes,
                page,
                error,
            })
        };
        match self.policy {
            Hugepages::Never => make(PageSize::Ordinary),
            Hugepages::Require => make(PageSize::Huge2M),
            Hugepages::Auto => make(PageSize::Huge2M).or_else(|_| {
                self.warn(what, bytes.div_ceil(HUGE));
                make(PageSize::Ordinary)
            }),
        }
    }

    /// Once, and plainly: everything works, it is only slower.
    fn warn(&mut self, what: &str, needed: u64) {
        let free = free_hugepages();
        if self.warned {
            info!("{what}: ordinary pages ({needed} huge pages wanted, {free} free)");
            return;
        }
        self.warned = true;
        warn!(
            "{what} would need {needed} huge pages of 2 MiB and {free} are free: running on \
             ordinary pages, which is slower with very many connections (`sysctl -w \
             vm.nr_hugepages=N` reserves huge ones; hugepages = \"never\" in [memory] silences this)"
        );
    }
}

/// Memory of one endpoint. Never of huge pages: the application could punch a hole into it, and
/// with no huge page left to fill that, whoever touches it next is killed by SIGBUS.
///
/// # Errors
/// There is no memory.
pub fn endpoint(bytes: usize) -> Result<SharedMemory, NoMemory> {
    SharedMemory::create("xtcp-endpoint", bytes, PageSize::Ordinary).map_err(|error| NoMemory {
        what: "an endpoint".into(),
        bytes: bytes as u64,
        page: PageSize::Ordinary,
        error,
    })
}

/// Huge pages of 2 MiB nobody has taken or reserved.
#[must_use]
pub fn free_hugepages() -> u64 {
    let count = |file: &str| {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{file}");
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    count("free_hugepages").saturating_sub(count("resv_hugepages"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than any machine has in huge pages, and nothing at all in untouched ordinary ones.
    const TOO_MUCH: u64 = 1 << 44;

    #[test]
    fn required_huge_pages_that_are_not_there() {
        let mut pages = Pages::new(Hugepages::Require);
        let refused = pages.create("tables", TOO_MUCH).expect_err("16 TiB").to_string();
        assert!(refused.starts_with("no huge pages for tables"), "{refused}");
        assert!(refused.contains("8388608 of 2 MiB are needed"), "{refused}");
        assert!(refused.contains("sysctl -w vm.nr_hugepages"), "{refused}");
        let refused = pages.eal_takes_huge(TOO_MUCH >> 20).expect_err("16 TiB").to_string();
        assert!(refused.starts_with("no huge pages for the frames"), "{refused}");
    }

    #[test]
    fn without_huge_pages_ordinary_ones_do() {
        let mut pages = Pages::new(Hugepages::Auto);
        assert!(!pages.warned);
        let memory = pages.create("tables", TOO_MUCH).expect("untouched memory costs nothing");
        assert_eq!(memory.len() as u64, TOO_MUCH);
        assert!(pages.warned);
        assert!(!pages.eal_takes_huge(TOO_MUCH >> 20).expect("ordinary pages"));
        assert_eq!(pages.granule(), 2 << 20);
    }

    #[test]
    fn huge_pages_that_are_not_wanted() {
        let mut pages = Pages::new(Hugepages::Never);
        assert!(!pages.eal_takes_huge(1).expect("ordinary pages"));
        assert_eq!(pages.create("tables", 1).expect("a page").len(), 4096);
        assert!(!pages.warned);
        assert_eq!(pages.granule(), 4096);
    }

    #[test]
    fn an_endpoint_is_never_of_huge_pages() {
        assert_eq!(endpoint(5000).expect("two pages").len(), 8192);
    }
}
