//! The huge pages the kernel has reserved: how many are free, for what they do, and how to have more.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use xtcp_ring::PageSize;

const GIB: u64 = PageSize::Huge1G.bytes() as u64;

/// So many huge pages of each size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Of 1 GiB.
    pub of_1g: u64,
    /// Of 2 MiB.
    pub of_2m: u64,
}

impl HugePages {
    /// Those of 2 MiB that `bytes` need, or those of 1 GiB.
    #[must_use]
    pub const fn either(bytes: u64) -> [Self; 2] {
        let (of_1g, of_2m) = (Self::of(PageSize::Huge1G, bytes), Self::of(PageSize::Huge2M, bytes));
        [Self { of_1g: 0, of_2m }, Self { of_1g, of_2m: 0 }]
    }

    /// How many of one size `bytes` need, the last one perhaps not to its end.
    const fn of(page: PageSize, bytes: u64) -> u64 {
        bytes.div_ceil(page.bytes() as u64)
    }

    /// Takes what a memory of `bytes` is made of; if there is not enough, nothing.
    pub fn take(&mut self, bytes: u64) -> bool {
        PageSize::huge_for(bytes).into_iter().any(|page| {
            let free = match page {
                PageSize::Huge1G => &mut self.of_1g,
                PageSize::Huge2M | PageSize::Ordinary => &mut self.of_2m,
            };
            let left = free.checked_sub(Self::of(page, bytes));
            *free = left.unwrap_or(*free);
            left.is_some()
        })
    }

    /// Takes what EAL is to have for `megabytes`, and gives what it is to be asked for by `-m`; if there
    /// is not enough, nothing.
    ///
    /// While a page of 1 GiB is free EAL's pools of frames lie in one, whatever else it was given
    /// (`RTE_MEMZONE_1GB`). So it is asked for whole ones if there are enough, and takes no others
    /// beside them; else it gets all there are and the rest of 2 MiB.
    pub fn take_as_eal(&mut self, megabytes: u64) -> Option<u64> {
        let bytes = megabytes << 20;
        let whole = Self::of(PageSize::Huge1G, bytes);
        if whole <= self.of_1g {
            self.of_1g -= whole;
            return Some(whole * (GIB >> 20));
        }
        let rest = Self::of(PageSize::Huge2M, bytes - self.of_1g * GIB);
        *self = Self { of_1g: 0, of_2m: self.of_2m.checked_sub(rest)? };
        Some(megabytes)
    }
}

/// `1 of 1 GiB and 150 of 2 MiB`.
impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { of_1g: 0, of_2m } => write!(f, "{of_2m} of 2 MiB"),
            Self { of_1g, of_2m: 0 } => write!(f, "{of_1g} of 1 GiB"),
            Self { of_1g, of_2m } => write!(f, "{of_1g} of 1 GiB and {of_2m} of 2 MiB"),
        }
    }
}

/// Where the kernel tells of its reserve, and takes orders for it.
#[derive(Clone, Debug)]
pub struct Reserve {
    directory: PathBuf,
}

