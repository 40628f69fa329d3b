//! Huge pages of 2 MiB, asked of the kernel for as long as they are needed and then given back.

use super::{MachineError, read_file, write_file};

/// Bytes of a page that `/proc/sys/vm/nr_hugepages` counts, where this project uses it (x86-64).
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/";

/// Pages added to the kernel's pool; taken out again on drop.
#[derive(Debug)]
pub struct HugePages {
    added: u64,
}

impl HugePages {
    /// Sees to it that `wanted` pages are free, as far as the kernel has them: ask [`Self::free`]
    /// afterwards how many there are.
    ///
    /// # Errors
    /// When the kernel has no pool of huge pages, or does not let us change it.
    pub fn reserve(wanted: u64) -> Result<Self, MachineError> {
        let free = Self::free()?;
        let before = Self::total()?;
        let mut pages = Self { added: 0 };
        if free < wanted {
            write_file(&path("nr_hugepages"), &(before + wanted - free).to_string())?;
            pages.added = Self::total()?.saturating_sub(before);
        }
        Ok(pages)
    }

    /// How many pages were added to the pool.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Pages nobody uses.
    ///
    /// # Errors
    /// When the kernel has no pool of huge pages.
    pub fn free() -> Result<u64, MachineError> {
        number("free_hugepages")
    }

    /// All pages of the pool.
    ///
    /// # Errors
    /// When the kernel has no pool of huge pages.
    pub fn total() -> Result<u64, MachineError> {
        number("nr_hugepages")
    }

    /// Gives pages back that a killed process had added.
    pub fn sweep(added: u64) {
        drop(Self { added });
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if self.added == 0 {
            return;
        }
        let given_back = Self::total().and_then(|total| {
            write_file(&path("nr_hugepages"), &total.saturating_sub(self.added).to_string())
        });
        if let Err(error) = given_back {
            eprintln!("{} huge pages were not given back: {error}", self.added);
        }
    }
}

fn path(file: &str) -> String {
    format!("{POOL}{file}")
}

fn number(file: &str) -> Result<u64, MachineError> {
    let path = path(file);
    let text = read_file(&path)?;
    text.trim().parse().map_err(|error| MachineError::File {
        path,
        error: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })
}
