//! The sizes of pages, and which of them a memory is best made of.

use rustix::fs::MemfdFlags;

use crate::memory::PAGE;

/// The pages a memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB pages, given when touched.
    Ordinary,
    /// 2 MiB pages from the kernel's reserve, taken when the memory is made.
    Huge2M,
    /// 1 GiB pages from the kernel's reserve, taken when the memory is made.
    Huge1G,
}

impl PageSize {
    /// Size of one page in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Ordinary => PAGE,
            Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }

    /// Huge pages to try for a memory of `len` bytes, the best first.
    ///
    /// Those of 1 GiB come first where at least half of each taken is used, which is where the memory
    /// has 512 MiB. A smaller one takes 2 MiB pages, and one of 1 GiB only where there are none: an
    /// operator who has reserved no others wants them used.
    #[must_use]
    pub const fn huge_for(len: u64) -> [Self; 2] {
        if len >= Self::Huge1G.bytes() as u64 / 2 {
            [Self::Huge1G, Self::Huge2M]
        } else {
            [Self::Huge2M, Self::Huge1G]
        }
    }

    pub(crate) const fn memfd_flags(self) -> MemfdFlags {
        match self {
            Self::Ordinary => MemfdFlags::empty(),
            Self::Huge2M => MemfdFlags::HUGETLB.union(MemfdFlags::HUGE_2MB),
            Self::Huge1G => MemfdFlags::HUGETLB.union(MemfdFlags::HUGE_1GB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pages_come_first_where_half_of_them_is_used() {
        let gib = PageSize::Huge1G.bytes() as u64;
        for len in [1, 1 << 21, gib / 2 - 1] {
            assert_eq!(PageSize::huge_for(len), [PageSize::Huge2M, PageSize::Huge1G], "{len}");
        }
        for len in [gib / 2, gib, gib + 1, u64::MAX] {
            assert_eq!(PageSize::huge_for(len), [PageSize::Huge1G, PageSize::Huge2M], "{len}");
        }
    }
}
