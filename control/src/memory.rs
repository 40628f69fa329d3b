//! The memory the appliance gives out, and the pages it is made of.

use std::fmt;
use std::io;

use tracing::{info, warn};
use xtcp_ring::{PageSize, SharedMemory};

use crate::clock;
use crate::config::Hugepages;
use crate::reserve::{HugePages, Reserve};

/// Making this much is announced before it is done: the kernel zeroes it, up to some seconds per GiB.
const ANNOUNCED: u64 = 512 << 20;

/// Makes memory, of huge pages where that is wanted and possible.
#[derive(Debug)]
pub struct Pages {
    policy: Hugepages,
    reserve: Reserve,
    warned: bool,
}

/// Memory that could not be had.
#[derive(Debug)]
pub struct NoMemory {
    what: String,
    bytes: u64,
    /// It was to be of huge pages: how many, what there was of them then, and how to have more.
    huge: Option<(String, String)>,
    error: io::Error,
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, bytes, huge, error } = self;
        match huge {
            Some((shortage, remedy)) => write!(
                f,
                "no huge pages for {what} ({error}): {shortage}; reserve them with {remedy}, or set \
                 hugepages = \"auto\" in [memory]"
            ),
            None => {
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
        Self { policy, reserve: Reserve::of_this_machine(), warned: false }
    }

    /// What the dataplane's EAL, which needs so many `megabytes`, is to be asked for of huge pages;
    /// `None`: it gets ordinary ones.
    ///
    /// # Errors
    /// They are required and there are too few. EAL would say so, too, but not what to do.
    pub fn for_eal(&mut self, megabytes: u64) -> Result<Option<u64>, NoMemory> {
        if self.policy == Hugepages::Never {
            return Ok(None);
        }
        let asked = self.reserve.free().take_as_eal(megabytes);
        let bytes = megabytes << 20;
        match self.policy {
            Hugepages::Require if asked.is_none() => {
                Err(self.no_huge_pages("the frames", bytes, io::ErrorKind::OutOfMemory.into()))
            }
            _ => {
                if asked.is_none() {
                    self.warn("the frames", bytes);
                }
                Ok(asked)
            }
        }
    }

    /// The page memory is rounded to, so that every worker's part begins on one: those of 2 MiB,
    /// wherever huge pages may be used. What a page of 1 GiB has beyond that is nobody's, and counts
    /// as nobody's: an application gets what was planned for it, whatever its pages.
    #[must_use]
    pub fn granule(&self) -> u64 {
        match self.policy {
            Hugepages::Never => PageSize::Ordinary.bytes() as u64,
            Hugepages::Auto | Hugepages::Require => PageSize::Huge2M.bytes() as u64,
        }
    }

    /// Makes memory of at least `bytes`; `what` names it, in sentences and in `/proc`.
    ///
    /// Of two makers at once that want the same free pages the kernel gives them to one, and the other
    /// goes on as if they had not been there: nothing is decided by counting.
    ///
    /// # Errors
    /// There is none, or not of the pages that are required.
    pub fn create(&mut self, what: &str, bytes: u64) -> Result<SharedMemory, NoMemory> {
        let started = clock::now();
        if bytes >= ANNOUNCED {
            info!("{what}: taking and zeroing {} MiB", bytes >> 20);
        }
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        let make = |page: PageSize| {
            let memory = SharedMemory::create(&format!("xtcp-{what}"), len, page)?;
            let (used, pages) = (memory.len() >> 20, memory.file_len() / page.bytes());
            let size = match page {
                PageSize::Ordinary => "4 KiB",
                PageSize::Huge2M => "2 MiB",
                PageSize::Huge1G => "1 GiB",
            };
            let seconds = (clock::now() - started).as_secs_f64();
            info!("{what}: {used} MiB in {pages} pages of {size}, made in {seconds:.1} s");
            Ok(memory)
        };
        if self.policy != Hugepages::Never {
            let [first, second] = PageSize::huge_for(bytes);
            // What was tried first was wanted most, so it is told why that is not there.
            let made = make(first).or_else(|error| make(second).map_err(|_| error));
            match made {
                Ok(memory) => return Ok(memory),
                Err(error) if self.policy == Hugepages::Require => {
                    return Err(self.no_huge_pages(what, bytes, error));
                }
                Err(_) => self.warn(what, bytes),
            }
        }
        make(PageSize::Ordinary).map_err(|error| NoMemory {
            what: what.to_owned(),
            bytes,
            huge: None,
            error,
        })
    }

    fn no_huge_pages(&self, what: &str, bytes: u64, error: io::Error) -> NoMemory {
        NoMemory { what: what.to_owned(), bytes, huge: Some(self.shortage(bytes)), error }
    }

    /// What huge pages `bytes` need and what there is, and how to have more.
    fn shortage(&self, bytes: u64) -> (String, String) {
        let ways = HugePages::either(bytes);
        let [small, large] = ways;
        let HugePages { of_1g, of_2m } = self.reserve.free();
        let shortage = format!("{small} or {large} are needed, {of_2m} and {of_1g} are free");
        (shortage, self.reserve.remedy(&ways))
    }

    /// Once, and plainly: everything works, it is only slower.
    fn warn(&mut self, what: &str, bytes: u64) {
        let (shortage, remedy) = self.shortage(bytes);
        if self.warned {
            info!("{what}: no huge pages ({shortage})");
            return;
        }
        self.warned = true;
        warn!(
            "{what}: no huge pages ({shortage}): running on ordinary pages, which is slower with \
             very many connections (reserve huge ones with {remedy}; hugepages = \"never\" in \
             [memory] silences this)"
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
        huge: None,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reserve::tests::Told;

    /// More than any machine has in huge pages, and nothing at all in untouched ordinary ones.
    const TOO_MUCH: u64 = 1 << 44;

    fn pages(policy: Hugepages, told: &Told) -> Pages {
        Pages { reserve: told.reserve(), ..Pages::new(policy) }
    }

    #[test]
    fn required_huge_pages_that_are_not_there() {
        let told = Told::new("required", HugePages { of_1g: 2, of_2m: 30 }, 1);
        let mut pages = pages(Hugepages::Require, &told);
        let refused = pages.create("tables", TOO_MUCH).expect_err("16 TiB").to_string();
        assert!(refused.starts_with("no huge pages for tables ("), "{refused}");
        for words in [
            "8388608 of 2 MiB or 16384 of 1 GiB are needed, 30 and 2 are free",
            "`echo 8388610 > ",
            "`hugepagesz=1G hugepages=16386` on the kernel's command line",
            "hugepages = \"auto\"",
        ] {
            assert!(refused.contains(words), "{refused}");
        }
        let refused = pages.for_eal(TOO_MUCH >> 20).expect_err("16 TiB").to_string();
        assert!(refused.starts_with("no huge pages for the frames ("), "{refused}");
        assert_eq!(pages.for_eal(149).expect("the kernel says that it has them"), Some(1024));
    }

    /// The kernel decides, not a count: these were free when somebody looked.
    #[test]
    fn without_huge_pages_ordinary_ones_do() {
        let told = Told::new("without", HugePages { of_1g: 20_000, of_2m: 0 }, 0);
        let mut pages = pages(Hugepages::Auto, &told);
        let asked = pages.for_eal(TOO_MUCH >> 20).expect("pages of 1 GiB");
        assert_eq!(asked, Some(TOO_MUCH >> 20));
        assert!(!pages.warned);
        let memory = pages.create("tables", TOO_MUCH).expect("untouched memory costs nothing");
        assert_eq!((memory.len() as u64, memory.file_len() as u64), (TOO_MUCH, TOO_MUCH));
        assert!(pages.warned);
        assert_eq!(pages.for_eal(TOO_MUCH >> 19).expect("ordinary pages"), None);
        assert_eq!(pages.granule(), 2 << 20);
    }

    #[test]
    fn huge_pages_that_are_not_wanted() {
        let told = Told::new("unwanted", HugePages { of_1g: 1, of_2m: 1000 }, 0);
        let mut pages = pages(Hugepages::Never, &told);
        assert_eq!(pages.for_eal(1).expect("ordinary pages"), None);
        assert_eq!(pages.create("tables", 1).expect("a page").file_len(), 4096);
        assert!(!pages.warned);
        assert_eq!(pages.granule(), 4096);
    }

    /// Whatever this machine has free, the memory has the length that was asked for.
    #[test]
    fn pages_change_no_length() {
        for bytes in [5000, PageSize::Huge1G.bytes() / 2 + 1] {
            let memory = Pages::new(Hugepages::Auto).create("test", bytes as u64).expect("memory");
            let is_whole =
                |page: &PageSize| memory.file_len() == bytes.next_multiple_of(page.bytes());
            let sizes = [PageSize::Huge1G, PageSize::Huge2M, PageSize::Ordinary];
            let page = sizes.into_iter().find(is_whole).expect("a whole number of pages");
            println!("{bytes} bytes are made of pages of {} bytes here", page.bytes());
            assert_eq!(memory.len(), bytes.next_multiple_of(4096));
        }
    }

    #[test]
    fn an_endpoint_is_never_of_huge_pages() {
        let memory = endpoint(5000).expect("two pages");
        assert_eq!((memory.len(), memory.file_len()), (8192, 8192));
    }
}