impl Reserve {
    /// This machine's.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::at("/sys/kernel/mm/hugepages")
    }

    /// As a directory tells it that is laid out like `/sys/kernel/mm/hugepages`.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Pages nobody has taken or been promised.
    #[must_use]
    pub fn free(&self) -> HugePages {
        let free = |page| {
            self.count(page, "free_hugepages").saturating_sub(self.count(page, "resv_hugepages"))
        };
        HugePages { of_1g: free(PageSize::Huge1G), of_2m: free(PageSize::Huge2M) }
    }

    /// How to have one of these free. Pages of 1 GiB are asked for at boot, for later there may be
    /// no such piece of memory.
    #[must_use]
    pub fn remedy(&self, ways: &[HugePages]) -> String {
        let free = self.free();
        // The kernel is told how many there are to be, taken ones included.
        let total =
            |page, free, wanted| self.count(page, "nr_hugepages").saturating_sub(free) + wanted;
        let remedy = |way: &HugePages| {
            let of_2m = total(PageSize::Huge2M, free.of_2m, way.of_2m);
            if way.of_1g == 0 {
                let directory = self.directory.display();
                return format!("`echo {of_2m} > {directory}/hugepages-2048kB/nr_hugepages`");
            }
            let of_1g = total(PageSize::Huge1G, free.of_1g, way.of_1g);
            let beside = match way.of_2m {
                0 => String::new(),
                _ => format!(" hugepagesz=2M hugepages={of_2m}"),
            };
            format!("`hugepagesz=1G hugepages={of_1g}{beside}` on the kernel's command line")
        };
        ways.iter().map(remedy).collect::<Vec<_>>().join(", or ")
    }

    fn count(&self, page: PageSize, file: &str) -> u64 {
        let path = format!("hugepages-{}kB/{file}", page.bytes() >> 10);
        let text = fs::read_to_string(self.directory.join(path));
        // A kernel that knows no pages of this size has none.
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;

    /// A reserve of so many free pages beside `taken` that are in use and as many that are promised,
    /// as the kernel tells it; gone when dropped.
    #[derive(Debug)]
    pub(crate) struct Told(PathBuf);

    impl Told {
        pub(crate) fn new(test: &str, free: HugePages, taken: u64) -> Self {
            let name = format!("xtcp-reserve-{test}-{}", std::process::id());
            let told = Self(std::env::temp_dir().join(name));
            for (size, free) in [("1048576kB", free.of_1g), ("2048kB", free.of_2m)] {
                let directory = told.0.join(format!("hugepages-{size}"));
                fs::create_dir_all(&directory).expect("a directory");
                for (file, count) in [
                    ("nr_hugepages", free + 2 * taken),
                    ("free_hugepages", free + taken),
                    ("resv_hugepages", taken),
                ] {
                    fs::write(directory.join(file), format!("{count}\n")).expect("a count");
                }
            }
            told
        }

        pub(crate) fn reserve(&self) -> Reserve {
            Reserve::at(Path::new(&self.0))
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_promised_is_not_free_and_a_remedy_counts_it() {
        let free = HugePages { of_1g: 3, of_2m: 40 };
        let told = Told::new("promised", free, 5);
        assert_eq!(told.reserve().free(), free);
        let ways = [(0, 100), (1, 0), (1, 2)].map(|(of_1g, of_2m)| HugePages { of_1g, of_2m });
        assert_eq!(
            told.reserve().remedy(&ways),
            format!(
                "`echo 110 > {}/hugepages-2048kB/nr_hugepages`, or `hugepagesz=1G hugepages=11` on \
                 the kernel's command line, or `hugepagesz=1G hugepages=11 hugepagesz=2M \
                 hugepages=12` on the kernel's command line",
                told.0.display()
            )
        );
        assert_eq!(Reserve::at("/nowhere").free(), HugePages::default());
    }

    #[test]
    fn a_memory_is_of_one_size_of_pages() {
        for (free, bytes, left) in [
            ((2, 600), GIB, Some((1, 600))),
            ((2, 600), GIB / 2, Some((1, 600))),
            ((2, 600), GIB / 2 - 1, Some((2, 344))),
            ((2, 600), GIB + 1, Some((0, 600))),
            ((1, 600), GIB + 1, Some((1, 87))),
            ((1, 512), GIB + 1, None),
            ((1, 0), 1, Some((0, 0))),
            ((0, 1), 1, Some((0, 0))),
            ((0, 0), 1, None),
        ] {
            let mut pages = HugePages { of_1g: free.0, of_2m: free.1 };
            assert_eq!(pages.take(bytes), left.is_some(), "{bytes} of {free:?}");
            assert_eq!((pages.of_1g, pages.of_2m), left.unwrap_or(free), "{bytes} of {free:?}");
        }
    }

    #[test]
    fn eal_takes_whole_pages_of_a_gibibyte_and_else_all_there_are() {
        for (free, megabytes, asked) in [
            ((2, 600), 149, Some((1024, 1, 600))),
            ((1, 0), 149, Some((1024, 0, 0))),
            ((0, 75), 149, Some((149, 0, 0))),
            ((0, 74), 149, None),
            ((2, 600), 1025, Some((2048, 0, 600))),
            ((1, 600), 1025, Some((1025, 0, 599))),
            ((1, 0), 1025, None),
            ((1, 0), 1024, Some((1024, 0, 0))),
            ((1, 512), 2048, Some((2048, 0, 0))),
            ((1, 511), 2048, None),
        ] {
            let mut pages = HugePages { of_1g: free.0, of_2m: free.1 };
            let got = pages.take_as_eal(megabytes).map(|asked| (asked, pages.of_1g, pages.of_2m));
            assert_eq!(got, asked, "{megabytes} of {free:?}");
            if got.is_none() {
                assert_eq!((pages.of_1g, pages.of_2m), free, "a refusal takes nothing");
            }
        }
    }
}
